"""The filters and limits of a search page as chips, each with a link to the search without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from ..access.requested_table import RequestedTable
from ..among import ARGUMENT as AMONG
from ..among import among_of
from ..compat import column_filters
from ..facets.words import ALBUMS, KEYWORDS, TAGS
from ..urls import Pairs, RequestError
from .cards import shortened
from .search_request import NO_FILTER, filter_pair

SAYINGS = {
    TAGS.argument: f'{TAGS.saying} "{{}}"',
    KEYWORDS.argument: f'{KEYWORDS.saying} "{{}}"',
    ALBUMS.argument: f'{ALBUMS.saying} "{{}}"',
    "_search": 'text "{}"',
    "_where": "where {}",
    "_matches_only": "matches only",
    "_min_score": "score {} or more",
    "_min_relevance": "relevance {} or more",
}
"""Parameters that leave images out, in words."""

MOST_CHIPS = 20
"""Filters that have a chip; the menu has all of them."""

MOST_REPEATED = 500_000
"""Characters of the links of all chips."""

LONGEST_FILTER = 80
"""Characters; a list of a thousand ids has more."""


@dataclass(frozen=True)
class FilterChip:
    """A filter in words, such as 'camera_make = "Canon"', and the search without it."""

    label: str
    without_url: str


async def filter_chips(
    requested: RequestedTable, page: Callable[[Pairs], str], pairs: list[tuple[str, str]]
) -> list[FilterChip]:
    """`page` makes the URL of a page of its query string; `pairs` are that of this page without the page number."""
    columns = [*await requested.database.table_columns(requested.name), "rowid"]
    said = (
        (position, label)
        for position, pair in enumerate(pairs)
        if (label := _in_words(requested, columns, *pair))
    )
    # Each has the rest of the URL in its link, and so have the links of the page.
    most = max(min(MOST_CHIPS, MOST_REPEATED // (1 + len(requested.request.query_string))), 1)
    return [
        FilterChip(shortened(label, LONGEST_FILTER), page(pairs[:position] + pairs[position + 1 :]))
        for position, label in islice(said, most)
    ]


def _in_words(requested: RequestedTable, columns: list[str], name: str, value: str) -> str | None:
    """None for a parameter that leaves nothing out. A filter that the page refuses is as it was written."""
    if name in SAYINGS:
        return SAYINGS[name].format(value) if value else None
    try:
        if name == AMONG:
            return among_of(value).saying
        pair = filter_pair(requested.name, columns, name, value)
        if pair is None:
            return None
        names = requested.database.name, requested.name
        filters = column_filters(requested.datasette, *names, [pair])
        return str(filters.human_description_en()).removeprefix("where ")
    except (RequestError, *NO_FILTER):
        return f"{name}={value}"
