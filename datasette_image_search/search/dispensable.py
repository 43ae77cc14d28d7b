"""
The files that may be deleted because another one is kept. Nothing is taken for granted: each file is read
as a whole, and told from the other by the lists of their folders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files.entries import Entries
from ..files.states import iso_time, sha256_of


@dataclass(frozen=True)
class Copy:
    """
    A file, as it was recorded when it was embedded. `sha256` is None if its vector was imported; then its
    size and time are known at most.
    """

    path: Path
    size: int | None
    mtime: str | None
    sha256: str | None


@dataclass
class LeftOut:
    """Problem -> number of groups or files that were left out because of it."""

    groups: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)


def dispensable(groups: Iterable[Sequence[Copy]], left_out: LeftOut) -> Iterator[Path]:
    """
    The files of each group that may be deleted: all but the first, if they and the first are still as
    recorded. Each entry of a folder is given once, and never the entry of the first.
    """
    entries = Entries()
    for best, *others in groups:
        problem = _problem(best)
        if problem is not None:
            left_out.groups[problem] += 1
            continue
        named: set[str] = set()
        for copy in others:
            problem = _problem_beside(best, copy, entries, named)
            if problem is None:
                yield copy.path
            else:
                left_out.files[problem] += 1


def _problem_beside(best: Copy, copy: Copy, entries: Entries, named: set[str]) -> str | None:
    try:
        if entries.is_same(best.path, copy.path):
            return "is, or may be, the file to keep under another path"
        place = entries.place(copy.path)
    except (OSError, ValueError):
        return _problem(copy) or "cannot be examined"
    if place in named:
        return "is listed under another path already"
    problem = _problem(copy)
    if problem is None:
        named.add(place)
    return problem


def _problem(copy: Copy) -> str | None:
    if copy.sha256 is None and (copy.size is None or copy.mtime is None):
        return "was never read, so it may have changed"
    try:
        status = copy.path.stat()
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError):
        return "cannot be examined"
    changed = "has changed since it was embedded"
    if copy.size is not None and status.st_size != copy.size:
        return changed
    if copy.sha256 is None and iso_time(status.st_mtime_ns // 1000) != copy.mtime:
        return changed
    sha256 = sha256_of(copy.path)
    if sha256 is None:
        return "cannot be read"
    return None if copy.sha256 in (None, sha256) else changed
