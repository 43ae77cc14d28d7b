"""Threads for what takes its time and is of use to requests only: nobody waits for them at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreads:
    """
    Does as ThreadPoolExecutor does, whose threads Python waits for when it ends: Ctrl-C would take as
    long as a model takes to load.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._started = 0
        self._starting = threading.Lock()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """What the function returns or raises, in the order in which they came."""
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
            # Not kept alive until there is more to do.
            del future, work
