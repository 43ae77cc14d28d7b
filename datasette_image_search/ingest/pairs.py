"""
Files that are one photo: the film of a Live Photo beside its picture, and the RAW beside the JPEG. They have one row,
that of the picture, which names the others as its companions.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from ..decoding.formats import RAW_SUFFIXES
from .walk import FoundFile

PICTURES = (".heic", ".heif", ".hif", ".jpg", ".jpeg", ".jpe")
"""What may have companions, that of a telephone or a camera first."""

FILMS = (".mov", ".mp4")

CLOSE = 60.0
"""Seconds between the times of two files that are one photo. A JPEG that was made of a RAW on another day is another one."""

_RAW, _FILM = len(PICTURES), len(PICTURES) + 1

_KINDS = {
    **{ending: kind for kind, ending in enumerate(PICTURES)},
    **dict.fromkeys(RAW_SUFFIXES, _RAW),
    **dict.fromkeys(FILMS, _FILM),
}
"""The lower, the rather a file is the picture of the pair. Those of _RAW and _FILM may be companions."""

Key = tuple[str, str]
"""The root and the path of a file."""


def paired(found: Mapping[Key, FoundFile], has_row: Callable[[Key], bool]) -> dict[Key, FoundFile]:
    """
    The files, less the companions of others, which name these. They are in the same folder, are called the same but for
    the ending, and were written at the same time. A file that has a row of its own keeps it.
    """
    alike: dict[Key, list[tuple[int, FoundFile]]] = defaultdict(list)
    pictures: list[tuple[Key, int, FoundFile]] = []
    for file in found.values():
        stem, ending = os.path.splitext(file.path.lower())  # noqa: PTH122
        kind = _KINDS.get(ending)
        if kind is None or file.problem is not None:
            continue
        place = file.root, stem
        if kind >= _RAW:
            alike[place].append((kind, file))
        else:
            pictures.append((place, kind, file))
    if not alike:
        return dict(found)
    for place, kind, file in pictures:
        if place in alike:
            alike[place].append((kind, file))
    result = dict(found)
    for files in alike.values():
        best, main = min(files, key=lambda each: (each[0], each[1].path))
        companions = [
            file
            for kind, file in files
            if kind > best and kind >= _RAW and not has_row(file.key) and _are_close(file, main)
        ]
        if companions:
            for file in companions:
                del result[file.key]
            names = json.dumps(sorted(file.path for file in companions), ensure_ascii=False)
            result[main.key] = replace(main, companions=names)
    return result


def _are_close(file: FoundFile, main: FoundFile) -> bool:
    if file.mtime == main.mtime:
        return True
    times = [datetime.fromisoformat(each.mtime) for each in (file, main)]
    return abs((times[0] - times[1]).total_seconds()) <= CLOSE
