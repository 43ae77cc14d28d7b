"""What to say if nothing is found because no image has the value of a filter: values that there are and that resemble it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from heapq import nlargest
from typing import Any

from datasette.database import QueryInterrupted
from datasette.utils import escape_sqlite

from ...errors import printable
from ...store import Filter
from ...store.albums import album_id
from ...store.filters import bracketed
from ..access.requested_table import RequestedTable
from ..facets.words import ALBUMS, ALL, KEYWORDS, TAGS, Words, table_with
from ..reading import read_bounded
from ..urls import RequestError
from .search_request import SearchRequest, filter_pair
from .titles import column_title

MOST_VALUES = 2_000
"""Of a column, the most frequent, that a value is compared with."""

MOST_NEAR = 3

MOST_MISSING = 3
"""Filters of a URL that are looked at."""

SIMILAR = 0.7
"""As in `most_similar`: "Zermat" and "Zermatt", not "Rome" and "Bern"."""

MOST_COMPARED = 100
"""Values with the most pairs of letters in common, which are then compared letter by letter: that takes a millisecond for one."""

LONGEST = 100
"""Characters of a value that others are compared with."""

SAYINGS = {
    ALBUMS.argument: "There is no album “{}”.",
    KEYWORDS.argument: "No image has the keyword “{}”.",
    TAGS.argument: "No image has the tag “{}”.",
}


BY_ARGUMENT = {words.argument: words for words in ALL}


@dataclass(frozen=True)
class NearValue:
    """A value with the number of its images that the other filters leave, and the search with it."""

    text: str
    count: int
    url: str


@dataclass(frozen=True)
class Missing:
    """A value that no image has, as a sentence, and those that resemble it."""

    sentence: str
    near: tuple[NearValue, ...]


async def missing_values(
    requested: RequestedTable, wanted: SearchRequest, pairs: Sequence[tuple[str, str]]
) -> list[Missing]:
    """For a search that found nothing; `pairs` are its query string without the page number."""
    columns = await requested.database.table_columns(requested.name)
    named = [_filter_name(requested, columns, *pair) for pair in pairs]
    found: list[Missing] = []
    for position, (name, value) in enumerate(pairs):
        if not value or len(value) > LONGEST or len(found) == MOST_MISSING:
            continue
        with suppress(QueryInterrupted, RequestError):
            if name in BY_ARGUMENT:
                missing = await _missing_word(requested, wanted, BY_ARGUMENT[name], value)
            else:
                column, _, lookup = named[position].rpartition("__")
                # With two different values of a column, no image passes both.
                if lookup != "exact" or named.count(named[position]) > 1:
                    continue
                missing = await _missing_value(requested, wanted, column, value)
            if missing is not None:
                sentence, counts = missing
                near = tuple(
                    NearValue(text, counts[text], requested.urls.page(changed))
                    for text in await asyncio.to_thread(_resembling, value, counts)
                    for changed in [[*pairs[:position], (name, text), *pairs[position + 1 :]]]
                )
                found.append(Missing(sentence, near))
    return found


def _filter_name(requested: RequestedTable, columns: Sequence[str], name: str, value: str) -> str:
    """As column__lookup; "" of what is no filter of a column."""
    with suppress(RequestError):
        if filter := filter_pair(requested.name, columns, name, value):
            return filter[0]
    return ""


async def _missing_word(
    requested: RequestedTable, wanted: SearchRequest, words: Words, word: str
) -> tuple[str, dict[str, int]] | None:
    """The sentence, and the words that there are with their images; None if an image has the word, or the album is there."""
    names = requested.database.name, requested.name
    having = await table_with(requested.datasette, requested.request, *names, words)
    if having is None:
        return None
    rows = words.rows(having)
    if words == ALBUMS:
        table = requested.table
        is_there = await read_bounded(
            requested.database, lambda conn: album_id(conn, table, word) is not None
        )
    else:
        sql = f"select 1 from {rows} where {words.column} = :_near_value"
        is_there = bool(await _rows(requested, sql, word))
    if is_there:
        return None
    rest = wanted.rows_beside(requested, [words.argument])
    of_images = f"select {escape_sqlite(having.key)} from {escape_sqlite(requested.name)}"
    sql = (
        f"select {words.column}, count(distinct image_id) from {rows} "
        f"where image_id in ({of_images} where {bracketed(rest)}) group by 1 order by 2 desc"
    )
    return SAYINGS[words.argument].format(printable(word)), await _counts(
        requested, sql, word, rest
    )


async def _missing_value(
    requested: RequestedTable, wanted: SearchRequest, column: str, value: str
) -> tuple[str, dict[str, int]] | None:
    """The same of a column."""
    table, name = escape_sqlite(requested.name), escape_sqlite(column)
    if await _rows(requested, f"select 1 from {table} where {name} = :_near_value", value):
        return None
    rest = wanted.rows_beside(requested, [f"{column}__exact"])
    sql = (
        f"select {name}, count(*) from {table} where {bracketed(rest)} and length({name}) <= {LONGEST} "
        "group by 1 order by 2 desc"
    )
    sentence = f"No image has “{printable(value)}” in {column_title(requested, column)}."
    return sentence, await _counts(requested, sql, value, rest)


async def _rows(
    requested: RequestedTable, sql: str, value: str, rest: Filter | None = None
) -> Sequence[Sequence[Any]]:
    """Raises QueryInterrupted if it takes longer than a facet may."""
    results = await requested.database.execute(
        f"{sql} limit {MOST_VALUES}",
        {**(rest.params if rest else {}), "_near_value": value},
        truncate=False,
        custom_time_limit=requested.datasette.setting("facet_time_limit_ms"),
    )
    return results.rows


async def _counts(
    requested: RequestedTable, sql: str, value: str, rest: Filter | None
) -> dict[str, int]:
    """The texts with their numbers of images; none if counting takes too long."""
    with suppress(QueryInterrupted):
        rows = await _rows(requested, sql, value, rest)
        return {text: count for text, count in rows if isinstance(text, str) and text}
    return {}


def _resembling(value: str, known: Iterable[str]) -> list[str]:
    """Those that differ in case, then those with a word that begins like it, then those with a few other letters."""
    typed = value.casefold()
    folded = {text: text.casefold() for text in known}
    same = [text for text, other in folded.items() if other == typed]
    begun = [text for text, other in folded.items() if f" {other}".find(f" {typed}") >= 0]
    letters = _pairs_of_letters(typed)
    compared = nlargest(
        MOST_COMPARED, set(folded.values()), lambda text: len(letters & _pairs_of_letters(text))
    )
    close = get_close_matches(typed, compared, MOST_NEAR, SIMILAR)
    alike = sorted(
        (text for text, other in folded.items() if other in close),
        key=lambda text: close.index(folded[text]),
    )
    return list(dict.fromkeys([*same, *begun, *alike]))[:MOST_NEAR]


def _pairs_of_letters(text: str) -> set[str]:
    return {text[at : at + 2] for at in range(len(text) - 1)}
