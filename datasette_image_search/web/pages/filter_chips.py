"""The filters and limits of a search page as chips, each with a link to the search without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from ..access.requested_table import RequestedTable
from ..among import among_of
from ..compat import column_filters
from ..facets import words
from ..facets.choices import listed
from ..facets.kinds import filters_of_kinds
from ..urls import AMONG, Pairs, RequestError, links_within
from .cards import shortened
from .filter_values import DATES
from .parameters import SEARCHED_COLUMN
from .periods import period_in_words
from .search_request import NO_FILTER, filter_pair
from .titles import WORDS, column_title

SAYINGS = {
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

LOWER, UPPER = {"gte": "\u2264", "gt": "<"}, {"lt": "<", "lte": "\u2264"}
"""Lookups that are ends of a range, and the sign between that end and the column."""


@dataclass(frozen=True)
class FilterChip:
    """A filter in words, such as "Camera: Canon" or "Taken: 2021 to 2023", and the search without it."""

    label: str
    without_url: str


async def filter_chips(
    requested: RequestedTable, page: Callable[[Pairs], str], pairs: list[tuple[str, str]]
) -> list[FilterChip]:
    """`page` makes the URL of a page of its query string; `pairs` are that of this page without the page number."""
    columns = [*await requested.database.table_columns(requested.name), "rowid"]
    together: dict[object, list[int]] = {}
    for position, (name, _) in enumerate(pairs):
        column, _, lookup = name.rpartition("__")
        is_end = column in columns and lookup in (*LOWER, *UPPER)
        key = name if name in WORDS else column if is_end else position
        together.setdefault(key, []).append(position)
    said = (
        (positions, label)
        for positions in together.values()
        if (label := _together(requested, columns, [pairs[position] for position in positions]))
    )
    # Each has the rest of the URL in its link, and so have the links of the page.
    most = min(MOST_CHIPS, links_within(requested.request, MOST_REPEATED))
    return [
        FilterChip(shortened(label, LONGEST_FILTER), page(_without(pairs, positions)))
        for positions, label in islice(said, most)
    ]


def _without(pairs: Sequence[tuple[str, str]], positions: Sequence[int]) -> Pairs:
    return [pair for position, pair in enumerate(pairs) if position not in positions]


def _together(
    requested: RequestedTable, columns: list[str], pairs: list[tuple[str, str]]
) -> str | None:
    """One pair in words, all ends of the range of a column, or all words of a kind."""
    if pairs[0][0] in WORDS:
        chosen = [word for _, word in pairs if word]
        return _titled(WORDS[pairs[0][0]], chosen) if chosen else None
    column, _, _ = pairs[0][0].rpartition("__")
    ends = {name.rpartition("__")[2]: value for name, value in pairs}
    if column in DATES and len(ends) == len(pairs) and not {*ends} - {"gte", "lt"}:
        period = period_in_words(ends.get("gte"), ends.get("lt"))
        if period is not None:
            return f"{column_title(requested, column)}: {period}"
    if len(pairs) == 2:
        lower = [(value, LOWER[lookup]) for lookup, value in ends.items() if lookup in LOWER]
        upper = [(UPPER[lookup], value) for lookup, value in ends.items() if lookup in UPPER]
        if lower and upper:
            return " ".join((*lower[0], column, *upper[0]))
    said = [_in_words(requested, columns, *pair) for pair in pairs]
    return " and ".join(words for words in said if words) or None


def _titled(title: str, values: Sequence[str]) -> str:
    return f"{title}: {words.one_of(values, quote='')}"


def _in_words(requested: RequestedTable, columns: list[str], name: str, value: str) -> str | None:
    """None for a parameter that leaves nothing out. A filter that the page refuses is as it was written."""
    if name in SAYINGS:
        return SAYINGS[name].format(value) if value else None
    if name.startswith(SEARCHED_COLUMN):
        return f'text "{value}" in {name.removeprefix(SEARCHED_COLUMN)}' if value else None
    try:
        if name == AMONG:
            return among_of(value).saying
        if name == "_through":
            through = json.loads(value)
            return f'{through["table"]}.{through["column"]} = "{through["value"]}"'
        pair = filter_pair(requested.name, columns, name, value)
        if pair is None:
            return None
        column, _, lookup = pair[0].rpartition("__")
        for kind, filter in filters_of_kinds(column).items():
            if pair == filter:
                return kind
        values = {"in": listed, "exact": lambda value: [value]}.get(lookup, lambda _: [])(value)
        if any(values):
            return _titled(column_title(requested, column), values)
        names = requested.database.name, requested.name
        filters = column_filters(requested.datasette, *names, [pair])
        return str(filters.human_description_en()).removeprefix("where ")
    except (RequestError, *NO_FILTER):
        return f"{name}={value}"
