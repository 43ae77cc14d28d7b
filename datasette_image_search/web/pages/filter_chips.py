"""The filters and limits of a search page as chips, each with a link to the search without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..access.requested_table import RequestedTable
from ..compat import column_filters
from ..facets.words import KEYWORDS, TAGS
from ..urls import Pairs, RequestError
from .cards import shortened
from .search_request import NO_FILTER, filter_pair

SAYINGS = {
    TAGS.argument: f'{TAGS.saying} "{{}}"',
    KEYWORDS.argument: f'{KEYWORDS.saying} "{{}}"',
    "_search": 'text "{}"',
    "_where": "where {}",
    "_matches_only": "matches only",
    "_min_score": "score {} or more",
    "_min_relevance": "relevance {} or more",
}
"""Parameters that leave images out, in words."""

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
    chips = []
    for position, (name, value) in enumerate(pairs):
        label = _in_words(requested, columns, name, value)
        if label:
            without = pairs[:position] + pairs[position + 1 :]
            chips.append(FilterChip(shortened(label, LONGEST_FILTER), page(without)))
    return chips


def _in_words(requested: RequestedTable, columns: list[str], name: str, value: str) -> str | None:
    """None for a parameter that leaves nothing out. A filter that the page refuses is as it was written."""
    if name in SAYINGS:
        return SAYINGS[name].format(value) if value else None
    try:
        pair = filter_pair(requested.name, columns, name, value)
        if pair is None:
            return None
        names = requested.database.name, requested.name
        filters = column_filters(requested.datasette, *names, [pair])
        return str(filters.human_description_en()).removeprefix("where ")
    except (RequestError, *NO_FILTER):
        return f"{name}={value}"
