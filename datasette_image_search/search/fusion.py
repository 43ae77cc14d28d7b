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
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .. import store
from ..checked import check_whole
from ..embedders.protocol import EmbedderError
from ..store import Filter, Index, Key
from ..store.filters import IdSet, both_of, passing
from ..store.reads import count_images
from ..store.text_search import (
    TextHit,
    TextsDamaged,
    Words,
    not_about,
    text_hits,
    text_hits_among,
    text_hits_of,
    text_matches,
)
from ..store.written_texts import text_columns
from . import asked
from .asked import UNKNOWN, SearchOptions, Within
from .freshness import live_index
from .hits import Count, Extent, Found, Hit, Step, is_relevant, least_extent
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
    if isinstance(filter, Filter):
        # What is wrong with it is said before a model is loaded, which takes seconds.
        passing(conn, index, [], filter)
    if options.by == "likeness":
        vectors = [ask(query) for query in queries]
        return asked.find_images(conn, index, vectors, k, filter, options)
    check_whole("k", k, 1)
    check_whole("offset", options.offset, 0)
    _check_limits(options)
    if options.by == "both":
        live_index(conn, index)
    all_found = []
    for query in queries:
        is_text = isinstance(query, str | QueryWithFiles)
        name, alone = str(query) if is_text else "", len(queries) == 1 or not is_text
        # Texts, vectors and filter are of one state.
        with store.snapshot(conn), naming_the_query(name, alone=alone):
            all_found.append(Search(conn, index, query, filter, options, ask).find(k))
    return all_found


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


def leaves_texts_out(query: str) -> bool:
    """Whether a query has a text with a minus. Raises QueryError."""
    return bool(_unwanted(parse_query(query)))


def _unwanted(terms: Sequence[Term]) -> list[Words]:
    return [
        Words(term.text, term.quoted)
        for term in terms
        if term.kind is Kind.TEXT and term.weight < 0
    ]


def _check_limits(options: SearchOptions) -> None:
    if options.by == "text" and options.has_limits:
        raise QueryError(WITHOUT_SCORES)


def _terms(query: Query) -> tuple[Term, ...]:
    """None of a picture or a vector."""
    if isinstance(query, QueryWithFiles):
        return query.terms()
    return parse_query(query) if isinstance(query, str) else ()


def _words(terms: Sequence[Term], sign: int, *, in_tags: bool = True) -> list[Words]:
    """
    Those of the terms with a plus, 1, or with a minus, -1. Without `in_tags`, only what is to be found in texts is looked
    for in tags.
    """
    return [
        Words(term.text, term.quoted, in_tags or term.kind is Kind.TEXT)
        for term in terms
        if term.kind in (Kind.WORDS, Kind.TEXT) and term.weight * sign > 0
    ]


