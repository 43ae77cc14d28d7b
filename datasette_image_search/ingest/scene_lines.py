"""
Films in a list of paths with a line for each vector: those of the scenes of one film stand one after the other, each with its
second, as in the fragments of URLs of media: film.mp4#t=3.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_SCENE = re.compile(r"(.+)#t=(\d{1,9}(?:\.\d{1,20})?(?:e-\d{1,2})?)", re.DOTALL)


@dataclass(frozen=True)
class Film:
    """The path of a film, and the seconds of its scenes."""

    path: str
    seconds: tuple[float, ...]


def lines_of(path: str, seconds: Sequence[float]) -> list[str]:
    """The lines of a film; without seconds, that of a picture."""
    return [f"{path}#t={at!r}" for at in seconds] or [path]


def films_among(lines: Sequence[str], is_path: Callable[[str], bool]) -> dict[int, Film]:
    """The films by the position of their first line. A line that `is_path` as a whole is none of a scene."""
    films: dict[int, tuple[str, list[float]]] = {}
    first, path = 0, None
    for at, line in enumerate(lines):
        found = _SCENE.fullmatch(line) if "#t=" in line else None
        if found is None or is_path(line):
            path = None
            continue
        if found[1] != path:
            first, path = at, found[1]
            films[first] = path, []
        films[first][1].append(float(found[2]))
    return {at: Film(path, tuple(seconds)) for at, (path, seconds) in films.items()}
