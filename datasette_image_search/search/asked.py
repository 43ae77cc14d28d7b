"""The answer to queries that are vectors already: ranked as they ask for, and cut where they ask for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from ..checked import check_choice, check_flag, check_number, check_share
from ..store import Filter, Index, Key
from ..store.filters import IdSet, there
from ..store.references import References
from ..store.vectors import image_vectors, vectors_by_id
from . import planner
from .all_scores import AllScores
from .bounded import is_large
from .correction import Rank, ranking_vectors
from .exact import EXACT_CHUNK, exact_at, exact_scores, reaching
from .freshness import live_snapshot
from .hits import LINE, Extent, Found
from .live import LiveIndex
from .lost_engines import survives_engines
from .query import QueryVector
from .relevance import NEGLIGIBLE, Relevance, relevance_of

UNKNOWN = (
    "the relevance of these images is not known, so none was left out: there are too few of them, or nothing to "
    "compare the query with; run index-images where the model of the table is installed"
)

By = Literal["likeness", "text", "both"]


@dataclass(frozen=True)
class SearchOptions:
    """
    `offset` leaves out so many of the best, `min_score` the images with a lower score, and `min_relevance` those
    that are less relevant, 0 to 1; `matches_only` leaves the matches, or all if nobody can tell. `exact` leaves an
    approximate index aside; `bounded` looks no further than that if there are millions of vectors, also for what is left by
    limits, and by a filter as long as enough passes. `rank` "cosine" orders by the score alone, without the correction for pictures that are
    close to any words. `by` is "likeness", or "text" for the images that the words are written about, or "both"; a hit
    then has the texts that `matched`, unless `with_matched` is False, which saves time for thousands of hits.
    """

    offset: int = 0
    min_score: float | None = None
    min_relevance: float | None = None
    matches_only: bool = False
    exact: bool = False
    bounded: bool = False
    rank: Rank = "corrected"
    by: By = "likeness"
    with_matched: bool = True

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(By))
        check_flag("matches_only", self.matches_only)
        check_flag("with_matched", self.with_matched)
        check_flag("bounded", self.bounded)
        check_choice("rank", self.rank, get_args(Rank))
        if self.min_score is not None:
            check_number("min_score", self.min_score)
        if self.min_relevance is not None:
            check_share("min_relevance", self.min_relevance, such_as=0.95)

    @property
    def least_relevance(self) -> float | None:
        """What an image must have by likeness."""
        if self.matches_only:
            return max(LINE, self.min_relevance or 0)
        return self.min_relevance

    @property
    def has_limits(self) -> bool:
        """Whether images are left out by their likeness."""
        return self.min_score is not None or self.min_relevance is not None


@survives_engines
def find_images(
    conn: sqlite3.Connection,
    index: Index,
    asked: Sequence[QueryVector],
    k: int,
    filter: Filter | IdSet | None,
    options: SearchOptions,
) -> list[Found]:
    """For each query the best k images, as planner.search_live() has them, with their relevance."""
    with live_snapshot(conn, index) as live:
        ranking = _ranking(live, asked, options)
        relevances = [
            relevance_of(live, row, query) for row, query in zip(ranking, asked, strict=True)
        ]
        among = None
        if options.min_score is not None and ranking.shape[1] > index.dimensions:
            # In another order than that of the score, what is left out is anywhere.
            among = [
                reaching(conn, live, each.vector, options.min_score, bounded=options.bounded)
                for each in asked
            ]
        all_found = planner.search_live(
            conn,
            live,
            ranking,
            k,
            filter,
            offset=options.offset,
            exact=options.exact,
            bounded=options.bounded,
            among=among,
        )
    return [
        _complete(found, relevance, query, options)
        for found, relevance, query in zip(all_found, relevances, asked, strict=True)
    ]


@dataclass(frozen=True)
class Judge:
    """What tells the relevance of images to one query, by `row`, its row of ranking_vectors()."""

    index: Index
    references: References | None
    row: np.ndarray
    relevance: Relevance | None

    def __call__(self, conn: sqlite3.Connection, key: Key) -> float | None:
        """Of one image; None if it has no vector, or nothing is known to compare with."""
        if self.relevance is None:
            return None
        vectors = image_vectors(conn, self.index, key)
        if not len(vectors):
            return None
        _, corrected = exact_scores(self.references, vectors, self.row)
        return float(self.relevance(corrected.max(keepdims=True))[0])


def judge_of(live: LiveIndex, query: QueryVector) -> Judge:
    """The judge for a query while the database stays in the state that `live` is of."""
    (row,) = _ranking(live, [query], SearchOptions())
    return Judge(live.index, live.references, row, relevance_of(live, row, query))


@survives_engines
def judge_now(conn: sqlite3.Connection, query: QueryVector) -> Judge:
    """judge_of() the vectors as committed now."""
    with live_snapshot(conn, query.index) as live:
        return judge_of(live, query)


@survives_engines
def relevance_of_image(conn: sqlite3.Connection, query: QueryVector, key: Key) -> float | None:
    """Of one image; None if it has no vector, or nothing is known to compare with."""
    with live_snapshot(conn, query.index) as live:
        return judge_of(live, query)(conn, key)


def all_relevances(conn: sqlite3.Connection, live: LiveIndex, query: QueryVector) -> np.ndarray:
    """
    At the first position of every image, shape (len,), float64, as relevance_of_image() has it, and 0 at the others;
    NaN if nothing is known to compare with.
    """
    judge = judge_of(live, query)
    row, relevance = judge.row, judge.relevance
    if relevance is None:
        return np.full(len(live), np.nan)
    found = np.zeros(len(live))
    least = relevance.score_of(NEGLIGIBLE) - live.error(row)
    for positions, corrected in exact_at(
        conn, live, np.flatnonzero(live.scores(row) >= least), row
    ):
        found[positions] = relevance(corrected)
    return found


@dataclass(frozen=True)
class Within:
    """The images that limits leave, or at least so many of them."""

    ids: IdSet
    extent: Extent = "all"


@survives_engines
def images_within(
    conn: sqlite3.Connection, index: Index, query: QueryVector, options: SearchOptions
) -> Within | None:
    """
    Exactly the images that the options leave by likeness, but see `bounded`; None if nobody can tell the relevance of
    any, and there is nothing else to cut by.
    """
    with live_snapshot(conn, index) as live:
        (row,) = _ranking(live, [query], options)
        relevance = relevance_of(live, row, query)
        if relevance is None and options.min_score is None:
            return None
        positions = np.flatnonzero(_within(conn, live, row, query, relevance, options))
        extent: Extent = "at least" if options.bounded and is_large(live) else "all"
        if extent != "all" and live.has_image_ids and live.gone is not None:
            # To look for each of a hundred thousand in the database would take longer than all else.
            return Within(IdSet(np.unique(live.image_ids(live.not_gone(positions)))), extent)
        vector_ids = np.unique(live.vector_ids(positions))
        ids = there(conn, live.index, vector_ids.tolist(), live.images_of(vector_ids))
        if live.has_image_ids:
            found = live.image_ids(live.positions_of(np.array(ids, dtype=np.int64)))
            return Within(IdSet(found), extent)
        keys = [
            key
            for start in range(0, len(ids), EXACT_CHUNK)
            for key in vectors_by_id(conn, live.index, ids[start : start + EXACT_CHUNK]).image_ids
        ]
        return Within(IdSet(list(dict.fromkeys(keys))), extent)


@survives_engines
def closest_among(
    conn: sqlite3.Connection,
    index: Index,
    query: QueryVector,
    options: SearchOptions,
    ids: IdSet,
    k: int,
) -> IdSet | None:
    """
    The k of some images with vectors that are closest to a query, in any order. Only vectors about which the codes leave a
    doubt are read; None if keys are texts, if nobody knows which vectors are gone, or if an engine has the codes, where as
    many are read as by a search.
    """
    with live_snapshot(conn, index) as live:
        if not (live.has_image_ids and live.ranks_all) or live.gone is None:
            return None
        (row,) = _ranking(live, [query], options)
        among = np.flatnonzero(live.chosen_images(np.asarray(ids.ids, dtype=np.int64)))
        # An image that was embedded anew has its former vector here, too.
        among = live.not_gone(among)
        scores, positions = AllScores(live, row).best(len(among), among)
        # Of the scenes of a film the closest comes first.
        _, firsts = np.unique(live.image_ids(positions), return_index=True)
        firsts.sort()
        scores, positions = scores[firsts], positions[firsts]
        if len(positions) <= k:
            return IdSet(live.image_ids(positions))
        # What the score of one may be off is added to what that of the last one may be.
        apart = 2 * live.error(row)
        is_sure = scores > scores[k - 1] + apart
        unsure = positions[~is_sure & (scores >= scores[k - 1] - apart)]
        exact = [
            (-score, image_id)
            for some, best in exact_at(conn, live, unsure, row)
            for score, image_id in zip(best.tolist(), live.image_ids(some).tolist(), strict=True)
        ]
        sure = live.image_ids(positions[is_sure]).tolist()
        return IdSet([*sure, *(image_id for _, image_id in sorted(exact)[: k - len(sure)])])


def _ranking(live: LiveIndex, asked: Sequence[QueryVector], options: SearchOptions) -> np.ndarray:
    vectors = np.stack([query.vector for query in asked])
    words = np.array([sum(query.words) for query in asked])
    if options.rank == "cosine":
        return vectors
    return ranking_vectors(live.index, live.references, vectors, words)


def _within(
    conn: sqlite3.Connection,
    live: LiveIndex,
    row: np.ndarray,
    query: QueryVector,
    relevance: Relevance | None,
    options: SearchOptions,
) -> np.ndarray:
    """A bool per position: whether the image may be shown. Of what nobody knows, nothing is left out."""
    within = np.ones(len(live), dtype=bool)
    if options.least_relevance is not None and relevance is not None:
        least = relevance.score_of(options.least_relevance)
        within &= reaching(conn, live, row, least, bounded=options.bounded)
    if options.min_score is not None:
        within &= reaching(conn, live, query.vector, options.min_score, bounded=options.bounded)
    return within


def _complete(
    found: Found, relevance: Relevance | None, query: QueryVector, options: SearchOptions
) -> Found:
    """With relevances and warnings, and without the hits that the options leave out."""
    hits, warnings = found.hits, query.warnings
    if relevance is not None and hits:
        values = relevance(np.array([hit.corrected for hit in hits])).tolist()
        hits = tuple(replace(hit, relevance=value) for hit, value in zip(hits, values, strict=True))
    least, least_score = options.least_relevance, options.min_score
    if least is not None:
        if relevance is None:
            warnings = (*warnings, UNKNOWN)
        hits = tuple(hit for hit in hits if _is_at_least(hit.relevance, least))
    if least_score is not None:
        hits = tuple(hit for hit in hits if _is_at_least(hit.score, least_score))
    return replace(found, hits=hits, warnings=warnings, knows_matches=relevance is not None)


def _is_at_least(value: float | None, least: float) -> bool:
    """Of what nobody knows, nothing is left out."""
    return value is None or value >= least