@dataclass(frozen=True)
class Search:
    """
    One query and what is asked of it, while the database stays in one state. Texts are searched once, however much is asked.

    All may raise QueryError, EmbedderError if there is no vector for a query and no text matches it, or an error of the planner.
    """

    conn: sqlite3.Connection
    index: Index
    query: Query
    filter: Filter | IdSet | None
    options: SearchOptions
    ask: Ask

    def find(self, k: int) -> Found:
        """The best k, after the first `offset` of the options."""
        _check_limits(self.options)
        if self._is_of_texts:
            return Found(self._without_scores(k), self._steps, self._warnings, knows_matches=True)
        if self.is_by_likeness:
            found = self._nearest(self._known_vector, k, self._some)
            return replace(
                found,
                steps=(*self._steps, *found.steps),
                warnings=(*self._warnings, *found.warnings),
            )
        return self._merged(k)

    def rest(self) -> Filter | None:
        """The images but those with the texts that the query has a minus before, "- text:lisbon"; None if it has none."""
        if self.options.by == "likeness":
            return None
        return not_about(self.conn, self.index.table, _unwanted(self._terms))

    def within(self) -> Within | None:
        """
        The images that the limits of the options leave, with `matches_only` the matches, by text those that are
        found. Others than those that pass the filter may be among them, so that another filter
        can be tried. None if nobody can tell, and there is nothing else to cut by.
        """
        _check_limits(self.options)
        if not self._is_of_texts and not self.options.matches_only:
            return self._limits
        texts = [hit.id for hit in self._texts.hits]
        if self.filter is not None:
            texts += [hit.id for hit in replace(self, filter=None)._texts.hits]
        found: Within | None = Within(IdSet([]))
        if not self._is_of_texts:
            found = asked.images_within(self.conn, self.index, self._known_vector, self.options)
        if found is None:
            return None
        ids = IdSet(list(dict.fromkeys([*found.ids.keys(), *texts])))
        return Within(ids, least_extent(found.extent, self.extent_of_texts))

    def closest(self, ids: IdSet, k: int) -> IdSet | None:
        """The closest k of some images, in any order; call it if the search is by likeness alone. None if find() reads no more."""
        return asked.closest_among(self.conn, self.index, self._known_vector, self.options, ids, k)

    @property
    def is_by_likeness(self) -> bool:
        """Whether no text changes what is found, or its order, but those with a minus."""
        if self.options.by == "likeness":
            return True
        return not (self._is_of_texts or self._texts.hits or self._single_words)

    @property
    def extent_of_texts(self) -> Extent:
        """Of the images that pass the filter and have the words, those that are looked at."""
        return "all" if self._texts.is_complete else "more than"

    def count_matches(self) -> Count:
        """How many images that pass the filter are matches; call it if anybody can tell."""
        texts, likely = self._texts.hits, None
        if not self._is_of_texts:
            options = replace(self.options, matches_only=True)
            likely = asked.images_within(self.conn, self.index, self._known_vector, options)
        if likely is None:
            return Count(len(texts), self.extent_of_texts)
        keys, some = set(likely.ids.keys()), self.rest()
        if isinstance(self.filter, IdSet):
            keys &= set(self.filter.keys())
        else:
            some = both_of(self.filter, some)
        number = len(keys)
        if some is not None:
            table = self.index.table
            among = IdSet(list(keys)).as_filter(table)
            number = count_images(self.conn, table, both_of(among, some))
        number += sum(hit.id not in keys for hit in texts)
        return Count(number, least_extent(likely.extent, self.extent_of_texts))

    @property
    def _terms(self) -> tuple[Term, ...]:
        return _terms(self.query)

    def _words(self, sign: int, *, in_tags: bool = True) -> list[Words]:
        return _words(self._terms, sign, in_tags=in_tags)

    @property
    def _single_words(self) -> list[Words]:
        """Those of terms of several: "watch" of "a red watch"."""
        return [each for term in self._words(1, in_tags=False) for each in term.each()]

    @cached_property
    def _some(self) -> Filter | IdSet | None:
        """What may be found: what passes the filter, and has no unwanted text."""
        rest = self.rest()
        if rest is None:
            return self.filter
        return both_of(_as_filter(self.filter, self.index), rest)

    @cached_property
    def _vector(self) -> tuple[QueryVector | None, EmbedderError | None]:
        """Of the query, or of what the model knows of it, and what is said of the rest."""
        if self.options.by == "likeness":
            return self.ask(self.query), None
        alike = [term for term in self._terms if term.kind is not Kind.TEXT]
        try:
            if len(alike) == len(self._terms):
                return self.ask(self.query), None
            return self._asked(alike) if alike else None, None
        except EmbedderError as error:
            return self._asked_in_part(alike), error

    @property
    def _known_vector(self) -> QueryVector:
        vector, _ = self._vector
        assert vector is not None
        return vector

    def _asked(self, terms: Sequence[Term]) -> QueryVector:
        text = format_query(terms)
        return self.ask(QueryWithFiles(text) if isinstance(self.query, QueryWithFiles) else text)

    def _asked_in_part(self, terms: Sequence[Term]) -> QueryVector | None:
        """The vector of those terms that the model knows, if the others are not all that is added."""
        known = []
        for term in terms:
            with suppress(EmbedderError):
                self._asked([term])
                known.append(term)
        return self._asked(known) if any(term.weight > 0 for term in known) else None

    @property
    def _is_of_texts(self) -> bool:
        """Whether there is no likeness to look for."""
        return self.options.by == "text" or self._vector[0] is None

    @cached_property
    def _limits(self) -> Within | None:
        """The images that the limits leave, by their likeness to the query; None if there are no limits."""
        if not self.options.has_limits:
            return None
        vector, unknown = self._vector
        if vector is None:
            raise unknown or QueryError(WITHOUT_SCORES)
        options = replace(self.options, matches_only=False)
        return asked.images_within(self.conn, self.index, vector, options)

    @cached_property
    def _texts(self) -> _Texts:
        """What is found by text and within the limits. Raises what the model says of words that nobody wrote either."""
        if self.options.by == "likeness":
            return _Texts()
        alone = self.options.by == "text" or self._vector == (None, None)
        if alone:
            self._check_texts()
        limits = None if self.options.by == "text" else self._limits
        texts = self._found_texts(telling_only=not self._is_of_texts)
        unknown = None if alone else self._vector[1]
        if unknown is not None:
            if (
                not texts.hits
                and not replace(self, filter=None)._found_texts(telling_only=False).hits
            ):
                raise unknown
            said = f"some words were looked for in texts only: {unknown}"
            texts = replace(texts, warnings=(*texts.warnings, said))
        if limits is not None:
            texts = replace(texts, hits=tuple(text_hits_among(texts.hits, set(limits.ids.keys()))))
        return texts

    def _check_texts(self) -> None:
        table = self.index.table
        if not text_columns(self.conn, table):
            raise QueryError(
                f"no texts of {table.name!r} can be searched yet; run embed-images again, which makes a table of them"
            )
        if not self._words(1):
            raise QueryError(
                "the query has no words to look for in texts; add some, or search by likeness"
            )

    def _found_texts(self, *, telling_only: bool) -> _Texts:
        """What is found by text, if the query has words and the table has texts."""
        started = time.perf_counter()
        # Tags tell what likeness tells, less exactly: a model gave each image those that fit it best.
        table, wanted = self.index.table, self._words(1, in_tags=not telling_only)
        unwanted = self._words(-1)
        if not wanted or not text_columns(self.conn, table):
            return _Texts()
        try:
            found = text_hits(
                self.conn, table, wanted, unwanted, self._some, telling_only=telling_only
            )
        except TextsDamaged as error:
            if self.options.by == "text":
                raise
            return _Texts(warnings=(str(error),))
        duration = (time.perf_counter() - started) * 1000
        step = Step("text", found.looked_at, len(found.hits), duration)
        return _Texts(found.hits, found.is_complete, (step,))

    @property
    def _steps(self) -> tuple[Step, ...]:
        return self._texts.steps

    @property
    def _warnings(self) -> tuple[str, ...]:
        return self._texts.warnings

    def _texts_in_part(self, closest: Sequence[Key]) -> list[TextHit]:
        """After the texts, what has a word of several, of the closest images: their order is all that it changes."""
        texts = {hit.id for hit in self._texts.hits}
        others = [id for id in closest if id not in texts]
        hits: list[TextHit] = []
        with suppress(TextsDamaged):
            table, unwanted = self.index.table, self._words(-1)
            hits = text_hits_of(self.conn, table, self._single_words, unwanted, others)
        return [TextHit(hit.id, hit.rank + len(texts)) for hit in hits]

    def _nearest(
        self, vector: QueryVector, k: int, filter: Filter | IdSet | None, **changes: Any
    ) -> Found:
        options = replace(self.options, **changes)
        (found,) = asked.find_images(self.conn, self.index, [vector], k, filter, options)
        return found

    def _without_scores(self, k: int) -> tuple[Hit, ...]:
        offset = self.options.offset
        hits = [
            Hit(hit.id, None, None, is_written=True, by_text=True)
            for hit in self._texts.hits[offset : offset + k]
        ]
        return self._page(hits)

    def _page(self, hits: Sequence[Hit]) -> tuple[Hit, ...]:
        """The hits that are asked for, with the words that are written about them."""
        if not self.options.with_matched:
            return tuple(hits)
        return with_matched(self.conn, self.index, self.query, hits)

    def _merged(self, k: int) -> Found:
        vector, texts, end = self._known_vector, self._texts.hits, self.options.offset + k
        matches_only, anywhere = self.options.matches_only, {"offset": 0, "matches_only": False}
        # Before an image by likeness come at least those that are more alike, so that no page needs more of them.
        found = self._nearest(vector, max(DEPTH, end), self._some, **anywhere)
        unlimited = {**anywhere, "min_score": None, "min_relevance": None}
        known, steps = {hit.id: hit for hit in found.hits}, [*self._steps, *found.steps]
        warnings = (*self._warnings, *found.warnings)
        by_likeness: list[Key] = []
        if telling := [hit.id for hit in texts]:
            written = self._nearest(vector, DEPTH, IdSet(telling), **unlimited)
            by_likeness = [hit.id for hit in written.hits]
            known |= {hit.id: hit for hit in written.hits}
            steps += written.steps
        closest = [hit.id for hit in found.hits]
        all_texts = [*texts, *self._texts_in_part(closest[:DEPTH])]
        ids = merged(closest, all_texts, by_likeness)
        by_text = set(telling) if found.knows_matches else set()
        if found.knows_matches:
            alike = [is_relevant(hit.relevance) for hit in found.hits]
            ids = matches_first(ids, closest, alike, by_text)
            if matches_only:
                matches = by_text.union(
                    id for id, is_match in zip(closest, alike, strict=True) if is_match
                )
                ids = [id for id in ids if id in matches]
        elif matches_only:
            warnings += (UNKNOWN,)
        ids = ids[self.options.offset : end]
        if others := [id for id in ids if id not in known]:
            far = self._nearest(vector, len(others), IdSet(others), **unlimited)
            known |= {hit.id: hit for hit in far.hits}
        written_about = {hit.id for hit in all_texts}
        hits = [
            replace(
                known.get(id, Hit(id, None, None)),
                is_written=id in written_about,
                by_text=id in by_text,
            )
            for id in ids
        ]
        return replace(found, hits=self._page(hits), steps=tuple(steps), warnings=warnings)


@dataclass(frozen=True)
class _Texts:
    """What is found by text, the step to it, and warnings; there may be more hits unless `is_complete`."""

    hits: tuple[TextHit, ...] = ()
    is_complete: bool = True
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()


def _as_filter(some: Filter | IdSet | None, index: Index) -> Filter | None:
    return some.as_filter(index.table) if isinstance(some, IdSet) else some


def matches_first(
    ids: Sequence[Key], closest: Sequence[Key], alike: Sequence[bool], by_text: Set[Key]
) -> list[Key]:
    """
    Of the merged ids the matches, by text or `alike`, a bool for each of the closest, and then the others of these. A
    bounded search may find matches behind the first that is none. These stay there: how far it looks changes no page before.
    """
    first = set(closest[: (*alike, False).index(False)]) | by_text
    return [*(id for id in ids if id in first), *(id for id in closest if id not in first)]


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
