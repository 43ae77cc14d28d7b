"""
The groups of near-duplicates of a table, which take with the square of its images: half a minute for 100,000. One
thread of its own compares, what it found is remembered as long as the index is the same, and pages ask how far it is.
While somebody writes, the index is never the same for long: pages then show what was compared a little before.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ...errors import ImageSearchError
from ...search.duplicates import DuplicateGroups, find_duplicates
from ...store.connections import open_to_read
from ...store.tables import ImageTable
from ...store.vectors import count_vectors
from ..access.requested_table import RequestedTable
from ..reading import read_bounded
from .preparing import TooBusy
from .threads import DaemonThreads

MOST_IMAGES = 100_000
"""Of a table that a page may have compared."""

MOST_WAITING = 4
"""Comparisons that are not done: a person who asks for another threshold does not wait for those of others."""

KEPT = 8
"""Comparisons that are remembered: each has 36 MB if 60,000 images are in groups."""


class NotCompared(ImageSearchError):
    """A table whose images a page does not compare."""


@dataclass
class Comparison:
    """
    `done` of `total` pairs are compared; both are 0 before it begins. `groups` are there when it is done, which
    `took` some seconds until it `ended`, in those of time.monotonic().
    """

    future: Future[DuplicateGroups] = field(default_factory=Future)
    done: int = 0
    total: int = 0
    took: float = 0
    ended: float = 0

    @property
    def groups(self) -> DuplicateGroups | None:
        """Raises what the comparison raised."""
        return self.future.result() if self.future.done() else None

    @property
    def is_recent(self) -> bool:
        """Whether it is not done, or is no older than a new one would be when that is done."""
        if not self.future.done():
            return True
        return not self.future.exception() and time.monotonic() < self.ended + self.took

    def report(self, _doing: str, done: int, total: int) -> None:
        self.done, self.total = done, total


_Series = tuple[Path, str, int, ImageTable, float]
"""A database, the identity and number of an index, its table, and a threshold."""

_comparisons: OrderedDict[tuple[_Series, int], Comparison] = OrderedDict()
"""By series and generation of the index, the last used at the end."""


@cache
def _threads() -> DaemonThreads:
    return DaemonThreads(1, "image-search-duplicates")


async def compared(
    requested: RequestedTable, threshold: float, patience: float | None
) -> Comparison:
    """
    The comparison of all images of the table; not done if that takes more than `patience`, in seconds. Without a
    limit it is of the images as they are committed now, else it may be of a little before.

    Raises NotCompared for a table that is too large, or in memory, and TooBusy.
    """
    index, path = requested.index, requested.database.path
    if path is None:
        raise NotCompared("the images of a database in memory are not compared; save it to a file")
    count = await read_bounded(requested.database, lambda conn: count_vectors(conn, index))
    if count > MOST_IMAGES:
        raise NotCompared(
            f"{index.image_table!r} has {count:,} images, and a page compares {MOST_IMAGES:,} at most; use: "
            f"sqlite-utils find-duplicates PATH {shlex.quote(index.image_table)} --write"
        )
    series = Path(path).resolve(), index.identity, index.id, index.table, threshold
    key = series, index.generation
    of_series = {key: each for key, each in _comparisons.items() if key[0] == series}
    if key not in of_series and patience is not None:
        key = next((key for key, each in of_series.items() if each.is_recent), key)
    known = of_series.get(key)
    if known is None or (known.future.done() and known.future.exception()):
        waiting = [each for each in _comparisons.values() if not each.future.done()]
        if len(waiting) >= MOST_WAITING:
            raise TooBusy("other images are being compared just now; try again in a minute")
        known = _comparisons[key] = Comparison()
        known.future = _threads().submit(lambda: _compare(requested, threshold, known))
        for old, each in of_series.items():
            if old != key and each.future.done():
                del _comparisons[old]
        finished = [key for key, each in _comparisons.items() if each.future.done()]
        for old in finished[: max(len(_comparisons) - KEPT, 0)]:
            del _comparisons[old]
    _comparisons.move_to_end(key)
    # `await` of the future itself would cancel it for the others if this client leaves.
    await asyncio.wait([asyncio.wrap_future(known.future)], timeout=patience)
    return known


def _compare(
    requested: RequestedTable, threshold: float, comparison: Comparison
) -> DuplicateGroups:
    began = time.monotonic()
    with closing(open_to_read(Path(str(requested.database.path)))) as conn:
        found = find_duplicates(conn, requested.index, threshold, report=comparison.report)
    comparison.ended = time.monotonic()
    comparison.took = comparison.ended - began
    return found
