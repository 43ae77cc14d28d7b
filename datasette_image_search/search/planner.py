"""
Vector + filter -> hits: the best ones, and as many as asked for if so many rows match.

Rank first, filter in order, widen, and only then enumerate:

1. rank: the best hundred of the whole index; SQLite is asked which of those pass the filter.
2. widen: some times as many, when too few passed and more would be enough. All scores are there by
   then, so that this costs no second search.
3. enumerate: the filter is narrow, so list what passes it, once, and rank exactly that. If an index of
   the table finds the few rows that pass, or is quickly scanned for them, or an engine has the vectors, this comes first.

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..checked import check_flag, check_whole
from ..store import Filter
from ..store.filters import IdSet
from .all_scores import AllScores
from .bounded import is_large, proposed
from .hits import Found, Hit, Step, best_first
from .live import LiveIndex
from .plan import Plan, listed_if_few
from .ranking import ranking_of
from .settling import settle, settled

FIRST = 128
"""Candidates of the first step."""

WIDEN = 4
"""Each step has this many times the candidates of the one before ..."""

ENOUGH = 1.5
"""... or this many times those more of which enough would pass, if that is less: of 20 searches, one is still short ..."""

WIDEST = 16_384
"""... up to about here, where listing the rows that pass a narrow filter costs less."""


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
    plan = Plan(conn, live, filter, k + offset, exact, is_bounded, among)
    found = []
    for hits, steps in _find_page(plan, ranking, offset):
        is_whole = not is_bounded or (among is None and any(s.name == "enumerate" for s in steps))
        in_order = tuple(hits if bounded else sorted(hits, key=best_first))
        found.append(Found(in_order, tuple(steps), extent="all" if is_whole else "at least"))
    return found


def _find_page(
    plan: Plan, vectors: np.ndarray, offset: int
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


def _find_all(plan: Plan, vectors: np.ndarray) -> Iterator[tuple[list[Hit], list[Step]]]:
    """For each vector the best that are wanted, and the steps to them."""
    live = plan.live
    steps: list[Step] = []
    # An engine is read as a whole for each ranking, or would miss more than its recall says.
    is_read = plan.filter is not None and not live.ranks_all and not plan.bounded
    is_listed = plan.among is not None or isinstance(plan.filter, IdSet)
    listed = plan if is_listed or is_read else listed_if_few(plan, steps)
    if listed is not None:
        for at, vector in enumerate(vectors):
            chosen = None if plan.among is None else plan.among[at]
            yield _enumerate(listed, vector, None, steps, chosen), steps
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
        ranking = ranking_of(live, scores, positions, complete=complete)
        passed = plan.passing(ranking)
        steps.append(Step.since(started, name, ranking.positions, passed))
        hits = None
        # If it proposes too few for the deepest page, no page uses it, because pages must agree.
        if not is_proposed or len(passed) >= min(plan.deepest, len(live)):
            hits = settle(plan, vector, ranking, passed, steps)
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


def _widen(plan: Plan, vector: np.ndarray, n: int, steps: list[Step]) -> list[Hit]:
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
            (found,), (positions,) = live.nearest(vector[None], n)
        ranking = ranking_of(live, found, positions, complete=n >= len(live))
        passing.update(plan.passing(ranking.without(asked)))
        asked[ranking.positions] = True
        passed_ids = [id for id in ranking.ids() if id in passing]
        steps.append(Step.since(started, name, ranking.positions, passed_ids))
        hits = settle(plan, vector, ranking, passed_ids, steps)
        if hits is not None:
            return hits
        if n >= WIDEST and len(passed_ids) >= plan.wanted:
            # Thousands of near-copies tie: one may stand for another whose score is within 1e-3.
            hits = settle(plan, vector, replace(ranking, complete=True), passed_ids, steps)
            if hits is not None and len(hits) == plan.wanted:
                return hits
        if not _is_hopeful(plan, len(passed_ids), n):
            return _enumerate(plan, vector, scores, steps)
        n = _wider(plan, len(passed_ids), n)
        name, started = "widen", time.perf_counter()


def _in_lists(plan: Plan, vector: np.ndarray, steps: list[Step]) -> list[Hit]:
    """
    The best that are wanted of one order for all pages, so that no hit is on two of them or on none: of the first
    proposals the better half, then as many of twice as many, and so on, of the last ones all, and then all others.
    """
    hits, passing, started = dict[int, Hit](), set[int](), time.perf_counter()
    asked = np.zeros(len(plan.live), dtype=bool)
    for scores, positions, is_last in proposed(plan.live, vector, 2 * FIRST, WIDEST):
        ranking = ranking_of(plan.live, scores, positions, complete=True)
        passing.update(plan.passing(ranking.without(asked)))
        asked[positions] = True
        passed = [id for id in ranking.ids() if id in passing]
        steps.append(Step.since(started, "widen" if steps else "rank", positions, passed))
        enough = min(len(passed) if is_last else len(passed) // 2, plan.wanted)
        if (more := enough - len(hits)) > 0:
            rest = [id for id in passed if id not in hits]
            hits |= settled(replace(plan, wanted=more), vector, ranking, rest, steps) or {}
        if len(hits) >= plan.wanted:
            break
        started = time.perf_counter()
    ids = {hit.id for hit in hits.values()}
    others = _enumerate(plan, vector, None, steps) if len(ids) < plan.wanted else []
    return [*hits.values(), *(hit for hit in others if hit.id not in ids)][: plan.wanted]


def _is_hopeful(plan: Plan, passed: int, looked_at: int) -> bool:
    """Whether enough would pass within the widest ranking, if as many passed as did so far, or one: none may be chance."""
    if plan.filter is None:
        return True
    return max(1, passed) * WIDEST >= plan.wanted * looked_at and looked_at < WIDEST


def _wider(plan: Plan, passed: int, looked_at: int) -> int:
    """The candidates of the next step: no more than will do, if as many of them pass as did so far."""
    if passed >= plan.wanted:
        return looked_at * WIDEN
    more = int(ENOUGH * looked_at * (plan.wanted - passed + 1) / max(1, passed))
    return min(looked_at * WIDEN, looked_at + more)


def _enumerate(
    plan: Plan,
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
    chosen = plan.listed if among is None else plan.listed & among
    listed = np.flatnonzero(chosen)
    # Far from the query scores lie close together, and a second search costs more than a larger one.
    n = max(FIRST * WIDEN, 2 * plan.wanted)
    if scores is None and live.ranks_all:
        scores = AllScores(live, vector)
    while True:
        if scores is not None:
            found, positions = scores.best(n, listed)
        else:
            (found,), (positions,) = live.nearest(vector[None], n, chosen)
        ranking = ranking_of(live, found, positions, complete=n >= len(listed))
        steps.append(Step.since(started, "enumerate", listed, ranking.positions))
        hits = settle(plan, vector, ranking, ranking.ids(), steps)
        if hits is not None:
            return hits
        n *= WIDEN
        started = time.perf_counter()
