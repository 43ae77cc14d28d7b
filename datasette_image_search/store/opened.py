"""The database of somebody who has a path, or a connection that is open already."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlite_utils import Database

from ..errors import ImageSearchError
from .connections import database_path, open_database, wrapped
from .migrations import migrate


class OpenedDatabase:
    """
    A database that is opened when it is needed, again after `close`, and anew when it is written to.
    A connection of somebody else is never closed.
    """

    def __init__(self, database: str | os.PathLike[str] | sqlite3.Connection | Database) -> None:
        self.migrated = False
        """Whether `to_write` brought an older database to this version."""
        self._path: Path | None = None
        self._db: Database | None = None
        self._conn: sqlite3.Connection | None = None
        self._writes = False
        if isinstance(database, sqlite3.Connection):
            self._conn = database
        elif isinstance(database, Database):
            self._db, self._conn = database, database.conn
        else:
            # Of the folder that the process is in now, wherever it goes.
            self._path = as_path(database).absolute()

    @property
    def conn(self) -> sqlite3.Connection:
        """Raises ImageSearchError if there is no such file."""
        if self._conn is None:
            assert self._path is not None
            self._db = open_database(self._path)
            self._conn = self._db.conn
        return self._conn

    @property
    def path(self) -> Path:
        """Raises ImageSearchError if the database is in memory."""
        path = self._path or database_path(self.conn)
        if path is None:
            raise ImageSearchError("the database is in memory; open one that is a file")
        return path

    def to_write(self) -> Database:
        """The database, with the tables of this version. Raises ImageSearchError if it is read-only."""
        if self._path is None:
            self._db = self._db or wrapped(self.conn)
        elif not self._writes:
            self.close()
            self._db = open_database(self._path, to_write=True)
            self._conn, self._writes = self._db.conn, True
        assert self._db is not None
        self.migrated = migrate(self._db) or self.migrated
        return self._db

    def let_others_write(self) -> None:
        """Raises ImageSearchError if another connection would wait for this one."""
        if self._conn is not None and self._conn.in_transaction:
            raise ImageSearchError(
                "the connection has changes that are not committed; commit them first"
            )
        self.close()

    def close(self) -> None:
        if self._path is not None and self._db is not None:
            self._db.close()
            self._db, self._conn, self._writes = None, None, False


def as_path(path: str | os.PathLike[str]) -> Path:
    """A Path as it is; in a text, ~ is the home folder, unless there is no such person."""
    return Path(os.path.expanduser(path) if isinstance(path, str) else path)  # noqa: PTH111
