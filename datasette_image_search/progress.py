"""The progress of long work, as the callers of the Python API hear of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Phase:
    """How far a part of some work is, such as "Reading"."""

    doing: str
    done: int
    total: int


OnProgress = Callable[[Any], None]
"""Takes values with `doing`, `done` and `total`."""


Report = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and of how much."""


def ignore(progress: Any) -> None:
    """An OnProgress that does nothing."""


def silent(doing: str, done: int, of: int) -> None:
    """A Report that does nothing."""


def phases(on_progress: OnProgress) -> Report:
    """A Report that tells `on_progress`."""
    return lambda doing, done, total: on_progress(Phase(doing, done, total))
