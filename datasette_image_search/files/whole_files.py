"""Files that are written whole or not at all: beside their place, synced, renamed."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .special_files import special_kind

ABANDONED = 3600
"""Seconds after which a temporary file must be from a process that was killed."""

_TEMPORARY = re.compile(r"[a-z0-9_]{8}\.tmp")
"""The ending that tempfile.mkstemp() adds to a name."""


@contextmanager
def temporary_beside(path: Path, like: Path | None = None) -> Iterator[Path]:
    """
    An empty file beside `path`, for the caller to write, to sync and to put_in_place(). It is removed if the caller
    does not. It gets the permissions of the file `like`, otherwise it is for its owner only. Raises OSError, also if
    something other than a file is at the path.
    """
    _check_is_file(path)
    for left_behind in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        if not _TEMPORARY.fullmatch(left_behind.name[len(path.name) + 1 :]):
            continue
        with suppress(OSError):
            if time.time() - left_behind.stat().st_mtime > ABANDONED:
                left_behind.unlink()
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        if like is not None:
            shutil.copymode(like, temporary)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sync(file: BinaryIO) -> None:
    """What was written is on the disk afterwards, and the next reader reads it from there."""
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        # A check must read from the disk, not from the cache.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename, in a way that survives a crash. Raises OSError."""
    _check_is_file(path)
    temporary.replace(path)
    sync_names(path.parent)


def sync_names(folder: Path) -> None:
    """The disk has the names in a folder, where the system opens folders and syncs them."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_is_file(path: Path) -> None:
    """Raises OSError if something other than a file is at the path."""
    with suppress(FileNotFoundError):
        kind = special_kind(path.stat().st_mode)
        if kind is not None:
            raise FileExistsError(errno.EEXIST, f"it is {kind}; remove it", str(path))
