"""
Likeness and text together: the images whose vectors are closest to a query, and those that its words are written about,
merged by reciprocal rank (Cormack, Clarke and Buettcher, SIGIR 2009).

An image gets 1 / (60 + its rank) of each list that it is in. So no score need be compared with another kind of
score, and what is high in both comes first.

Matches are those by likeness, and those by text. A term that is written about more than half of the images of a table is
passed over if the model knows anything of the query, and one word of several that a term has adds to the order only. A text with a minus, "- text:lisbon", leaves out images
of either list. After the
matches come the others by likeness. If nobody can tell the matches by likeness, nobody
can tell any, and all come in the merged order.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import store
from ..checked import check_whole
from ..embedders.protocol import EmbedderError
from ..store import Filter, Index, Key
from ..store.filters import IdSet, both_of
from ..store.text_search import (
    TextHit,
    TextsDamaged,
    Words,
    not_about,
    text_hits,
    text_hits_among,
    text_matches,
)
from ..store.written_texts import text_columns
from . import asked
from .asked import UNKNOWN, SearchOptions
from .hits import Found, Hit, Step, is_relevant
from .live import live_index
from .queries import Query, QueryWithFiles, naming_the_query
from .query import Kind, QueryError, QueryVector, Term, format_query, parse_query

DEPTH = 1_000
"""The best by likeness that are merged with the texts, the same for every page."""

SMOOTHING = 60
"""The constant of the paper, which keeps the first of one list from outweighing what is high in both."""

WITHOUT_SCORES = "a search by text has no scores; leave the least score and relevance out"

Ask = Callable[[Query], QueryVector]


def find_images(
    conn: sqlite3.Connection,
    index: Index,
    queries: Sequence[Query],
    k: int,
    filter: Filter | IdSet | None,
    options: SearchOptions,
    ask: Ask,
) -> list[Found]:
    """
    For each query the best k images, by likeness, by text or by both, with the warnings of `ask`, which makes a vector
    of it.

    Raises QueryError, EmbedderError if there is no vector for a query and no text matches it, or an error of the planner.
    """
    if options.by == "likeness":
        vectors = [ask(query) for query in queries]
        return asked.find_images(conn, index, vectors, k, filter, options)
    check_whole("k", k, 1)
    check_whole("offset", options.offset, 0)
    _check_limits(options)
    if options.by == "both":
        live_index(conn, index)
    search = _by_text if options.by == "text" else _by_both
    all_found = []
    for query in queries:
        is_text = isinstance(query, str | QueryWithFiles)
        name, alone = str(query) if is_text else "", len(queries) == 1 or not is_text
        # Texts, vectors and filter are of one state.
        with store.snapshot(conn), naming_the_query(name, alone=alone):
            some, rest = filter, wanted_texts(conn, index, query)
            if rest is not None:
                among = filter.as_filter(index.table) if isinstance(filter, IdSet) else filter
                some = both_of(among, rest)
            all_found.append(search(_Task(conn, index, query, k, some, ask, options)))
    return all_found


def wanted_texts(conn: sqlite3.Connection, index: Index, query: Query) -> Filter | None:
    """The images but those with the texts that a query has a minus before, "- text:lisbon"; None if it has none."""
    unwanted = [
        Words(term.text, term.quoted)
        for term in _terms(query)
        if term.kind is Kind.TEXT and term.weight < 0
    ]
    return not_about(conn, index.table, unwanted)


def images_within(
    conn: sqlite3.Connection,
    index: Index,
    query: Query,
    filter: Filter | None,
    options: SearchOptions,
    ask: Ask,
) -> IdSet | None:
    """
    Exactly the images that the limits of the options leave, with `matches_only` the matches, by text those that are
    found; others than those that pass the filter may be among them. None if nobody can tell, and there is nothing else
    to cut by. Raises as `find_images` does.
    """
    if options.by == "likeness":
        return asked.images_within(conn, index, ask(query), options)
    _check_limits(options)
    task = _Task(conn, index, query, 1, filter, ask, options)
    if options.by == "text":
        return IdSet([hit.id for hit in _texts_alone(task, [])])
    vector, unknown = task.vector()
    within = task.within(vector, unknown)
    if not options.matches_only:
        return None if within is None else IdSet(list(within))
    if vector is None and unknown is None:
        return IdSet([hit.id for hit in _texts_alone(task, [])])
    texts, _ = task.texts([], telling_only=vector is not None)
    if unknown is not None:
        _check_known(task, unknown, texts)
    if within is not None:
        texts = text_hits_among(texts, within)
    if vector is None:
        return IdSet([hit.id for hit in texts])
    likely = asked.images_within(conn, index, vector, options)
    if likely is None:
        return None
    return IdSet(list(dict.fromkeys([*_keys(likely), *(hit.id for hit in texts)])))


def with_matched(
    conn: sqlite3.Connection, index: Index, query: Query, hits: Sequence[Hit]
) -> tuple[Hit, ...]:
    """The hits of a query with the words that are written about them, and where."""
    ids = [hit.id for hit in hits if hit.is_written]
    matches = text_matches(conn, index.table, _words(_terms(query), 1), ids)
    return tuple(replace(hit, matched=matches.get(hit.id, ())) for hit in hits)


def likeness_in(query: str) -> str:
    """The terms of a query that are not for texts only, as a query; an empty one if there are none."""
    terms = parse_query(query)
    alike = [term for term in terms if term.kind is not Kind.TEXT]
    return query if len(alike) == len(terms) else format_query(alike)


def _check_limits(options: SearchOptions) -> None:
    if options.by == "text" and options.has_limits:
        raise QueryError(WITHOUT_SCORES)


def _terms(query: Query) -> tuple[Term, ...]:
    """None of a picture or a vector."""
    if isinstance(query, QueryWithFiles):
        return query.terms()
    return parse_query(query) if isinstance(query, str) else ()


def _words(terms: Sequence[Term], sign: int) -> list[Words]:
    """Those of the terms with a plus, 1, or with a minus, -1."""
    return [
        Words(term.text, term.quoted)
        for term in terms
        if term.kind in (Kind.WORDS, Kind.TEXT) and term.weight * sign > 0
    ]


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
        return _terms(self.query)

    def words(self, sign: int) -> list[Words]:
        return _words(self.terms(), sign)

    def vector(self) -> tuple[QueryVector | None, EmbedderError | None]:
        """Of the query, or of what the model knows of it, and what is said of the rest."""
        terms = self.terms()
        alike = [term for term in terms if term.kind is not Kind.TEXT]
        try:
            if len(alike) == len(terms):
                return self.ask(self.query), None
            return self.asked(alike) if alike else None, None
        except EmbedderError as error:
            return self.asked_in_part(alike), error

    def asked(self, terms: Sequence[Term]) -> QueryVector:
        text = format_query(terms)
        return self.ask(QueryWithFiles(text) if isinstance(self.query, QueryWithFiles) else text)

    def asked_in_part(self, terms: Sequence[Term]) -> QueryVector | None:
        """The vector of those terms that the model knows, if the others are not all that is added."""
        known = []
        for term in terms:
            with suppress(EmbedderError):
                self.asked([term])
                known.append(term)
        return self.asked(known) if any(term.weight > 0 for term in known) else None

    def within(
        self, vector: QueryVector | None, unknown: EmbedderError | None
    ) -> Collection[Key] | None:
        """The images that the limits leave, by their likeness to the query; None if there are no limits."""
        if not self.options.has_limits:
            return None
        if vector is None:
            raise unknown or QueryError(WITHOUT_SCORES)
        options = replace(self.options, matches_only=False)
        ids = asked.images_within(self.conn, self.index, vector, options)
        return None if ids is None else frozenset(_keys(ids))

    def texts(
        self, steps: list[Step], *, telling_only: bool = False
    ) -> tuple[list[TextHit], tuple[str, ...]]:
        """What is found by text, if the query has words and the table has texts, and warnings."""
        started = time.perf_counter()
        table = self.index.table
        if not self.words(1) or not text_columns(self.conn, table):
            return [], ()
        try:
            hits, looked_at = text_hits(
                self.conn,
                table,
                self.words(1),
                self.words(-1),
                self.filter,
                telling_only=telling_only,
            )
        except TextsDamaged as error:
            if self.options.by == "text":
                raise
            return [], (str(error),)
        duration = (time.perf_counter() - started) * 1000
        steps.append(Step("text", looked_at, len(hits), duration))
        return hits, ()

    def texts_in_part(self, texts: Sequence[TextHit]) -> list[TextHit]:
        """
        After these, what has a word of several that a term has: the pictures in "watch" for "a red watch".
        """
        words = [each for term in self.words(1) for each in term.each()]
        hits: list[TextHit] = []
        if words:
            with suppress(TextsDamaged):
                hits, _ = text_hits(
                    self.conn,
                    self.index.table,
                    words,
                    self.words(-1),
                    self.filter,
                    telling_only=True,
                )
        some = {hit.id for hit in hits} - {hit.id for hit in texts}
        return [TextHit(hit.id, hit.rank + len(texts)) for hit in text_hits_among(hits, some)]

    def nearest(
        self, vector: QueryVector, k: int, filter: Filter | IdSet | None, **changes: Any
    ) -> Found:
        options = replace(self.options, **changes)
        (found,) = asked.find_images(self.conn, self.index, [vector], k, filter, options)
        return found

    def without_scores(self, texts: Sequence[TextHit]) -> tuple[Hit, ...]:
        hits = [
            Hit(hit.id, None, None, is_written=True, by_text=True)
            for hit in texts[self.options.offset : self.end]
        ]
        return self.page(hits)

    def page(self, hits: Sequence[Hit]) -> tuple[Hit, ...]:
        """The hits that are asked for, with the words that are written about them."""
        if not self.options.with_matched:
            return tuple(hits)
        return with_matched(self.conn, self.index, self.query, hits)


def _keys(ids: IdSet) -> list[Key]:
    return ids.ids.tolist() if isinstance(ids.ids, np.ndarray) else list(ids.ids)


def _texts_alone(task: _Task, steps: list[Step]) -> list[TextHit]:
    table = task.index.table
    if not text_columns(task.conn, table):
        raise QueryError(
            f"no texts of {table.name!r} can be searched yet; run embed-images again, which makes a table of them"
        )
    if not task.words(1):
        raise QueryError(
            "the query has no words to look for in texts; add some, or search by likeness"
        )
    texts, _ = task.texts(steps)
    return texts


def _by_text(task: _Task) -> Found:
    steps: list[Step] = []
    hits = task.without_scores(_texts_alone(task, steps))
    return Found(hits, tuple(steps), knows_matches=True)


def _check_known(task: _Task, unknown: EmbedderError, texts: Sequence[TextHit]) -> None:
    """Raises what the model says of words that are not written about any image either, whatever passes the filter."""
    if not texts and not replace(task, filter=None).texts([])[0]:
        raise unknown


def _by_both(task: _Task) -> Found:
    steps: list[Step] = []
    vector, unknown = task.vector()
    within = task.within(vector, unknown)
    if vector is None and unknown is None:
        return _by_text(task)
    texts, warnings = task.texts(steps, telling_only=vector is not None)
    if unknown is not None:
        _check_known(task, unknown, texts)
        warnings += (f"some words were looked for in texts only: {unknown}",)
    if within is not None:
        texts = text_hits_among(texts, within)
    if vector is None:
        return Found(task.without_scores(texts), tuple(steps), warnings, knows_matches=True)
    parts = task.texts_in_part(texts)
    if not texts and not parts:
        found = task.nearest(vector, task.k, task.filter)
        return replace(found, steps=(*steps, *found.steps), warnings=(*warnings, *found.warnings))
    return _merged(task, vector, texts, parts, steps, warnings)


def _merged(
    task: _Task,
    vector: QueryVector,
    texts: Sequence[TextHit],
    parts: Sequence[TextHit],
    steps: list[Step],
    warnings: tuple[str, ...],
) -> Found:
    matches_only, anywhere = task.options.matches_only, {"offset": 0, "matches_only": False}
    # Before an image by likeness come at least those that are more alike, so that no page needs more of them.
    found = task.nearest(vector, max(DEPTH, task.end), task.filter, **anywhere)
    unlimited = {**anywhere, "min_score": None, "min_relevance": None}
    known, steps = {hit.id: hit for hit in found.hits}, [*steps, *found.steps]
    by_likeness: list[Key] = []
    if telling := [hit.id for hit in texts]:
        written = task.nearest(vector, DEPTH, IdSet(telling), **unlimited)
        by_likeness = [hit.id for hit in written.hits]
        known |= {hit.id: hit for hit in written.hits}
        steps += written.steps
    warnings += found.warnings
    closest = [hit.id for hit in found.hits]
    best = set(closest[:DEPTH])
    texts = [*texts, *(hit for hit in parts if hit.id in best)]
    ids = merged(closest, texts, by_likeness)
    by_text = set(telling) if found.knows_matches else set()
    if found.knows_matches:
        matches = [
            id for id in ids if id in by_text or (id in known and is_relevant(known[id].relevance))
        ]
        shown = set(matches)
        ids = matches if matches_only else [*matches, *(id for id in closest if id not in shown)]
    elif matches_only:
        warnings += (UNKNOWN,)
    ids = ids[task.options.offset : task.end]
    if others := [id for id in ids if id not in known]:
        far = task.nearest(vector, len(others), IdSet(others), **unlimited)
        known |= {hit.id: hit for hit in far.hits}
    written_about = {hit.id for hit in texts}
    hits = [
        replace(
            known.get(id, Hit(id, None, None)),
            is_written=id in written_about,
            by_text=id in by_text,
        )
        for id in ids
    ]
    return Found(
        task.page(hits),
        tuple(steps),
        warnings,
        knows_matches=found.knows_matches,
    )


def merged(
    closest: Sequence[Key], texts: Sequence[TextHit], written: Sequence[Key] = ()
) -> list[Key]:
    """
    The ids by the sum of their reciprocal ranks among the texts and the DEPTH `closest`, the highest first; equal ones by
    likeness, as far as `written`, ids of texts, is in that order. After these the others of the closest. None comes twice.
    """
    likeness = {id: at for at, id in enumerate(written)}
    by_likeness = sorted(texts, key=lambda hit: likeness.get(hit.id, len(likeness)))
    sums = dict.fromkeys([*closest[:DEPTH], *(hit.id for hit in by_likeness)], 0.0)
    for rank, id in enumerate(closest[:DEPTH], 1):
        sums[id] += 1 / (SMOOTHING + rank)
    for hit in texts:
        sums[hit.id] += 1 / (SMOOTHING + hit.rank)
    best = sorted(sums, key=lambda id: -sums[id])
    return best + [id for id in closest[DEPTH:] if id not in sums]
