"""
The groups of near-duplicates of a table, which take with the square of its images: half a minute for 100,000. One
thread of its own compares, what it found is remembered as long as the index is the same, and pages ask how far it is.
"""

from __future__ import annotations

import asyncio
import shlex
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ...errors import ImageSearchError
from ...search.duplicates import DuplicateGroups, find_duplicates
from ...store import Index
from ...store.connections import open_to_read
from ...store.vectors import count_vectors
from ..access.requested_table import RequestedTable
from ..reading import read_bounded
from .preparing import TooBusy
from .threads import DaemonThreads

MOST_IMAGES = 100_000
"""Of a table that a page may have compared."""

MOST_WAITING = 4
"""Comparisons that are not done: a person who asks for another threshold does not wait for those of others."""

KEPT = 16
"""Comparisons that are remembered."""


class NotCompared(ImageSearchError):
    """A table whose images a page does not compare."""


@dataclass
class Comparison:
    """`done` of `total` pairs are compared; both are 0 before it begins. `groups` are there when it is done."""

    future: Future[DuplicateGroups] = field(default_factory=Future)
    done: int = 0
    total: int = 0

    @property
    def groups(self) -> DuplicateGroups | None:
        """Raises what the comparison raised."""
        return self.future.result() if self.future.done() else None

    def report(self, _doing: str, done: int, total: int) -> None:
        self.done, self.total = done, total


_comparisons: OrderedDict[tuple[Path, Index, float], Comparison] = OrderedDict()
"""By database, index and threshold, the last used at the end."""


@cache
def _threads() -> DaemonThreads:
    return DaemonThreads(1, "image-search-duplicates")


async def compared(
    requested: RequestedTable, threshold: float, patience: float | None
) -> Comparison:
    """
    The comparison of all images of the table, as they are committed now; not done if that takes more than
    `patience`, in seconds.

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
    key = Path(path).resolve(), index, threshold
    known = _comparisons.get(key)
    if known is None or (known.future.done() and known.future.exception()):
        waiting = [each for each in _comparisons.values() if not each.future.done()]
        if len(waiting) >= MOST_WAITING:
            raise TooBusy("other images are being compared just now; try again in a minute")
        known = _comparisons[key] = Comparison()
        known.future = _threads().submit(lambda: _compare(requested, threshold, known))
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
    with closing(open_to_read(Path(str(requested.database.path)))) as conn:
        return find_duplicates(conn, requested.index, threshold, report=comparison.report)
