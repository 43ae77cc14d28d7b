"""
Likeness and text together: the images whose vectors are closest to a query, and those that its words are written about,
merged by reciprocal rank (Cormack, Clarke and Buettcher, SIGIR 2009).

An image gets 1 / (60 + its rank) of each list that it is in. So no score need be compared with another kind of
score, and what is high in both comes first.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from .. import store
from ..checked import check_whole
from ..embedders.protocol import EmbedderError
from ..store import Filter, Index, Key
from ..store.filters import IdSet
from ..store.ordering import Order
from ..store.text_search import (
    SCANNED,
    TextHit,
    TextsDamaged,
    Words,
    text_hits,
    text_matches,
)
from ..store.written_texts import text_columns
from . import asked, planner
from .asked import SearchOptions
from .live import live_index
from .planner import Found, Hit, Step
from .queries import Query, QueryWithFiles
from .query import Kind, QueryError, QueryVector, Term, format_query, parse_query

DEPTH = 1_000
"""The best of each list that are merged, the same for every page; after these come the others by likeness."""

SMOOTHING = 60
"""The constant of the paper, which keeps the first of one list from outweighing what is high in both."""

Ask = Callable[[Query], QueryVector]


def find_images(
    conn: sqlite3.Connection,
    index: Index,
    queries: Sequence[Query],
    k: int,
    filter: Filter | IdSet | None,
    options: SearchOptions,
    order: Order | None,
    ask: Ask,
) -> list[Found]:
    """
    For each query the best k images, by likeness, by text or by both, with the warnings of `ask`, which makes a vector
    of it; in the order of a column if there is one.

    Raises QueryError, EmbedderError if there is no vector for a query and no text matches it, or an error of the planner.
    """
    if options.by == "likeness":
        return asked.find_images(
            conn, index, [ask(query) for query in queries], k, filter, options, order
        )
    check_whole("k", k, 1)
    check_whole("offset", options.offset, 0)
    if options.by == "text" and options.min_score is not None:
        raise QueryError("a search by text has no scores; leave the least score out")
    if options.by == "both":
        live_index(conn, index)
    search = _by_text if options.by == "text" else _by_both
    all_found = []
    for query in queries:
        # Texts, vectors and filter are of one state.
        with store.snapshot(conn):
            all_found.append(search(_Task(conn, index, query, k, filter, ask, options)))
    return all_found if order is None else planner.sorted_by(conn, index, order, all_found)


@dataclass(frozen=True)
class _Task:
    """One query and what is asked of it."""

    conn: sqlite3.Connection
    index: Index
    query: Query
    k: int
    filter: Filter | IdSet | None
    ask: Ask
    options: SearchOptions

    @property
    def end(self) -> int:
        return self.options.offset + self.k

    def terms(self) -> tuple[Term, ...]:
        """None of a picture or a vector."""
        if isinstance(self.query, QueryWithFiles):
            return self.query.terms()
        return parse_query(self.query) if isinstance(self.query, str) else ()

    def words(self, sign: int) -> list[Words]:
        """Those of the terms with a plus, 1, or with a minus, -1."""
        return [
            Words(term.text, term.quoted)
            for term in self.terms()
            if term.kind is Kind.WORDS and term.weight * sign > 0
        ]

    def texts(self, steps: list[Step], limit: int) -> list[TextHit]:
        started = time.perf_counter()
        hits, looked_at = text_hits(
            self.conn, self.index.table, self.words(1), self.words(-1), self.filter, limit
        )
        duration = (time.perf_counter() - started) * 1000
        steps.append(Step("text", looked_at, len(hits), duration))
        return hits

    def page(self, hits: Sequence[Hit], texts: Sequence[TextHit]) -> tuple[Hit, ...]:
        """The hits that are asked for, with the words that are written about them."""
        written = {hit.id for hit in texts}
        ids = [hit.id for hit in hits if hit.id in written]
        matches = text_matches(self.conn, self.index.table, self.words(1), ids)
        return tuple(replace(hit, matched=matches.get(hit.id, ())) for hit in hits)


def _by_text(task: _Task) -> Found:
    table = task.index.table
    if not text_columns(task.conn, table):
        raise QueryError(
            f"no texts of {table.name!r} can be searched yet; run embed-images again, which makes a table of them"
        )
    if not task.words(1):
        raise QueryError(
            "the query has no words to look for in texts; add some, or search by likeness"
        )
    steps: list[Step] = []
    texts = task.texts(steps, SCANNED)
    return Found(task.page(_without_scores(task, texts), texts), tuple(steps))


def _without_scores(task: _Task, texts: Sequence[TextHit]) -> list[Hit]:
    return [Hit(hit.id, None, None) for hit in texts[task.options.offset : task.end]]


def _by_both(task: _Task) -> Found:
    steps: list[Step] = []
    warnings: tuple[str, ...] = ()
    query = None
    unknown: EmbedderError | None = None
    try:
        query = task.ask(task.query)
    except EmbedderError as error:
        unknown = error
    texts: list[TextHit] = []
    if task.words(1) and text_columns(task.conn, task.index.table):
        try:
            texts = task.texts(steps, DEPTH)
        except TextsDamaged as error:
            warnings = (str(error),)
    if unknown is not None:
        if not texts:
            raise unknown
        warnings += (str(unknown),)
        query = _asked_in_part(task)
    if query is None:
        return Found(task.page(_without_scores(task, texts), texts), tuple(steps), warnings)
    vector = query

    def nearest(k: int, filter: Filter | IdSet | None, **changes: Any) -> dict[Key, Hit]:
        options = replace(task.options, **{"offset": 0, **changes})
        (found,) = asked.find_images(task.conn, task.index, [vector], k, filter, options)
        steps.extend(found.steps)
        return {hit.id: hit for hit in found.hits}

    if texts:
        known = nearest(max(DEPTH, task.end + len(texts)), task.filter)
        closest = list(known)
        if others := [hit.id for hit in texts if hit.id not in known]:
            known |= nearest(len(others), IdSet(others), min_score=None)
        ids = [id for id in merged(closest, texts) if not _is_below(task, known.get(id))]
        hits = [known.get(id, Hit(id, None, None)) for id in ids[task.options.offset : task.end]]
    else:
        hits = list(nearest(task.k, task.filter, offset=task.options.offset).values())
    return Found(task.page(hits, texts), tuple(steps), warnings + vector.warnings)


def _is_below(task: _Task, hit: Hit | None) -> bool:
    least = task.options.min_score
    return least is not None and hit is not None and hit.score is not None and hit.score < least


def _asked_in_part(task: _Task) -> QueryVector | None:
    """The vector of those terms that the model knows, if the others are not all that is added."""

    def ask(terms: Sequence[Term]) -> QueryVector:
        text = format_query(terms)
        return task.ask(QueryWithFiles(text) if isinstance(task.query, QueryWithFiles) else text)

    known = []
    for term in task.terms():
        with suppress(EmbedderError):
            ask([term])
            known.append(term)
    return ask(known) if any(term.weight > 0 for term in known) else None


def merged(closest: Sequence[Key], texts: Sequence[TextHit]) -> list[Key]:
    """
    The ids by the sum of their reciprocal ranks among the DEPTH best of both lists, the highest first and equal ones by
    likeness; after these the rest by likeness. None comes twice.
    """
    sums: dict[Key, float] = defaultdict(float)
    for rank, id in enumerate(closest[:DEPTH], 1):
        sums[id] += 1 / (SMOOTHING + rank)
    for hit in texts[:DEPTH]:
        sums[hit.id] += 1 / (SMOOTHING + hit.rank)
    best = sorted(sums, key=lambda id: -sums[id])
    return best + [id for id in closest[DEPTH:] if id not in sums]
