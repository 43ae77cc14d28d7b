"""One run at a time on a database: two would embed the same files and trip over each other's rows."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import ImageSearchError

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class RunInProgress(ImageSearchError):
    """Another process embeds into the same database."""


@contextlib.contextmanager
def only_run(database: Path) -> Iterator[None]:
    """
    Hold the lock of a database, or raise RunInProgress.

    The operating system lets go of the lock of a process that was killed, so none is ever stale.
    """
    # A link to a database is the same database.
    file_of_database = database.resolve()
    path = file_of_database.with_name(f"{file_of_database.name}-image-search.lock")
    file = _open_locked(path, database)
    try:
        yield
    finally:
        # Removed while it is still held, so that nobody's lock but ours is taken away.
        with contextlib.suppress(OSError):
            path.unlink()
        file.close()


def _open_locked(path: Path, database: Path) -> IO[bytes]:
    while True:
        try:
            file = path.open("ab")
        except OSError as error:
            raise ImageSearchError(
                f"cannot write in the folder of {str(database)!r}: {error.strerror}"
            ) from error
        try:
            _lock(file)
        except OSError as error:
            file.close()
            raise RunInProgress(
                f"another run is embedding into {str(database)!r}; wait until it has ended"
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        # A run ended between our opening and our locking, and took the file along.
        file.close()
