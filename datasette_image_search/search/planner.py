"""
Vector + filter -> hits: the best ones, and as many as asked for if so many rows match.

Rank first, filter in order, widen, and only then enumerate:

1. rank: the best hundred of the whole index; SQLite is asked which of those pass the filter.
2. widen: some times as many, when too few passed and more would be enough. All scores are there by
   then, so that this costs no second search.
3. enumerate: the filter is narrow, so list what passes it, once, and rank exactly that. Where an
   index of the table finds the few rows that pass, or an engine has the vectors, this comes first.

The ranking is by float16 codes, of all vectors or of those that codes in bytes leave (see all_scores.py). A hit's
score is computed from the float32 vector in the database, and the ranking is widened until no code that was not looked at could belong among the hits. A film has several
vectors: it is ranked by its best code, and its score is the best of theirs. Where the index is an approximate one, the first ranking is of what that proposes, and the hits are as good
as its recall, which is known of the best few; whoever asks for more, or for what passes a filter, is
answered exactly. A bounded search is not: above LARGE vectors it looks into no more than that index does, as long as
enough of that passes. However deep a page is, it is a part of the same hits, see _in_lists().
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import repeat

import numpy as np

from .. import store
from ..checked import check_flag, check_whole
from ..store import Filter, Index, filters
from ..store.filters import IdSet, is_indexed, matching, matching_images, passing_images
from ..store.vectors import scene_times, vectors_by_id
from .all_scores import AllScores
from .bounded import is_large, proposed
from .exact import EXACT_CHUNK, exact_scores
from .hits import Found, Hit, Step, best_first
from .live import LiveIndex, as_seen_by, live_index

FIRST = 128
"""Candidates of the first step."""

WIDEN = 4
"""Each step has this many times the candidates of the one before ..."""

ENOUGH = 1.5
"""... or this many times those of which enough would pass, if that is less ..."""

WIDEST = 16_384
"""... up to about here, where listing the rows that pass a narrow filter costs less."""

NARROW = 1 / 25
"""The share of the images up to which they are listed before the ranking, if an index finds them."""

LISTED = 150_000
"""So many of them are listed in time for a page."""

SELECTED = 1 / 20
"""The share up to which FAISS is quicker with a selector than numpy with all scores."""

SNAPSHOTS = 3
"""The number of times that a search starts again because another program wrote meanwhile."""


def search_live(
    conn: sqlite3.Connection,
    live: LiveIndex,
    ranking: np.ndarray,
    k: int,
    filter: Filter | IdSet | None = None,
    *,
    offset: int = 0,
    exact: bool = False,
    bounded: bool = False,
    among: Sequence[np.ndarray] | None = None,
) -> list[Found]:
    """
    For each of m queries as ranking_vectors() makes them, all ranked by one FAISS call, the min(k, matching)
    images that are closest to it, after the first `offset` of them. `among` has a bool per position for each,
    which limits it to those.

    `exact` leaves an approximate index aside, `bounded` looks no further if the others are more than LARGE, and has hits in
    the one order that all pages are parts of, in which some may be better than some before. Raises FilterError if SQLite does
    not take the filter, ImageSearchError for k below 1 or a negative offset.
    """
    check_whole("k", k, 1)
    check_whole("offset", offset, 0)
    check_flag("exact", exact)
    is_bounded = bounded and not exact and is_large(live)
    plan = _Plan(conn, live.index, live, filter, k + offset, exact, is_bounded, among)
    found = []
    for hits, steps in _find_page(plan, ranking, offset):
        is_whole = not is_bounded or (among is None and any(s.name == "enumerate" for s in steps))
        in_order = tuple(hits if bounded else sorted(hits, key=best_first))
        found.append(Found(in_order, tuple(steps), extent="all" if is_whole else "at least"))
    return found


@contextmanager
def live_snapshot(conn: sqlite3.Connection, index: Index) -> Iterator[LiveIndex]:
    """
    The live index, while the database stays in the state that it is of: filter, vectors and scores
    are read one after the other. A statement or a transaction that began before, or that has written
    itself, sees another state for as long as it lasts; then the index is made to fit that.
    """
    for _ in range(SNAPSHOTS):
        live = live_index(conn, index)
        with store.snapshot(conn):
            index = store.find_index(conn, index.image_table, index.model)
            if index == live.index:
                yield live
                return
    with store.snapshot(conn):
        index = store.find_index(conn, index.image_table, index.model)
        yield as_seen_by(conn, live, index)


@dataclass
class _Plan:
    """The task of a search for all its vectors. `listed` is set once the filter was enumerated."""

    conn: sqlite3.Connection
    index: Index
    live: LiveIndex
    filter: Filter | IdSet | None
    wanted: int
    exact: bool
    bounded: bool
    among: Sequence[np.ndarray] | None = None
    listed: np.ndarray | None = field(default=None)

    @property
    def deepest(self) -> int:
        """The most hits to ask an approximate index for; 0 if it must not be used."""
        # Its recall was measured for all images; under a filter it would miss more.
        is_limited = self.filter is not None or self.among is not None
        tuning = self.live.tuning
        return 0 if self.exact or is_limited or tuning is None else tuning.deepest

    def passing(self, ranking: _Ranking) -> list[int]:
        """The ids of the ranked vectors whose image passes the filter, each once, in the same order."""
        if self.filter is None or isinstance(self.filter, IdSet):
            return ranking.ids()
        if not self.live.has_image_ids:
            return filters.passing(self.conn, self.index, ranking.ids(), self.filter)
        images = self.live.image_ids(ranking.positions)
        passed = passing_images(self.conn, self.index, images, self.filter)
        return _once(ranking.vector_ids[np.isin(images, passed)])

    def there(self, vector_ids: list[int]) -> list[int]:
        """Those of the vectors that are still there, of the picture that their image has."""
        return filters.passing(self.conn, self.index, vector_ids, None)


@dataclass(frozen=True)
class _Ranking:
    """Vectors, of a film with one id, by their scores. `complete` is True if no vector is missing that could pass."""

    scores: np.ndarray
    positions: np.ndarray
    vector_ids: np.ndarray
    complete: bool

    def ids(self) -> list[int]:
        return _once(self.vector_ids)

    def without(self, left_out: np.ndarray) -> _Ranking:
        """Those at other positions than these, a bool for each."""
        rest = ~left_out[self.positions]
        ranked = self.scores[rest], self.positions[rest], self.vector_ids[rest]
        return _Ranking(*ranked, self.complete)


def _once(ids: np.ndarray) -> list[int]:
    """Each where it comes first."""
    return list(dict.fromkeys(ids.tolist()))


def _find_page(
    plan: _Plan, vectors: np.ndarray, offset: int
) -> Iterator[tuple[list[Hit], list[Step]]]:
    """
    For each vector the wanted hits after the first `offset`, and the steps to them. If the first page
    came from an approximate index and this one goes deeper, it includes images that earlier pages missed,
    and none that they had.
    """
    goes_on = plan.wanted - offset <= plan.deepest < plan.wanted
    if not goes_on:
        for hits, steps in _find_all(plan, vectors):
            yield hits[offset:], steps
        return
    before = _find_all(replace(plan, wanted=plan.deepest), vectors)
    for (seen, steps), (hits, more_steps) in zip(before, _find_all(plan, vectors), strict=True):
        ids = {hit.id for hit in seen}
        page = [*seen, *(hit for hit in hits if hit.id not in ids)][offset : plan.wanted]
        yield page, steps + more_steps


def _find_all(plan: _Plan, vectors: np.ndarray) -> Iterator[tuple[list[Hit], list[Step]]]:
    """For each vector the best that are wanted, and the steps to them."""
    live = plan.live
    steps: list[Step] = []
    # An engine is read as a whole for each ranking, or would miss more than its recall says.
    is_read = plan.filter is not None and not live.ranks_all and not plan.bounded
    is_listed = plan.among is not None or isinstance(plan.filter, IdSet)
    if is_listed or is_read or _list_if_few(plan, steps):
        for at, vector in enumerate(vectors):
            chosen = None if plan.among is None else plan.among[at]
            yield _enumerate(plan, vector, None, steps, chosen), steps
            steps = []
        return
    is_proposed = plan.wanted <= plan.deepest
    if plan.bounded and not is_proposed:
        for vector in vectors:
            yield _in_lists(plan, vector, steps), steps
            steps = []
        return
    n = max(FIRST, 2 * plan.wanted)
    started = time.perf_counter()
    ranked: Iterable[tuple[np.ndarray, np.ndarray]]
    if is_proposed:
        ranked = live.propose(vectors)
    elif len(vectors) == 1 and (plan.filter is not None or live.segments[0].in_bytes is not None):
        # All scores take hardly longer than the best few hundred, and are there if those are too few.
        yield _widen(plan, vectors[0], n, steps), steps
        return
    else:
        ranked = zip(*live.nearest(vectors, n), strict=True)
    name = "propose" if is_proposed else "rank"
    complete = is_proposed or n >= len(live)
    for vector, (scores, positions) in zip(vectors, ranked, strict=True):
        scores, positions = _known(scores, positions)
        ranking = _ranking(live, scores, positions, complete=complete)
        passed = plan.passing(ranking)
        steps.append(_step(name, positions, passed, started))
        hits = None
        # If it proposes too few for the deepest page, no page uses it, because pages must agree.
        if not is_proposed or len(passed) >= min(plan.deepest, len(live)):
            hits = _settle(plan, vector, ranking, passed, steps)
        if hits is None or (is_proposed and len(hits) < plan.wanted):
            if plan.bounded:
                hits = _in_lists(plan, vector, steps)
            elif _is_hopeful(plan, len(passed), n):
                # The proposed candidates were not the best n, so look at these first.
                hits = _widen(plan, vector, n if is_proposed else n * WIDEN, steps)
            else:
                hits = _enumerate(plan, vector, None, steps)
        yield hits, steps
        steps = []
        started = time.perf_counter()


def _widen(plan: _Plan, vector: np.ndarray, n: int, steps: list[Step]) -> list[Hit]:
    """The best by the scores of all; it looks at the best n first, and then at more."""
    live = plan.live
    name = "widen" if any(step.name in ("rank", "propose") for step in steps) else "rank"
    started = time.perf_counter()
    # An engine must be asked each time.
    scores = AllScores(live, vector) if live.ranks_all else None
    asked, passing = np.zeros(len(live), dtype=bool), set[int]()
    while True:
        n = min(n, len(live))
        if scores is not None:
            found, positions = scores.best(n)
        else:
            found, positions = _known(*(each[0] for each in live.nearest(vector[None], n)))
        ranking = _ranking(live, found, positions, complete=n >= len(live))
        passing.update(plan.passing(ranking.without(asked)))
        asked[positions] = True
        passed_ids = [id for id in ranking.ids() if id in passing]
        steps.append(_step(name, positions, passed_ids, started))
        hits = _settle(plan, vector, ranking, passed_ids, steps)
        if hits is not None:
            return hits
        if n >= WIDEST and len(passed_ids) >= plan.wanted:
            # Thousands of near-copies tie: one may stand for another whose score is within 1e-3.
            hits = _settle(plan, vector, replace(ranking, complete=True), passed_ids, steps)
            if hits is not None and len(hits) == plan.wanted:
                return hits
        if not _is_hopeful(plan, len(passed_ids), n):
            return _enumerate(plan, vector, scores, steps)
        n = _wider(plan, len(passed_ids), n)
        name, started = "widen", time.perf_counter()


def _in_lists(plan: _Plan, vector: np.ndarray, steps: list[Step]) -> list[Hit]:
    """
    The best that are wanted of one order for all pages, so that no hit is on two of them or on none: of the first
    proposals the better half, then as many of twice as many, and so on, of the last ones all, and then all others.
    """
    hits, passing, started = dict[int, Hit](), set[int](), time.perf_counter()
    asked = np.zeros(len(plan.live), dtype=bool)
    for scores, positions, is_last in proposed(plan.live, vector, 2 * FIRST, WIDEST):
        ranking = _ranking(plan.live, scores, positions, complete=True)
        passing.update(plan.passing(ranking.without(asked)))
        asked[positions] = True
        passed = [id for id in ranking.ids() if id in passing]
        steps.append(_step("widen" if steps else "rank", positions, passed, started))
        enough = min(len(passed) if is_last else len(passed) // 2, plan.wanted)
        if (more := enough - len(hits)) > 0:
            rest = [id for id in passed if id not in hits]
            hits |= _settled(replace(plan, wanted=more), vector, ranking, rest, steps) or {}
        if len(hits) >= plan.wanted:
            break
        started = time.perf_counter()
    ids = {hit.id for hit in hits.values()}
    others = _enumerate(plan, vector, None, steps) if len(ids) < plan.wanted else []
    return [*hits.values(), *(hit for hit in others if hit.id not in ids)][: plan.wanted]


def _is_hopeful(plan: _Plan, passed: int, looked_at: int) -> bool:
    """Whether enough would pass within the widest ranking, if as many passed as did so far, or one: none may be chance."""
    if plan.filter is None:
        return True
    return max(1, passed) * WIDEST >= plan.wanted * looked_at and looked_at < WIDEST


def _wider(plan: _Plan, passed: int, looked_at: int) -> int:
    """The candidates of the next step: no more than will do, if as many of them pass as did so far."""
    if passed >= plan.wanted:
        return looked_at * WIDEN
    enough = int(ENOUGH * looked_at * plan.wanted / max(1, passed))
    return min(looked_at * WIDEN, enough)


def _list_if_few(plan: _Plan, steps: list[Step]) -> bool:
    """Enumerate the images that pass the filter, if an index finds them and they are few."""
    if not isinstance(plan.filter, Filter) or not plan.live.has_image_ids:
        return False
    few = int(len(plan.live) * NARROW)
    if plan.bounded:
        few = min(few, LISTED)
    if not few or not is_indexed(plan.conn, plan.index, plan.filter):
        return False
    started = time.perf_counter()
    images = matching_images(plan.conn, plan.index, plan.filter, few + 1)
    if len(images) > few:
        steps.append(_step("list", images, [], started))
        return False
    plan.listed = plan.live.chosen_images(images)
    steps.append(_step("list", images, images, started))
    return True


def _enumerate(
    plan: _Plan,
    vector: np.ndarray,
    scores: AllScores | None,
    steps: list[Step],
    among: np.ndarray | None = None,
) -> list[Hit]:
    """
    The best of exactly the images that pass the filter, and are `among` those with a true; `scores` of all
    positions, if known.
    """
    started = time.perf_counter()
    live = plan.live
    if plan.listed is None:
        plan.listed = _listed(plan)
    chosen = plan.listed if among is None else plan.listed & among
    listed = np.flatnonzero(chosen)
    # Far from the query scores lie close together, and a second search costs more than a larger one.
    n = max(FIRST * WIDEN, 2 * plan.wanted)
    if scores is None and live.ranks_all and len(listed) > SELECTED * len(live):
        scores = AllScores(live, vector)
    while True:
        if scores is not None:
            found, positions = scores.best(n, listed)
        else:
            found, positions = _known(*(each[0] for each in live.nearest(vector[None], n, chosen)))
        ranking = _ranking(live, found, positions, complete=n >= len(listed))
        steps.append(_step("enumerate", listed, positions, started))
        hits = _settle(plan, vector, ranking, ranking.ids(), steps)
        if hits is not None:
            return hits
        n *= WIDEN
        started = time.perf_counter()


def _listed(plan: _Plan) -> np.ndarray:
    """A bool per position: whether its image passes the filter."""
    live, filter = plan.live, plan.filter
    if filter is None:
        return np.ones(len(live), dtype=bool)
    if not live.has_image_ids:
        return live.chosen_vectors(matching(plan.conn, plan.index, filter))
    if isinstance(filter, IdSet):
        return live.chosen_images(np.asarray(filter.ids, dtype=np.int64))
    return live.chosen_images(matching_images(plan.conn, plan.index, filter))


def _known(scores: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the ends of rankings that have fewer positions than were asked for."""
    return scores[positions >= 0], positions[positions >= 0]


