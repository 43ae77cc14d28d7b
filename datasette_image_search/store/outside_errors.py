"""Errors of SQLite and of files, as sentences that say what to do."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils.db import NoTable

from ..errors import ImageSearchError

_TO_DO = {
    "not a database": "give the path of one, or of a new file",
    "database is locked": "another program is writing to it; try again when it has finished",
    "malformed": "the file is damaged; restore a backup, or use sqlite3's .recover",
    "readonly": "make the file and its folder writable, or work on a copy",
    "unable to open": "check the path and its permissions",
    "is full": "free some space and try again",
}
"""Part of an error message of SQLite -> advice for a person."""


@contextmanager
def in_one_sentence(database: Callable[[], Path | None]) -> Iterator[None]:
    """An ImageSearchError in place of these errors, which are its cause. It names the file."""
    try:
        yield
    except (NoTable, sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            # The reader of a pipe has gone, which is no error of a program that prints.
            raise
        file = getattr(error, "filename", None)
        file = repr(file if isinstance(file, str) else str(database() or "the database"))
        raise ImageSearchError(f"{file}: {_said(error)}") from error


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, NoTable):
        return f"{error}, and has the name of a table of this program; rename it"
    todo = next((todo for said, todo in _TO_DO.items() if said in str(error)), None)
    return f"{error}; {todo}" if todo else str(error)
