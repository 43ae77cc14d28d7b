"""
Files that are one photo: the film of a Live Photo beside its picture, and the RAW beside the JPEG. They have one row,
that of the picture, which names the others as its companions.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from ..decoding.formats import RAW_SUFFIXES
from ..decoding.kinds import HEAD, film_kind
from ..store.companions import names_of
from ..store.tables import KnownSource
from .walk import FoundFile

PICTURES = (".heic", ".heif", ".hif", ".jpg", ".jpeg", ".jpe")
"""What may have companions, that of a telephone or a camera first."""

FILMS = (".mov", ".mp4")

CLOSE = 60.0
"""Seconds between the times of two files that are one photo. A JPEG that was made of a RAW on another day is another one."""

LONGEST = 5.0
"""Seconds of the film of a Live Photo, which has about three. A longer one, beside its thumbnail, is a film."""

_RAW, _FILM = len(PICTURES), len(PICTURES) + 1

_KINDS = {
    **{ending: kind for kind, ending in enumerate(PICTURES)},
    **dict.fromkeys(RAW_SUFFIXES, _RAW),
    **dict.fromkeys(FILMS, _FILM),
}
"""The lower, the rather a file is the picture of the pair. Those of _RAW and _FILM may be companions."""

Key = tuple[str, str]
"""The root and the path of a file."""


def paired(
    found: Mapping[Key, FoundFile],
    known: Mapping[Key, KnownSource],
    is_there: Callable[[Key], bool],
    is_of_live_photo: Callable[[FoundFile], bool] | None = None,
) -> dict[Key, FoundFile]:
    """
    The files, less the companions of others, which name these. New companions are in the same folder as the picture, are
    called the same but for the ending, and were written at the same time; a film is short, too. A companion that a row names
    already stays one for as long as both files are there, also if only one of them was found. A file that has a row of its
    own keeps it, and a picture that failed has no companions.
    """
    is_of_live_photo = is_of_live_photo or _is_of_live_photo
    result = dict(found)
    companions: dict[Key, list[str]] = defaultdict(list)

    def join(main: Key, companion: Key) -> None:
        companions[main].append(companion[1])
        result.pop(companion, None)

    for main, companion in _pairs_of_rows(known):
        if (main in found and (companion in found or is_there(companion))) or (
            companion in found and is_there(main)
        ):
            join(main, companion)
    for files in _alike(result):
        mains = [
            (kind, file)
            for kind, file in files
            if kind < _FILM and not _is_bad(file, known.get(file.key))
        ]
        if not mains:
            continue
        best, main_file = min(mains, key=lambda each: (each[0], each[1].path))
        for kind, file in files:
            if (
                kind > best
                and kind >= _RAW
                and not _has_row(known.get(file.key))
                and _are_close(file, main_file)
                and (kind == _RAW or is_of_live_photo(file))
            ):
                join(main_file.key, file.key)
    for main, paths in companions.items():
        if main in found:
            names = json.dumps(sorted(paths), ensure_ascii=False)
            result[main] = replace(found[main], companions=names)
    return result


def may_be_companion(path: str) -> bool:
    """Whether a file could be one by its name."""
    return _KINDS.get(_split(path)[1], -1) >= _RAW


def _split(path: str) -> tuple[str, str]:
    """What files of one photo have in common, and the ending."""
    return os.path.splitext(path.lower())  # noqa: PTH122


def _pairs_of_rows(known: Mapping[Key, KnownSource]) -> Iterator[tuple[Key, Key]]:
    """Picture and companion, as the rows name them, but for what people wrote there that could be none."""
    for main, before in known.items():
        if before.companions and _has_row(before):
            for name in names_of(before.companions):
                companion = main[0], name
                could_be = may_be_companion(name) and _split(name)[0] == _split(main[1])[0]
                if could_be and not _has_row(known.get(companion)):
                    yield main, companion


def _alike(found: Mapping[Key, FoundFile]) -> Iterator[list[tuple[int, FoundFile]]]:
    """The files, with their kinds, that are called the same and of which some may be companions."""
    alike: dict[Key, list[tuple[int, FoundFile]]] = defaultdict(list)
    pictures: list[tuple[Key, int, FoundFile]] = []
    for file in found.values():
        stem, ending = _split(file.path)
        kind = _KINDS.get(ending)
        if kind is None or file.problem is not None:
            continue
        place = file.root, stem
        if kind >= _RAW:
            alike[place].append((kind, file))
        else:
            pictures.append((place, kind, file))
    for place, kind, file in pictures:
        if place in alike:
            alike[place].append((kind, file))
    return iter(alike.values())


def _has_row(before: KnownSource | None) -> bool:
    return before is not None and before.image_id is not None


def _is_bad(file: FoundFile, before: KnownSource | None) -> bool:
    """Whether a file is empty, or failed and was not changed since; "" is the time of what could not be opened."""
    if before is None or not before.failed:
        return file.size == 0
    return before.mtime in ("", file.mtime) and before.size == file.size


def _is_of_live_photo(file: FoundFile) -> bool:
    from ..decoding.films import film_metadata_of  # Loads FFmpeg, so not before there is a film.

    try:
        with file.open() as opened:
            kind = film_kind(opened.read(HEAD), file.name)
            opened.seek(0)
            found = film_metadata_of(opened, kind) if kind is not None else None
    except OSError:
        return False
    return found is not None and found.duration is not None and found.duration <= LONGEST


def _are_close(file: FoundFile, main: FoundFile) -> bool:
    if file.mtime == main.mtime:
        return True
    try:
        times = [datetime.fromisoformat(each.mtime) for each in (file, main)]
    except ValueError:
        return False  # Storage that tells a tag and no time.
    return abs((times[0] - times[1]).total_seconds()) <= CLOSE
