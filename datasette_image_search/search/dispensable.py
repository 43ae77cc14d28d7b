"""
Which files may be deleted because another one is kept. Nothing is believed of either: a file is
looked at, read as a whole, and told from the other by the lists of their folders.
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
    A file, with what is recorded of it from when it was embedded. Without a `sha256` its vector was
    imported, and all that is known of it then is its size and time, if anything is.
    """

    path: Path
    size: int | None
    mtime: str | None
    sha256: str | None


@dataclass
class LeftOut:
    """How many groups and files were left out, by what is wrong with the file to keep, or with them."""

    groups: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)


def dispensable(groups: Iterable[Sequence[Copy]], left_out: LeftOut) -> Iterator[Path]:
    """
    Of each group all files but the first, which is to be kept: those that hold what is recorded of
    them, each entry of a folder once, as long as the first does so too and is another entry.
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
            return "is the file to keep by another path, or may be"
        place = entries.place(copy.path)
    except (OSError, ValueError):
        return _problem(copy) or "cannot be looked at"
    if place in named:
        return "is named by another path already"
    problem = _problem(copy)
    if problem is None:
        named.add(place)
    return problem


def _problem(copy: Copy) -> str | None:
    if copy.sha256 is None and (copy.size is None or copy.mtime is None):
        return "was never looked at, so that nothing tells whether it has changed"
    try:
        status = copy.path.stat()
    except FileNotFoundError:
        return "is not there"
    except (OSError, ValueError):
        return "cannot be looked at"
    changed = "has changed since it was embedded"
    if copy.size is not None and status.st_size != copy.size:
        return changed
    if copy.sha256 is None and iso_time(status.st_mtime_ns // 1000) != copy.mtime:
        return changed
    sha256 = sha256_of(copy.path)
    if sha256 is None:
        return "cannot be read"
    return None if copy.sha256 in (None, sha256) else changed
