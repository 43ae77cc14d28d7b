"""Items that a thread makes while the reader is busy with those before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar, cast

T = TypeVar("T")

_END = object()


@contextmanager
def made_ahead(
    make: Callable[[Callable[[], bool]], Generator[T, None, None]],
) -> Iterator[Iterator[T]]:
    """
    What a generator gives, each item made by a thread of its own while the reader has the one before. The generator is
    called with a function that says whether more is wanted, and is closed at the end, both in that thread. Its errors
    are raised to the reader.
    """
    ended = threading.Event()
    items = make(lambda: not ended.is_set())

    with ThreadPoolExecutor(1, thread_name_prefix="make") as executor:

        def in_turn(future: Future[object]) -> Iterator[T]:
            while (item := future.result()) is not _END:
                future = executor.submit(next, items, _END)
                yield cast(T, item)

        try:
            yield in_turn(executor.submit(next, items, _END))
        finally:
            ended.set()
            executor.submit(items.close)
