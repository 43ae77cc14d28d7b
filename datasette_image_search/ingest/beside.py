"""
The .xmp files beside pictures, where programs write what they must not write into them: "a.jpg.xmp", or "a.xmp"
for every picture that is called "a".
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..decoding.describing import are_whole
from ..files.remote import read_remote
from ..files.special_files import open_regular
from ..files.states import iso_time

SUFFIX = ".xmp"

LARGEST = 4_000_000
"""Bytes; larger ones are something else."""

_encoded = json.JSONEncoder(ensure_ascii=False).encode
"""json.dumps makes an encoder each time, which is a fifth of the time of very many files."""


State = tuple[str, int, str]
"""The name, size and time of a file."""


class FilesBeside:
    """
    The .xmp files of one folder, of whose files these are the names. `state_of` tells the state of one by its name, None
    if it is no such file; by default that of a folder on this machine.
    """

    def __init__(
        self,
        folder: str,
        names: Iterable[str],
        state_of: Callable[[str], State | None] | None = None,
    ):
        self._folder = folder
        self._state_of = state_of or self._state
        self._names = {name.lower(): name for name in names if name.lower().endswith(SUFFIX)}

    def of(self, picture: str) -> str:
        """
        The state of the files beside a picture, by its path: a JSON array of their names, sizes and times, that of
        its whole name first; "" if there is none.
        """
        if not self._names:
            return ""
        picture = os.path.basename(picture)  # noqa: PTH119
        stem = os.path.splitext(picture)[0]  # noqa: PTH122
        names = (self._names.get(f"{each}{SUFFIX}".lower()) for each in (picture, stem))
        states = [state for name in names if name and (state := self._state_of(name))]
        return _encoded(states) if states else ""

    def _state(self, name: str) -> State | None:
        try:
            name.encode()
            status = os.stat(os.path.join(self._folder, name))  # noqa: PTH116, PTH118
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return None
        return name, status.st_size, iso_time(status.st_mtime_ns // 1000)


def files_beside(folder: str) -> FilesBeside:
    """Those of a folder; none if it cannot be listed."""
    try:
        return FilesBeside(folder, os.listdir(folder))  # noqa: PTH208
    except OSError:
        return FilesBeside(folder, [])


def read_beside(folder: Path, state: str) -> list[bytes]:
    """The bytes of the files of a state, without those that are gone. Raises OSError for others that cannot be read."""
    found = []
    for name, _, _ in json.loads(state) if state else []:
        try:
            with open_regular(folder / name) as file:
                found.append(file.read(LARGEST))
        except FileNotFoundError:
            continue
    return found


def read_remote_beside(root: str, folder: str, state: str) -> list[bytes]:
    """As read_beside(), of a folder below a remote root."""
    found = []
    for name, size, _ in json.loads(state) if state else []:
        with suppress(FileNotFoundError):
            found.append(read_remote(root, f"{folder}/{name}" if folder else name, size))
    return found


def readable(read: Callable[[], list[bytes]]) -> list[bytes] | None:
    """
    The .xmp files that `read` returns. None if one cannot be read or understood: a program may be writing it, so
    that what it says is not known, which is another thing than that it says nothing.
    """
    try:
        files = read()
    except OSError:
        return None
    return files if are_whole(files) else None
