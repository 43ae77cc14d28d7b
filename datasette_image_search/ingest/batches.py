"""Items -> batches, each of which is a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

COMMIT_SECONDS = 2.0
"""The longest time to fill a batch, so that a crash never costs more work with slow files."""

T = TypeVar("T")


def batches(
    items: Iterable[T], size: int, weight_of: Callable[[T], int] = lambda item: 1
) -> Iterator[list[T]]:
    """
    Lists of items that weigh `size` together, or of as many as came in COMMIT_SECONDS. One that is heavier than that may
    be the last of a list.
    """
    batch: list[T] = []
    weight, deadline = 0, time.monotonic() + COMMIT_SECONDS
    for item in items:
        batch.append(item)
        weight += weight_of(item)
        if weight >= size or time.monotonic() >= deadline:
            yield batch
            batch = []
            weight, deadline = 0, time.monotonic() + COMMIT_SECONDS
    if batch:
        yield batch
