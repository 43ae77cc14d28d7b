"""The files and folders that a person leaves out, named by shell patterns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path, PurePath

from ..files.entries import Entries, composed


class Exclusion:
    """
    Patterns for names, and for paths: below the root, with the root's name in front, absolute, or from the
    working directory as a shell completes them. How accents are written makes no difference.
    """

    def __init__(self, patterns: Sequence[str], entries: Entries):
        self._patterns = [_Pattern(typed, entries) for typed in patterns]
        self._unmatched = dict.fromkeys(patterns)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The patterns that nothing has matched so far."""
        return tuple(self._unmatched)

    def leaves_out(self, path: str, below: str) -> bool:
        """Whether a pattern matches an entry, by its absolute path and its path below the root."""
        if not self._patterns:
            return False
        path, below = composed(PurePath(path).as_posix()), composed(below)
        matching = [pattern.typed for pattern in self._patterns if pattern.matches(path, below)]
        for typed in matching:
            self._unmatched.pop(typed, None)
        return bool(matching)


class _Pattern:
    def __init__(self, typed: str, entries: Entries):
        self.typed = typed
        self._text = composed(PurePath(typed).as_posix())
        self._first, _, self._rest = self._text.partition("/")
        places = _places(typed, entries)
        self._absolute = {composed(PurePath(place).as_posix()) for place in places}

    def matches(self, path: str, below: str) -> bool:
        name = below.rpartition("/")[2]
        if any(_matches(each, self._text) for each in (name, below)):
            return True
        if any(_matches(path, place) for place in self._absolute):
            return True
        root = path[: -len(below) - 1]
        return (
            self._rest != ""
            and root.rpartition("/")[2] == self._first
            and _matches(below, self._rest)
            # Otherwise that is meant, and not the root.
            and not os.path.lexists(f"{root}/{self._first}")
        )


def _matches(name: str, pattern: str) -> bool:
    # Folders may be called "[2020]", and shells complete that.
    return name == pattern or fnmatchcase(name, pattern)


def _places(pattern: str, entries: Entries) -> set[str]:
    """The absolute patterns that a pattern is, if it is absolute or leads from here to a folder."""
    parts = PurePath(pattern).parts
    literal = parts[:-1]
    if not os.path.lexists(pattern):
        literal = tuple(takewhile(lambda part: not set(part) & set("*?["), literal))
    folder = Path(*literal)
    if not literal or not os.path.isdir(folder):  # noqa: PTH112 (Path raises an error for some)
        return set()
    places = (folder.absolute(), folder.resolve())
    return {entries.spelled(str(place.joinpath(*parts[len(literal) :]))) for place in places}
