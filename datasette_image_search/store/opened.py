"""The database of somebody who has a path, or a connection that is open already."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from inspect import isfunction, isgeneratorfunction
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database

from ..checked import several
from ..errors import ImageSearchError
from ..files.remote_urls import clean_url, is_url
from .connections import database_path, open_database, plain_rows, wrapped
from .migrations import migrate
from .outside_errors import in_one_sentence

Paths = str | os.PathLike[str]

T = TypeVar("T")
User = TypeVar("User", bound="UsesDatabase")


class OpenedDatabase:
    """
    A database that is opened when it is needed, again after `close`, and anew when it is written to.
    A connection of somebody else is never closed.
    """

    def __init__(
        self, database: Paths | sqlite3.Connection | Database, *, raw_errors: bool = False
    ) -> None:
        self.migrated = False
        """Whether `to_write` brought an older database to this version."""
        self._path: Path | None = None
        self._db: Database | None = None
        self._conn: sqlite3.Connection | None = None
        self._writes = False
        self._raw_errors = raw_errors
        if isinstance(database, sqlite3.Connection):
            self._conn = database
        elif isinstance(database, Database):
            self._db, self._conn = database, database.conn
        else:
            # Of the folder that the process is in now, wherever it goes.
            self._path = as_path(database).absolute()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """
        Within it a connection gives tuples, whatever its own rows are, and errors of SQLite and of files
        are ImageSearchErrors, unless they are to be raw.
        """
        with (
            plain_rows(self._conn) if self._conn else nullcontext(),
            nullcontext() if self._raw_errors else in_one_sentence(self._known_path),
        ):
            yield

    def _known_path(self) -> Path | None:
        if self._path is None and self._conn is not None:
            with suppress(sqlite3.Error):
                return database_path(self._conn)
        return self._path

    @property
    def conn(self) -> sqlite3.Connection:
        """Raises ImageSearchError if there is no such file, or no database in it."""
        if self._conn is None:
            assert self._path is not None
            with in_one_sentence(self._known_path):
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
        """
        The database, with the tables of this version. Raises ImageSearchError if it is read-only, or
        has changes that are not committed: what is written is committed, and a file beside it too.
        """
        self._check_committed()
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
        self._check_committed()
        self.close()

    def close(self) -> None:
        if self._path is not None and self._db is not None:
            self._db.close()
            self._db, self._conn, self._writes = None, None, False

    def _check_committed(self) -> None:
        if self._conn is not None and self._conn.in_transaction:
            raise ImageSearchError(
                "the connection has changes that are not committed; commit them first"
            )


class UsesDatabase:
    """A database that its user closes, or that a `with` closes: see OpenedDatabase."""

    def __init__(
        self, database: Paths | sqlite3.Connection | Database, *, raw_errors: bool = False
    ) -> None:
        self._database = OpenedDatabase(database, raw_errors=raw_errors)

    def __enter__(self: User) -> User:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection that all methods but `embed` and `import_vectors` use."""
        return self._database.conn

    @property
    def path(self) -> Path:
        """The file of the database."""
        return self._database.path

    @property
    def migrated(self) -> bool:
        """Whether a method that writes brought an older database to this version."""
        return self._database.migrated


def used(images: type[T]) -> type[T]:
    """A class whose `_database` is an OpenedDatabase, with the public methods using that: see `in_use`."""
    for name, method in list(vars(images).items()):
        if isgeneratorfunction(method):
            setattr(images, name, _each_step_used(method))
        elif isfunction(method) and not name.startswith("_"):
            setattr(images, name, _used(method))
    return images


def _used(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def used(self: Any, *args: Any, **options: Any) -> Any:
        with self._database.in_use():
            return method(self, *args, **options)

    return used


def _each_step_used(
    method: Callable[..., Generator[Any, None, None]],
) -> Callable[..., Generator[Any, None, None]]:
    """Between the steps of a generator the connection is as the caller has it."""

    @wraps(method)
    def used(self: Any, *args: Any, **options: Any) -> Generator[Any, None, None]:
        steps = method(self, *args, **options)
        try:
            while True:
                with self._database.in_use():
                    step = next(steps, None)
                if step is None:
                    return
                yield step
        finally:
            with self._database.in_use():
                steps.close()

    return used


def as_paths(name: str, paths: Paths | Iterable[Paths]) -> list[Path]:
    """One path or several."""
    some: tuple[Any, ...] = several(name, paths, str, os.PathLike)
    return [as_path(path) for path in some]


def as_places(name: str, paths: Paths | Iterable[Paths]) -> list[Path | str]:
    """As as_paths(), with the URLs among them as texts. Raises ImageSearchError for one that holds a secret."""
    some: tuple[Any, ...] = several(name, paths, str, os.PathLike)
    return [
        clean_url(path) if isinstance(path, str) and is_url(path) else as_path(path)
        for path in some
    ]


def path_or_none(path: Paths | None) -> Path | None:
    """None for no path, also for an empty one."""
    return as_path(path) if path else None


def as_path(path: Paths) -> Path:
    """A Path as it is; in a text, ~ is the home folder, unless there is no such person."""
    if not isinstance(path, str | os.PathLike):
        raise ImageSearchError(f"{path!r:.60} is not a path; give a text or a Path")
    return Path(os.path.expanduser(path) if isinstance(path, str) else path)  # noqa: PTH111
