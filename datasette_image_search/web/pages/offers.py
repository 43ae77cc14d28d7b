"""
Filters that the words of a query suggest, as links: "only July 2023?". Nothing is filtered before a person asks
for it.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations

from datasette.utils import sqlite_timelimit
from datasette.utils.asgi import Request

from ...search.query import Kind, QueryError, Term, format_query, parse_query
from ...store.reads import values_among
from ...store.transactions import is_interrupted
from ..access.requested_table import RequestedTable
from ..facets.words import KEYWORDS, TAGS, table_with
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
"""Milliseconds for all names together. If there is no index for them, a large table gets no offer of one."""

MOST_LANGUAGES = 3


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


async def offers(requested: RequestedTable, query: str, kept: Pairs) -> list[Offer]:
    """
    For a query, which may be invalid. `kept` is the query string of the page without the query and the page
    number.
    """
    try:
        terms = parse_query(query)
    except QueryError:
        return []
    kept = list(kept)
    columns = await requested.database.table_columns(requested.name)
    found = []
    wanted = [at for at, each in enumerate(terms) if each.kind is Kind.WORDS and each.weight > 0]
    for position in wanted[:MOST_TERMS]:
        term = terms[position]
        suggested = []
        if TIMES in columns:
            languages = accepted_languages(requested.request)
            suggested += await asyncio.to_thread(_times, term.text, languages)
        suggested += await _names(requested, term.text, columns)
        for each in suggested:
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


async def _names(requested: RequestedTable, text: str, columns: Sequence[str]) -> list[_Suggested]:
    """Places, keywords and tags that are written in a text as they are in the table."""
    rests = dict(_spans(text))
    written = {form for span in rests for form in (span, span.lower(), span.title(), span.upper())}
    # What is called what, the table, its column, and the parameter that filters by it.
    sources = [(name, requested.name, name, name) for name in PLACES if name in columns]
    for words in (KEYWORDS, TAGS):
        having = await table_with(
            requested.datasette, requested.request, requested.database.name, requested.name, words
        )
        if having is not None:
            side = having.side(words.side)
            sources.append((words.column, side, words.column, words.argument))

    def read(conn: sqlite3.Connection) -> list[_Suggested]:
        found = []
        try:
            with sqlite_timelimit(conn, PATIENCE):
                for called, table, column, argument in sources:
                    values = values_among(conn, table, column, sorted(written), MOST_OFFERS)
                    found += [(called, argument, value) for value in values]
        except sqlite3.OperationalError as error:
            if not is_interrupted(error):
                raise
        by_case = {span.casefold(): rest for span, rest in rests.items()}
        return [
            _Suggested(f"{value} ({called})", ((argument, value),), by_case[value.casefold()])
            for called, argument, value in found
        ]

    return await read_bounded(requested.database, read) if sources and written else []


def _spans(text: str) -> Iterator[tuple[str, str]]:
    """The runs of words that may be a name, each with the rest of the text."""
    words = list(re.finditer(r"\w[^\s,;]*", text))[:MOST_WORDS]
    for first, end in combinations(range(len(words) + 1), 2):
        if end - first <= LONGEST_NAME:
            start, stop = words[first].start(), words[end - 1].end()
            yield text[start:stop], rest_of(text[:start], text[stop:])