def _ranking(
    live: LiveIndex, scores: np.ndarray, positions: np.ndarray, *, complete: bool
) -> _Ranking:
    return _Ranking(scores, positions, live.vector_ids(positions), complete)


def _settle(
    plan: _Plan, vector: np.ndarray, ranking: _Ranking, passed: list[int], steps: list[Step]
) -> list[Hit] | None:
    """
    The best of the ranked ids that passed, with the scores of their vectors in the database; None
    where too few passed, or one below the ranking may be better.
    """
    found = _settled(plan, vector, ranking, passed, steps)
    return None if found is None else list(found.values())


def _settled(
    plan: _Plan, vector: np.ndarray, ranking: _Ranking, passed: list[int], steps: list[Step]
) -> dict[int, Hit] | None:
    """The same, by the ids of their vectors."""
    started = time.perf_counter()
    error = plan.live.error(vector)
    closest = _closest(ranking, passed, plan.wanted, error)
    if closest is None:
        return None
    scored = _scored(plan, vector, closest)
    best = [each.vector_id for each in scored[: plan.wanted]]
    if len(scored) < len(closest) or len(plan.there(best)) < len(best):
        # Some are not there any more, or of a picture that is not: without these, others are close.
        passed = plan.there(passed)
        closest = _closest(ranking, passed, plan.wanted, error)
        if closest is None:
            return None
        scored = _scored(plan, vector, closest)
    hits = _with_times(plan, scored[: plan.wanted])
    steps.append(_step("score", closest, hits, started))
    return {each.vector_id: hit for each, hit in zip(scored, hits, strict=False)}


