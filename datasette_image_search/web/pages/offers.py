"""
Filters that the words of a query suggest, as links: "only July 2023?". Nothing is filtered before a person asks
for it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations

from datasette.utils import sqlite_timelimit
from datasette.utils.asgi import Request

from ...search.query import Kind, QueryError, Term, format_query, parse_query
from ...store.reads import values_among
from ...store.transactions import is_interrupted
from ..access.requested_table import RequestedTable
from ..facets.words import ALL, table_with
from ..reading import read_bounded
from ..urls import Pairs
from .periods import period_in, rest_of

TIMES = "taken_at"

PLACES = ("city", "state", "country")
"""Columns with names of places, of the tables that have them."""

MOST_WORDS = 24

LONGEST_NAME = 3
"""Words of a place, a keyword or a tag."""

MOST_TERMS = 4
"""Terms of words that are looked at."""

MOST_OFFERS = 5

PATIENCE = 50
"""
Milliseconds to look up all names of a query. If there is no index for them, a large table gets no offer of one.
"""

MOST_LANGUAGES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """`url` is the page with the filter, and with the query without its words."""

    label: str
    url: str


@dataclass(frozen=True)
class _Suggested:
    """A filter, as pairs of the query string, and the text that is left of a term."""

    label: str
    filters: tuple[tuple[str, str], ...]
    rest: str


@dataclass(frozen=True)
class _Source:
    """`column` of `table` has names, which people call `called`; the parameter `argument` filters by them."""

    called: str
    table: str
    column: str
    argument: str


async def offers(requested: RequestedTable, query: str, kept: Pairs) -> list[Offer]:
    """
    For a query, which may be invalid. `kept` is the query string of the page without the query and the page
    number. If they cannot be made, the log says why, and there are none.
    """
    try:
        return await _offers(requested, query, list(kept))
    except Exception:
        # They look into any column and read what anybody typed, and the page has its answer without them.
        logger.exception("no filters could be offered for the query %r", query)
        return []


async def _offers(
    requested: RequestedTable, query: str, kept: list[tuple[str, str]]
) -> list[Offer]:
    try:
        terms = parse_query(query)
    except QueryError:
        return []
    columns = await requested.database.table_columns(requested.name)
    wanted = [at for at, each in enumerate(terms) if each.kind is Kind.WORDS and each.weight > 0]
    wanted = wanted[:MOST_TERMS]
    names = await _names(requested, [terms[position].text for position in wanted], columns)
    found = []
    for position, named in zip(wanted, names, strict=True):
        term = terms[position]
        suggested = []
        if TIMES in columns:
            languages = accepted_languages(requested.request)
            suggested += await asyncio.to_thread(_times, term.text, languages)
        for each in [*suggested, *named]:
            left = [replace(term, text=each.rest)] if each.rest else []
            others = [*terms[:position], *left, *terms[position + 1 :]]
            new = [pair for pair in each.filters if pair not in kept]
            if new:
                found.append(Offer(each.label, _url(requested, others, [*kept, *new])))
    return found[:MOST_OFFERS]


def _url(requested: RequestedTable, terms: Sequence[Term], pairs: Pairs) -> str:
    return requested.urls.page([("q", format_query(terms)), *pairs] if terms else pairs)


def accepted_languages(request: Request) -> list[str]:
    """The codes of the first languages of a browser, such as "de"."""
    accepted = request.headers.get("accept-language", "")[:200].lower()
    codes = re.findall(r"(?:^|,)\s*([a-z]{2,3})(?![a-z])", accepted)
    return list(dict.fromkeys(codes))[:MOST_LANGUAGES]


def _times(text: str, languages: Sequence[str]) -> list[_Suggested]:
    period = period_in(text, date.today(), languages)
    if period is None:
        return []
    limits = ((f"{TIMES}__gte", period.start), (f"{TIMES}__lt", period.end))
    filters = tuple((name, limit) for name, limit in limits if limit is not None)
    return [_Suggested(period.label, filters, period.rest)]


async def _names(
    requested: RequestedTable, texts: Sequence[str], columns: Sequence[str]
) -> list[list[_Suggested]]:
    """For each text the places, keywords, tags and albums that are written in it as they are in the table."""
    rests = [_rests(text) for text in texts]
    sources = await _sources(requested, columns)
    written = sorted({name for rest in rests for name in rest})
    if not sources or not written:
        return [[] for _ in texts]

    def read(conn: sqlite3.Connection) -> list[tuple[_Source, str]]:
        found = []
        try:
            with sqlite_timelimit(conn, PATIENCE):
                for source in sources:
                    values = values_among(conn, source.table, source.column, written, MOST_OFFERS)
                    found += [(source, value) for value in values]
        except sqlite3.OperationalError as error:
            if not is_interrupted(error):
                raise
        return found

    found = await read_bounded(requested.database, read)
    return [
        [
            _Suggested(f"{name} ({source.called})", ((source.argument, name),), rest[name])
            for source, name in found
            if name in rest
        ]
        for rest in rests
    ]


async def _sources(requested: RequestedTable, columns: Sequence[str]) -> list[_Source]:
    """Those that the table has and the actor may see."""
    sources = [_Source(name, requested.name, name, name) for name in PLACES if name in columns]
    for words in ALL:
        having = await table_with(
            requested.datasette, requested.request, requested.database.name, requested.name, words
        )
        if having is not None:
            side = having.side(words.sides[-1])
            sources.append(_Source(words.column, side, words.written_in, words.argument))
    return sources


def _rests(text: str) -> Mapping[str, str]:
    """What may be a name in a text, in each way of writing it, with the rest of the text."""
    return {
        written: rest
        for span, rest in _spans(text)
        for written in (span.upper(), span.title(), span.lower(), span)
    }


def _spans(text: str) -> Iterator[tuple[str, str]]:
    """The runs of words that may be a name, each with the rest of the text."""
    words = list(re.finditer(r"\w[^\s,;]*", text))[:MOST_WORDS]
    for first, end in combinations(range(len(words) + 1), 2):
        if end - first <= LONGEST_NAME:
            start, stop = words[first].start(), words[end - 1].end()
            yield text[start:stop], rest_of(text[:start], text[stop:])
