"""The task of a search, and what passes its filter: of a ranking, of the few that an index finds, or of all."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..store import Filter, filters
from ..store.filters import IdSet, access_to, asked_images, matching, passing_images
from .hits import Step
from .live import LiveIndex
from .ranking import Ranking, once

NARROW = 1 / 25
"""The share of the images up to which they are listed before the ranking, if an index finds them."""

LISTED = 150_000
"""So many of them are listed in time for a page."""


SAMPLE = 128
"""Images that tell how many pass a filter, if an index has what it compares and must be scanned ..."""

SAMPLED_OF = 100 * SAMPLE
"""... of so many or more: of fewer all are ranked in the time that these take."""

COMPARED = 4.5
"""So many listed images are ranked in the time in which a filter is asked about one of a ranking."""


@dataclass(frozen=True)
class Plan:
    """
    What is wanted, for all the vectors of a search: `among` has a bool per position for each of them. If it is `bounded`, no
    more is looked at than an approximate index has in some lists, as long as enough of that passes. `few` are the positions
    that pass, a bool for each, if an index found them before.
    """

    conn: sqlite3.Connection
    live: LiveIndex
    filter: Filter | IdSet | None
    wanted: int
    exact: bool
    bounded: bool
    among: Sequence[np.ndarray] | None = None
    few: np.ndarray | None = None

    @property
    def deepest(self) -> int:
        """The most hits to ask an approximate index for; 0 if it must not be used."""
        # Its recall was measured for all images; under a filter it would miss more.
        is_limited = self.filter is not None or self.among is not None
        tuning = self.live.tuning
        return 0 if self.exact or is_limited or tuning is None else tuning.deepest

    def passing(self, ranking: Ranking) -> list[int]:
        """The ids of the ranked vectors whose image passes the filter, each once, in the same order."""
        if self.filter is None or isinstance(self.filter, IdSet):
            return ranking.ids()
        if not self.live.has_image_ids:
            return filters.passing(self.conn, self.live.index, ranking.ids(), self.filter)
        images = self.live.image_ids(ranking.positions)
        passed = passing_images(self.conn, self.live.index, images, self.filter)
        return once(ranking.vector_ids[np.isin(images, passed)])

    def there(self, vector_ids: list[int]) -> list[int]:
        """Those of the vectors that are still there, of the picture that their image has."""
        images = self.live.images_of(np.array(vector_ids, dtype=np.int64))
        return filters.there(self.conn, self.live.index, vector_ids, images)

    @cached_property
    def listed(self) -> np.ndarray:
        """
        A bool per position: whether its image passes the filter. If the plan is bounded and has limits, the filter is asked
        about what these leave for any of the vectors: all that passes may be millions.
        """
        conn, live, filter = self.conn, self.live, self.filter
        index = live.index
        if self.few is not None:
            return self.few
        if filter is None:
            return np.ones(len(live), dtype=bool)
        if not live.has_image_ids:
            return live.chosen_vectors(matching(conn, index, filter))
        if isinstance(filter, IdSet):
            return live.chosen_images(np.asarray(filter.ids, dtype=np.int64))
        if self.bounded and self.among is not None:
            left = live.image_ids(np.flatnonzero(np.any(self.among, axis=0)))
            return live.chosen_images(passing_images(conn, index, np.unique(left), filter))
        return live.chosen_images(asked_images(conn, index, filter))


def listed_if_few(plan: Plan, steps: list[Step]) -> Plan | None:
    """The same with the `few` that pass, if they are few, and an index finds them or has what the filter compares."""
    if not isinstance(plan.filter, Filter) or not plan.live.has_image_ids:
        return None
    most = int(len(plan.live) * NARROW)
    if plan.bounded:
        most = min(most, LISTED)
    access = access_to(plan.conn, plan.live.index, plan.filter) if most else "read"
    if access == "read" or (access == "compared" and not _are_few(plan, steps)):
        return None
    started = time.perf_counter()
    images = asked_images(plan.conn, plan.live.index, plan.filter, most + 1)
    if len(images) > most:
        steps.append(Step.since(started, "list", images, []))
        return None
    steps.append(Step.since(started, "list", images, images))
    return replace(plan, few=plan.live.chosen_images(images))


def _are_few(plan: Plan, steps: list[Step]) -> bool:
    """
    Whether to rank those that pass, which a scan of all lists, takes less time than to ask the filter about as many of
    a ranking as it takes until enough pass.
    """
    live = plan.live
    assert isinstance(plan.filter, Filter)
    if plan.bounded or len(live) < SAMPLED_OF:
        return False
    started = time.perf_counter()
    sample = np.unique(live.image_ids(np.linspace(0, len(live) - 1, SAMPLE, dtype=np.int64)))
    passed = passing_images(plan.conn, live.index, sample, plan.filter)
    steps.append(Step.since(started, "sample", sample, passed))
    share = len(passed) / len(sample)
    return share <= NARROW and share * len(live) * share <= COMPARED * plan.wanted