def _closest(ranking: _Ranking, passed: list[int], k: int, error: float) -> list[int] | None:
    """
    Those of the ranked ids that passed and may be among the best k, where scores have such an error;
    None if an id below the ranking may be one too.
    """
    if len(passed) < k:
        return passed if ranking.complete else None
    # The best of several comes last here, and stays.
    ids, scores = ranking.vector_ids[::-1].tolist(), ranking.scores[::-1].tolist()
    score_of = dict(zip(ids, scores, strict=True))
    least = score_of[passed[k - 1]] - 2 * error
    if ranking.scores[-1] > least and not ranking.complete:
        return None
    return [id for id in passed if score_of[id] >= least]


@dataclass(frozen=True)
class _Scored:
    """A hit by the vectors with an id, and the number of the best of them, from 0."""

    vector_id: int
    hit: Hit
    best: int


def _scored(plan: _Plan, vector: np.ndarray, ids: list[int]) -> list[_Scored]:
    """Those of the vectors that are there, by their float32 scores, best first."""
    found = []
    for start in range(0, len(ids), EXACT_CHUNK):
        stored = vectors_by_id(plan.conn, plan.index, ids[start : start + EXACT_CHUNK])
        scores, corrected = exact_scores(plan.live.references, stored.vectors, vector)
        starts = stored.starts()
        bests: Iterable[int] = repeat(0)
        if len(starts) < len(corrected):
            bests = [int(part.argmax()) for part in np.split(corrected, starts[1:])]
        found += [
            _Scored(vector_id, Hit(stored.image_ids[at], score, corrected), best)
            for at, vector_id, score, corrected, best in zip(
                starts.tolist(),
                stored.vector_ids[starts].tolist(),
                stored.highest(scores).tolist(),
                stored.highest(corrected).tolist(),
                bests,
                strict=False,
            )
        ]
    return sorted(found, key=lambda each: best_first(each.hit))


def _with_times(plan: _Plan, scored: Sequence[_Scored]) -> list[Hit]:
    """The hits, those of films with the seconds of their best scene."""
    times = scene_times(plan.conn, plan.index, [each.vector_id for each in scored])
    return [
        replace(each.hit, at=times[each.vector_id][each.best])
        if each.best < len(times.get(each.vector_id, ()))
        else each.hit
        for each in scored
    ]


def _step(name: str, looked_at: Sized, passed: Sized, started: float) -> Step:
    return Step(name, len(looked_at), len(passed), (time.perf_counter() - started) * 1000)
