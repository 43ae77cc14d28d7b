"""
Engines that failed: for a while this process searches a copy in memory, and then it tries them again. What was fed anew
has another token, and is tried at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import ParamSpec, TypeVar

from ..engines.protocol import EngineError

PAUSE = 30.0
"""Seconds before an engine is tried again; twice as many each time that it fails again, up to ..."""

LONGEST = 3600.0
"""... so many: a copy is read from the database each time."""

Commit = tuple[str, str]
"""The place of an engine, and the token of what is searched there."""

P = ParamSpec("P")
T = TypeVar("T")


class EngineLost(EngineError):
    """The engine failed in the middle of a search, which can be made again without it."""


@dataclass(frozen=True)
class _Failure:
    reason: str
    until: float
    pause: float


_failures: dict[Commit, _Failure] = {}
_lock = threading.Lock()


def lose(commit: Commit, reason: str) -> None:
    """Leave an engine aside for a while."""
    with _lock:
        before = _failures.get(commit)
        if before is None:
            _failures[commit] = _Failure(reason, time.monotonic() + PAUSE, PAUSE)
        elif time.monotonic() >= before.until:
            _failures[commit] = _longer(before, reason)


def _longer(failure: _Failure, reason: str) -> _Failure:
    pause = min(2 * failure.pause, LONGEST)
    return _Failure(reason, time.monotonic() + pause, pause)


def reason_to_wait(commit: Commit) -> str | None:
    """What an engine failed with, if it is left aside now."""
    failure = _failures.get(commit)
    return failure.reason if failure is not None and time.monotonic() < failure.until else None


def claims_retry(commit: Commit) -> bool:
    """Whether an engine that failed is to be tried again by whoever asks; others wait meanwhile."""
    with _lock:
        failure = _failures.get(commit)
        if failure is None or time.monotonic() < failure.until:
            return False
        _failures[commit] = _longer(failure, failure.reason)
        return True


def regain(commit: Commit) -> None:
    """Search an engine again. If it fails soon, the pause is longer."""
    with _lock:
        if commit in _failures:
            _failures[commit] = replace(_failures[commit], until=time.monotonic())


def survives_engines(search: Callable[P, T]) -> Callable[P, T]:
    """Of a function that opens the live index itself: if the engine fails, it searches again, now a copy in memory."""

    @wraps(search)
    def surviving(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return search(*args, **kwargs)
        except EngineLost:
            return search(*args, **kwargs)

    return surviving
