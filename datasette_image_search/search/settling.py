"""The best of a ranking, by the scores that their vectors have in the database."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from ..store.vectors import scene_times, vectors_by_id
from .exact import EXACT_CHUNK, exact_scores
from .hits import Hit, Step, best_first
from .plan import Plan
from .ranking import Ranking


def settle(
    plan: Plan, vector: np.ndarray, ranking: Ranking, passed: list[int], steps: list[Step]
) -> list[Hit] | None:
    """
    The best of the ranked ids that passed, with the scores of their vectors in the database; None
    if too few passed, or one below the ranking may be better.
    """
    found = settled(plan, vector, ranking, passed, steps)
    return None if found is None else list(found.values())


def settled(
    plan: Plan, vector: np.ndarray, ranking: Ranking, passed: list[int], steps: list[Step]
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
    steps.append(Step.since(started, "score", closest, hits))
    return {each.vector_id: hit for each, hit in zip(scored, hits, strict=False)}


def _closest(ranking: Ranking, passed: list[int], k: int, error: float) -> list[int] | None:
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


def _scored(plan: Plan, vector: np.ndarray, ids: list[int]) -> list[_Scored]:
    """Those of the vectors that are there, by their float32 scores, best first."""
    found = []
    for start in range(0, len(ids), EXACT_CHUNK):
        stored = vectors_by_id(plan.conn, plan.live.index, ids[start : start + EXACT_CHUNK])
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


def _with_times(plan: Plan, scored: Sequence[_Scored]) -> list[Hit]:
    """The hits, those of films with the seconds of their best scene."""
    times = scene_times(plan.conn, plan.live.index, [each.vector_id for each in scored])
    return [
        replace(each.hit, at=times[each.vector_id][each.best])
        if each.best < len(times.get(each.vector_id, ()))
        else each.hit
        for each in scored
    ]
