"""The files and folders that a person leaves out, named by shell patterns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path, PurePath

from ..files.entries import Entries, composed
from ..files.remote_urls import clean_url, is_url


class Exclusion:
    """
    Patterns for names, and for paths: below the root, with the root's name in front, absolute, a URL, or from the
    working directory as a shell completes them. How accents are written makes no difference.
    """

    def __init__(self, patterns: Sequence[str], entries: Entries):
        self._patterns = [_Pattern(typed, entries) for typed in patterns]
        self._idle = {pattern.typed: pattern for pattern in self._patterns}
        self._of_named: set[str] = set()

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The patterns that nothing has matched so far."""
        return tuple(typed for typed in self._idle if typed not in self._of_named)

    @property
    def only_named(self) -> tuple[str, ...]:
        """The patterns that have matched only what a person named, which is not left out."""
        return tuple(typed for typed in self._idle if typed in self._of_named)

    def leaves_out(self, path: str, below: str) -> bool:
        """Whether a pattern matches an entry, by its absolute path and its path below the root."""
        if not self._patterns:
            return False
        path, below = _comparable(path, below)
        matching = [pattern.typed for pattern in self._patterns if pattern.matches(path, below)]
        for typed in matching:
            self._idle.pop(typed, None)
        return bool(matching)

    def pass_over(self, path: str, below: str) -> None:
        """Note a folder that nobody looks into: what a pattern means may be in it."""
        if self._idle:
            path, below = _comparable(path, below)
            within = [
                typed for typed, pattern in self._idle.items() if pattern.is_within(path, below)
            ]
            for typed in within:
                del self._idle[typed]

    def keep(self, path: str, below: str) -> None:
        """Note a file or folder that a person named, which is not left out."""
        if self._idle:
            path, below = _comparable(path, below)
            matching = (
                typed for typed, pattern in self._idle.items() if pattern.matches(path, below)
            )
            self._of_named.update(matching)


def _comparable(path: str, below: str) -> tuple[str, str]:
    return composed(PurePath(path).as_posix()), composed(below)


class _Pattern:
    def __init__(self, typed: str, entries: Entries):
        self.typed = typed
        self._text = composed(PurePath(typed).as_posix())
        places = _places(typed, entries)
        self._absolute = {composed(PurePath(place).as_posix()) for place in places}

    def matches(self, path: str, below: str) -> bool:
        name = below.rpartition("/")[2]
        return _matches(name, self._text) or self._leads_to(path, below, levels=0)

    def is_within(self, path: str, below: str) -> bool:
        """Whether the pattern is a path that leads through a folder."""
        deepest = max(text.count("/") for text in (self._text, *self._absolute))
        return any(self._leads_to(path, below, levels) for levels in range(1, deepest + 1))

    def _leads_to(self, path: str, below: str, levels: int) -> bool:
        """Whether the pattern, without so many of its last parts, is one for the path of an entry."""
        text = _above(self._text, levels)
        if _matches(below, text):
            return True
        if any(_matches(path, _above(place, levels)) for place in self._absolute):
            return True
        first, _, rest = text.partition("/")
        root = path[: -len(below) - 1]
        return (
            rest != ""
            and root.rpartition("/")[2] == first
            and _matches(below, rest)
            # Otherwise that is meant, and not the root.
            and not os.path.lexists(f"{root}/{first}")
        )


def _above(path: str, levels: int) -> str:
    return path.rsplit("/", levels)[0]


def _matches(name: str, pattern: str) -> bool:
    # Folders may be called "[2020]", and shells complete that.
    return name == pattern or fnmatchcase(name, pattern)


def _places(pattern: str, entries: Entries) -> set[str]:
    """The absolute patterns that a pattern is, if it is a URL, or absolute, or leads from here to a folder."""
    if is_url(pattern):
        return {clean_url(pattern)}
    parts = PurePath(pattern).parts
    literal = parts[:-1]
    if not os.path.lexists(pattern):
        literal = tuple(takewhile(lambda part: not set(part) & set("*?["), literal))
    folder = Path(*literal)
    if not literal or not os.path.isdir(folder):  # noqa: PTH112 (Path raises an error for some)
        return set()
    places = (folder.absolute(), folder.resolve())
    return {entries.spelled(str(place.joinpath(*parts[len(literal) :]))) for place in places}
