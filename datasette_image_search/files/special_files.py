"""Pipes, devices and the like in the place of a file: opening a pipe would wait for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import ImageSearchError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def special_kind(mode: int) -> str | None:
    """A person's word for such a thing; None for a regular file. `mode` is st_mode."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


def check_is_file(path: Path, wanted: str) -> None:
    """Raises ImageSearchError if a path exists and is not a file; `wanted` says what should be there."""
    kind = special_kind(path.stat().st_mode) if path.exists() else None
    if kind is not None:
        raise ImageSearchError(f"{str(path)!r} is {kind}, not {wanted}")


def open_regular(path: Path) -> BinaryIO:
    """
    Open a file for reading. Raises OSError if there is none, or something else by now: it may have been a
    file when its folder was listed.
    """
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except IsADirectoryError as error:
        raise IsADirectoryError(error.errno, "it is a folder") from error
    kind = special_kind(os.fstat(file.fileno()).st_mode)
    if kind is not None:
        file.close()
        raise OSError(errno.EINVAL, f"it is {kind}")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
