"""Decoding for requests: in threads of its own, little at once, and no endless queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from .daemon_threads import DaemonThreads

P = ParamSpec("P")
T = TypeVar("T")

RETRY_AFTER = 5
"""Seconds, after which whoever was turned away may ask again."""


class Busy(Exception):
    """The queue is full."""


class DecodingQueue:
    """Does one thing after the other, with at most `longest` that wait, whoever asks for them."""

    def __init__(self, name: str, longest: int) -> None:
        self._thread = DaemonThreads(1, name)
        self._places = threading.BoundedSemaphore(longest + 1)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns. Raises Busy at once where the queue is full."""
        if not self._places.acquire(blocking=False):
            raise Busy
        # A place is free when the work is done, not when nobody waits for it any more.
        future = self._thread.submit(partial(function, *args, **kwargs))
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)
