"""An image as a page shows it: its name, its time, and the URLs of its links."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from datasette.utils import tilde_encode

from ...decoding.formats import FILM_FORMATS, THUMBNAIL_SIZE
from ...search.hits import clock, is_relevant
from ...search.query import Kind, QueryError, Term, format_query, image_term, parse_query
from ...store import Key, reads
from ...store.text_search import TextMatch
from ..access.requested_table import RequestedTable
from ..among import LARGEST
from ..media.making import LARGE_THUMBNAIL_SIZE
from ..reading import read_bounded
from ..urls import Pairs, TableUrls
from .shown_images import ShownImage

LANDSCAPE = (4, 3)
"""Width and height for a row that has none."""

NARROWEST, WIDEST = 0.4, 4.0
"""Width over height of the place of a picture among others: one that is longer would have its row for itself."""

YOUR_PICTURE = "your picture"

LONGEST_LABEL = 40
"""Characters of a term; a vec: term has thousands."""


@dataclass(frozen=True)
class Card:
    """
    `key` is that of the row, as JSON that JavaScript can tell from others; `anchor` is where the image is on a page of a search, and `term` is it as a term of a query. `more_url` and `less_url` add it to the current query or
    subtract it, and keep the rest of the URL. `why` says which texts of it matched; `looks_like_it` is True if the
    picture is a match too. `ratio` is the width of its place over the height; its size is a guess unless it `has_size`. `thumbnails` are the two sizes of one as a srcset, "" if there is one. `at` is the time of the best scene of a film, such as "0:12".
    """

    key: str
    anchor: str
    term: str
    name: str
    path: str
    folder: str
    taken_at: str
    score: float | None
    relevance: float | None
    width: int
    height: int
    has_size: bool
    ratio: float
    at: str | None
    is_film: bool
    page_url: str
    row_url: str
    preview_url: str
    thumbnail_url: str
    thumbnails: str
    original_url: str
    more_url: str
    less_url: str | None
    why: str = ""
    looks_like_it: bool = False


@dataclass(frozen=True)
class Chip:
    """
    A term of the query as the page shows it; `without_url` is the search without it. One that `is_written` is looked
    for in texts only. `vector` is the term of an uploaded picture, which only the browser that sent it can show.
    """

    is_subtracted: bool
    is_written: bool
    label: str
    thumbnail_url: str | None
    vector: str | None
    without_url: str

    @property
    def is_picture(self) -> bool:
        return self.thumbnail_url is not None or self.vector is not None


def image_card(
    urls: TableUrls,
    image: ShownImage,
    path_column: str | None = None,
    *,
    query: str = "",
    kept: Pairs = (),
    found_by: Pairs = (),
) -> Card:
    """
    `path_column` has the path in a person's own table. `kept` is the query string of the search page
    without the query and the page number, `found_by` that of the page of the image.
    """
    row, term = image.row, image_term(image.id)
    is_large = isinstance(image.id, int) and abs(image.id) >= LARGEST
    path = str(row.get(path_column or "path") or image.id)
    size = _size(row)
    width, height = size or LANDSCAPE
    return Card(
        key=json.dumps(str(image.id) if is_large else image.id),
        anchor=f"image-{tilde_encode(str(image.id))}",
        term=term,
        name=str(row.get("filename") or PurePosixPath(path).name or path),
        path=path,
        folder=str(row.get("folder") or ""),
        taken_at=str(row.get("taken_at") or "")[:16].replace("T", " "),
        score=image.score,
        relevance=image.relevance,
        width=width,
        height=height,
        has_size=size is not None,
        ratio=min(max(width / height, NARROWEST), WIDEST),
        page_url=urls.image_page(image.id, found_by),
        row_url=urls.row(image.id),
        at=None if image.at is None else clock(image.at),
        is_film=image.at is not None or row.get("format") in FILM_FORMATS,
        preview_url=urls.preview(image.id),
        thumbnail_url=urls.thumbnail(image.id, image.version, image.at),
        thumbnails=_thumbnails(urls, image, size),
        original_url=urls.original(image.id, image.at),
        more_url=urls.page([("q", f"{query} + {term}" if query else term), *kept]),
        less_url=urls.page([("q", f"{query} - {term}"), *kept]) if query else None,
        why=_why(image.matched),
        looks_like_it=is_relevant(image.relevance),
    )


def _thumbnails(urls: TableUrls, image: ShownImage, size: tuple[int, int] | None) -> str:
    """Of a JPEG, which is read at a fraction of its size; others would take seconds for a page of them."""
    if size is None or image.row.get("format") != "JPEG" or max(size) <= THUMBNAIL_SIZE:
        return ""
    small, large = (
        f"{urls.thumbnail(image.id, image.version, is_large=is_large)} "
        f"{round(size[0] * min(longest / max(size), 1))}w"
        for is_large, longest in ((False, THUMBNAIL_SIZE), (True, LARGE_THUMBNAIL_SIZE))
    )
    return f"{small}, {large}"


def _why(matched: Sequence[TextMatch]) -> str:
    """'“soccer ball” in folder, “goal” in keywords'"""
    by_text: dict[str, list[str]] = {}
    for match in matched:
        by_text.setdefault(match.text, []).append(match.words)
    return ", ".join(f"\u201c{' '.join(words)}\u201d in {text}" for text, words in by_text.items())


def _size(row: dict[str, Any]) -> tuple[int, int] | None:
    width, height = row.get("width"), row.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


async def chips(
    requested: RequestedTable, query: str, page: Callable[[Pairs], str], kept: Pairs
) -> list[Chip]:
    """
    The terms of a query, none if it cannot be read. `page` makes the URL of a page; `kept` is its query string
    without the query and the page number.
    """
    try:
        terms = parse_query(query)
    except QueryError:
        return []
    ids = [id for term in terms if (id := _image_of(requested, term)) is not None]
    versions: dict[Key, str | None] = {}
    if ids:
        versions = await read_bounded(
            requested.database, lambda conn: reads.versions(conn, requested.table, ids)
        )
    return [
        _chip(
            requested, term, versions, page(_asking(terms[:position] + terms[position + 1 :], kept))
        )
        for position, term in enumerate(terms)
    ]


def _image_of(requested: RequestedTable, term: Term) -> Key | None:
    return requested.table.parse_key(term.text) if term.kind is Kind.IMAGE else None


def _chip(
    requested: RequestedTable,
    term: Term,
    versions: Mapping[Key, str | None],
    without_url: str,
) -> Chip:
    image_id = _image_of(requested, term)
    weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g}:"
    labels = {
        Kind.VECTOR: YOUR_PICTURE,
        Kind.IMAGE: image_term(term.text),
        Kind.TEXT: f"written: {term.text}",
    }
    return Chip(
        is_subtracted=term.weight < 0,
        label=weight + shortened(labels.get(term.kind, term.text)),
        thumbnail_url=None
        if image_id is None
        else requested.urls.thumbnail(image_id, versions.get(image_id)),
        is_written=term.kind is Kind.TEXT,
        vector=f"vec:{term.text}" if term.kind is Kind.VECTOR else None,
        without_url=without_url,
    )


def _asking(terms: Sequence[Term], kept: Pairs) -> Pairs:
    """The query string of a page with the query of these terms."""
    return [("q", format_query(terms)), *kept] if terms else kept


def without_vectors(query: str) -> tuple[str, str]:
    """
    The terms of uploaded pictures in a query, and the rest, for people to edit. A query that cannot be read is
    all for people.
    """
    try:
        terms = parse_query(query)
    except QueryError:
        return "", query
    vectors = [term for term in terms if term.kind is Kind.VECTOR]
    if not vectors:
        return "", query
    return format_query(vectors), format_query([term for term in terms if term not in vectors])


def query_in_words(query: str) -> str:
    """A query for a heading. A vector is called a picture: people upload those."""
    words = _VECTOR.sub(YOUR_PICTURE, query)
    return words if words == YOUR_PICTURE else f'"{shortened(words)}"'


_VECTOR = re.compile(r"vec:[\w-]+")


def shortened(text: str, longest: int = LONGEST_LABEL) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
