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
from ..store.duplicates import ImageFile

Copy = tuple[Path | str, ImageFile]
"""A file, or the URL of one elsewhere, as it was recorded when it was embedded, without `sha256` if its vector was imported."""

ELSEWHERE = "is in storage elsewhere, which is not read as a whole"
"""The problem of a URL."""


@dataclass
class LeftOut:
    """Problem -> number of groups or files that were left out because of it."""

    groups: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)


def dispensable(
    groups: Iterable[Sequence[Copy]], left_out: LeftOut | None = None
) -> Iterator[Path]:
    """
    The files of each group that may be deleted: all but the first, if they and the first are still as
    recorded. Each entry of a folder is given once, and never the entry of the first.
    """
    entries, left_out = Entries(), left_out or LeftOut()
    for best, *others in groups:
        problem = _problem(best)
        if problem is not None:
            left_out.groups[problem] += 1
            continue
        named: set[str] = set()
        for copy in others:
            if copy[1].has_companions:
                left_out.files["has companions, which would stay alone"] += 1
                continue
            problem = _problem_beside(best, copy, entries, named)
            if problem is None and isinstance(copy[0], Path):
                yield copy[0]
            elif problem is not None:
                left_out.files[problem] += 1


def _problem_beside(best: Copy, copy: Copy, entries: Entries, named: set[str]) -> str | None:
    kept, file = best[0], copy[0]
    if isinstance(kept, str) or isinstance(file, str):
        return ELSEWHERE
    try:
        if entries.is_same(kept, file):
            return "is, or may be, the file to keep under another path"
        place = entries.place(file)
    except (OSError, ValueError):
        return _problem(copy) or "cannot be examined"
    if place in named:
        return "is listed under another path already"
    problem = _problem(copy)
    if problem is None:
        named.add(place)
    return problem


def _problem(copy: Copy) -> str | None:
    path, image = copy
    if isinstance(path, str):
        return ELSEWHERE
    if image.sha256 is None and (image.size is None or image.mtime is None):
        return "was never read, so it may have changed"
    try:
        status = path.stat()
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError):
        return "cannot be examined"
    changed = "has changed since it was embedded"
    if image.size is not None and status.st_size != image.size:
        return changed
    if image.sha256 is None and iso_time(status.st_mtime_ns // 1000) != image.mtime:
        return changed
    sha256 = sha256_of(path)
    if sha256 is None:
        return "cannot be read"
    return None if image.sha256 in (None, sha256) else changed
