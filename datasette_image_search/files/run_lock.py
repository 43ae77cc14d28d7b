"""
A lock for one run at a time on a database: two would embed the same files and disturb each other's rows.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import ImageSearchError
from .special_files import special_kind

if sys.platform == "win32":
    import msvcrt

    HELD = (errno.EACCES, errno.EDEADLK)

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    HELD = (errno.EWOULDBLOCK,)

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


NO_WAITING = (
    getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
)
"""Flags with which opening returns at once, whatever is in the place of the file."""

logger = logging.getLogger(__name__)


class RunInProgress(ImageSearchError):
    """Another process writes to the same database."""


@contextlib.contextmanager
def only_run(database: Path) -> Iterator[None]:
    """
    Hold the lock of a database, or raise RunInProgress. Raises ImageSearchError if there can be no lock.
    The operating system releases the lock of a killed process, so none is ever stale.
    """
    # A link to a database is the same database.
    file_of_database = database.resolve()
    path = file_of_database.with_name(f"{file_of_database.name}-image-search.lock")
    descriptor = _open_locked(path, database)
    try:
        yield
    finally:
        # Removed while it is still held, so that nobody's lock but ours is taken away.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _open_locked(path: Path, database: Path) -> int:
    while True:
        descriptor = _open(path, database)
        try:
            status = os.fstat(descriptor)
            _check_is_file(path, status)
            _take(descriptor, database, status)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(status, path.lstat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # A run ended between our opening and our locking, and took the file along.
        os.close(descriptor)


def _open(path: Path, database: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | NO_WAITING, 0o666)
    except PermissionError as error:
        refused = error
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            _check_is_file(path, path.lstat())
        raise ImageSearchError(_cannot_write(database, error)) from error
    try:
        # A file that somebody else made can be locked by anyone who may read it.
        return os.open(path, os.O_RDONLY | NO_WAITING)
    except OSError:
        try:
            status = path.lstat()
        except OSError:
            raise ImageSearchError(_cannot_write(database, refused)) from refused
    _check_is_file(path, status)
    raise ImageSearchError(
        f"the lock file {str(path)!r} belongs to the user {_owner_of(status)!r} and cannot be read, so a "
        "run of theirs may be active; if there is none, remove the file"
    ) from refused


def _cannot_write(database: Path, error: OSError) -> str:
    return f"cannot write in the folder of {str(database)!r}: {error.strerror}"


def _check_is_file(path: Path, status: os.stat_result) -> None:
    kind = special_kind(status.st_mode)
    if kind is not None:
        raise ImageSearchError(
            f"{str(path)!r} is {kind}, in the place of the lock file of runs; remove it"
        )


def _take(descriptor: int, database: Path, status: os.stat_result) -> None:
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in HELD:
            owner = _owner_of(status)
            whose = f" of the user {owner!r}" if owner else ""
            raise RunInProgress(
                f"another run{whose} is writing to {str(database)!r}; wait until it has finished"
            ) from error
        # Some network drives have no locks: there, people must start only one run.
        logger.warning(
            "the drive of %r does not support locks (%s); do not start a second run on it meanwhile",
            str(database),
            error.strerror,
        )


def _owner_of(status: os.stat_result) -> str | None:
    """The name of the user who owns the file, if it is somebody else."""
    if sys.platform == "win32" or status.st_uid == os.geteuid():
        return None
    import pwd

    try:
        return pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        return str(status.st_uid)
