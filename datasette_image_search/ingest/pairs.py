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

from ..decoding.formats import is_raw_name
from .walk import FoundFile

PICTURES = (".heic", ".heif", ".hif", ".jpg", ".jpeg", ".jpe")
"""What may have companions, that of a telephone or a camera first."""

FILMS = (".mov", ".mp4")

CLOSE = 60.0
"""Seconds between the times of two files that are one photo. A JPEG that was made of a RAW on another day is another one."""

_RAW, _FILM, _OTHER = len(PICTURES), len(PICTURES) + 1, len(PICTURES) + 2

Key = tuple[str, str]
"""The root and the path of a file."""


def paired(found: Mapping[Key, FoundFile], has_row: Callable[[Key], bool]) -> dict[Key, FoundFile]:
    """
    The files, less the companions of others, which name these. They are in the same folder, are called the same but for
    the ending, and were written at the same time. A file that has a row of its own keeps it.
    """
    companions = defaultdict(list)
    for key, file in found.items():
        if _is_companion(file.path) and file.problem is None:
            companions[file.root, _stem(file.path)].append(key)
    if not companions:
        return dict(found)
    mains: dict[Key, list[FoundFile]] = defaultdict(list)
    for file in found.values():
        place = file.root, _stem(file.path)
        if place in companions and file.problem is None:
            mains[place].append(file)
    result = dict(found)
    for place, keys in companions.items():
        main = min(mains[place], key=_rank)
        of_it = [
            key
            for key in keys
            if _kind(key[1]) > _kind(main.path)
            and not has_row(key)
            and abs(_seconds(found[key]) - _seconds(main)) <= CLOSE
        ]
        if of_it:
            for key in of_it:
                del result[key]
            names = json.dumps(sorted(path for _, path in of_it), ensure_ascii=False)
            result[main.key] = replace(main, companions=names)
    return result


def _is_companion(path: str) -> bool:
    return _kind(path) in (_RAW, _FILM)


def _kind(path: str) -> int:
    """The lower, the rather it is the picture of the pair."""
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if ending in PICTURES:
        return PICTURES.index(ending)
    return _RAW if is_raw_name(path) else _FILM if ending in FILMS else _OTHER


def _rank(file: FoundFile) -> tuple[int, str]:
    return _kind(file.path), file.path


def _stem(path: str) -> str:
    return os.path.splitext(path)[0].lower()  # noqa: PTH122


def _seconds(file: FoundFile) -> float:
    return datetime.fromisoformat(file.mtime).timestamp()
