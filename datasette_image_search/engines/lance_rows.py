"""The rows of a dataset of Lance with some ids, by what reads them soonest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    import lance
    import pyarrow

MOST_NAMED = 10_000
"""Ids that are looked up by their index at once."""

SHARE_NAMED = 1 / 50
"""The share of all vectors from which on reading them in order is quicker than looking up each."""

MOST_KEPT = 20_000_000
"""Ids of a dataset that are kept in memory, 160 MB, for the next search that needs them."""

BATCH = 2_048
"""
Vectors that are read at once. Four times as many take twice the time of a processor: their memory is too much for its cache,
and is given back each time.
"""


_kept: WeakKeyDictionary[lance.LanceDataset, tuple[int, np.ndarray]] = WeakKeyDictionary()
"""The version that a dataset had, and its ids, in the order of its rows."""


def rows_of(
    dataset: lance.LanceDataset, ids: np.ndarray | None, columns: Sequence[str]
) -> Iterator[pyarrow.Table | pyarrow.RecordBatch]:
    """
    Some columns of all rows with some ids, ascending, at least one, and perhaps of others between them; None for all. Few
    are looked up by their index, those that lie together are read alone, and for others all are read in order.
    """
    within = "id >= 0"
    if ids is not None:
        few = max(MOST_NAMED // 10, SHARE_NAMED * dataset.count_rows())
        if len(ids) <= few:
            for some in parts(ids, MOST_NAMED):
                yield dataset.to_table(list(columns), filter=filter_by(some))
            return
        held = _held_ids(dataset)
        places = np.flatnonzero(among(ids, held))
        if np.count_nonzero(np.diff(places) > 1) <= few:
            for some in parts(places, MOST_NAMED):
                yield dataset.take(some, columns=list(columns))
            return
        within = f"id >= {ids[0]} and id <= {ids[-1]}"
    # Without a filter, Lance would read larger parts, in more memory.
    yield from dataset.to_batches(
        list(columns), batch_size=BATCH, filter=within, use_scalar_index=False
    )


def _held_ids(dataset: lance.LanceDataset) -> np.ndarray:
    """The ids of all rows, in their order."""
    version, ids = _kept.get(dataset, (None, None))
    if ids is None or version != dataset.version:
        version = dataset.version
        ids = dataset.to_table(["id"]).column("id").to_numpy()
        if len(ids) <= MOST_KEPT:
            _kept[dataset] = version, ids
    return ids


def filter_by(ids: np.ndarray) -> str:
    return f"id in ({', '.join(map(str, ids.tolist()))})"


def among(ids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A bool for each of the others: whether it is one of some ids, ascending, at least one."""
    return ids[np.searchsorted(ids, others).clip(max=len(ids) - 1)] == others


def parts(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(array), size):
        yield array[start : start + size]
