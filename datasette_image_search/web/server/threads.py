"""Threads for slow work that only requests need: a server that ends does not wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

RETRY_AFTER = 5
"""Seconds after which a client that was turned away may ask again."""


class DaemonThreads:
    """
    Like ThreadPoolExecutor, but Python does not wait for the threads when it ends: with that one, Ctrl-C
    would take as long as a model takes to load.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._started = 0
        self._starting = threading.Lock()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """The future result of a function. Functions are begun in order."""
        future: Future[T] = Future()
        self._work.put((future, work))
        with self._starting:
            if self._started < self._most:
                self._started += 1
                name = f"{self._name}_{self._started}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            future, work = self._work.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            # Do not keep them alive until there is more to do.
            del future, work


class Busy(Exception):
    """The queue is full."""


class DecodingQueue:
    """Does one thing after the other; at most `longest` wait."""

    def __init__(self, name: str, longest: int) -> None:
        self._thread = DaemonThreads(1, name)
        self._places = threading.BoundedSemaphore(longest + 1)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the function. Raises Busy at once if the queue is full."""
        if not self._places.acquire(blocking=False):
            raise Busy
        # A place is free when the work is done, also if its client has left before.
        future = self._thread.submit(partial(function, *args, **kwargs))
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)
