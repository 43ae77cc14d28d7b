"""What the script of the search page needs to select images: where to ask for what, and all images of the search."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from ..access.requested_table import RequestedTable
from ..urls import replaced
from .results import Answer
from .search_request import SearchRequest

EVERYTHING = ("_matches_only", "0")
"""Says nothing, for a search without parameters: a URL without any names no images."""


@dataclass(frozen=True)
class Selection:
    """
    URLs without query strings; those of ZIPs are None if originals are not shown. `all` is the number of images that the
    search finds, and `all_query` the query string that finds exactly these; None if the search only puts images in an
    order. `most` is the number of rows on a page of data.
    """

    page_url: str
    albums_url: str
    originals_url: str | None
    previews_url: str | None
    path_column: str
    all: int | None
    all_query: str | None
    most: int


def selection(
    requested: RequestedTable,
    wanted: SearchRequest,
    answer: Answer,
    pairs: list[tuple[str, str]],
    *,
    originals: bool,
) -> Selection:
    """`pairs` are the query string without the page number."""
    urls, index = requested.urls, requested.index
    found, number = pairs, answer.count.number if answer.count.is_exact else None
    if wanted.query and wanted.order is None and wanted.limit is None:
        matches = answer.matches
        if matches is not None and matches.number and matches.is_exact:
            found, number = replaced(pairs, _matches_only=1), matches.number
        elif not wanted.is_limited:
            number = None
    elif wanted.limit is not None and number is not None:
        number = min(number, wanted.limit)
    return Selection(
        page_url=urls.page(),
        albums_url=urls.albums(),
        originals_url=urls.archive((), is_preview=False) if originals else None,
        previews_url=urls.archive((), is_preview=True) if originals else None,
        path_column=requested.table.path_column or index.path_column or requested.table.key,
        all=number,
        all_query=urlencode(found or [EVERYTHING]) if number else None,
        most=requested.datasette.setting("max_returned_rows"),
    )
