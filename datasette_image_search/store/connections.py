"""
The only module that opens SQLite databases. Choose an opener by what you do, and close what it gives:

- `open_database`: a command that reads or writes a database that exists.
- `open_or_make`: a command that writes, and makes the database if it is missing.
- `open_if_exists`: a look into a database that such a command may make later.
- `open_to_read`: a long read beside the connections of Datasette, or of another program's database.
- `open_at_once`: a short look that never waits for a lock.

- `in_memory`: a table for a moment.

The first three give a sqlite_utils Database with the SQL functions of this package and of other plugins,
because filters and a person's own triggers may use those. The others give plain connections.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from sqlite_utils import Database

from ..errors import ImageSearchError
from ..files.special_files import check_is_file

BUSY_SECONDS = 60
"""How long a writer waits for another process that is writing to the database."""

PAGE_SIZE = 16_384
"""Bytes in a page of a new database. A page of SQLite's usual 4096 bytes has room for one vector of 512
dimensions, and half of the file would be empty."""

_CANNOT_WRITE = ("unable to open database file", "attempt to write a readonly database")
"""Messages of SQLite about a WAL that it may not create."""

OLDEST_SQLITE = (3, 35)
"""The first version that gives back what a statement deletes, which ours ask for."""

_read_without_locks: set[Path] = set()


def check_sqlite() -> None:
    """Raises ImageSearchError if the SQLite of this Python is too old."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise ImageSearchError(
            f"this Python has SQLite {sqlite3.sqlite_version}, and datasette-image-search needs {oldest}; use a Python "
            "with a newer one, such as that of a newer system"
        )


def open_database(database: Path, *, to_write: bool = False) -> Database:
    """
    A database that exists. With `to_write` it waits up to BUSY_SECONDS for other writers.

    Raises ImageSearchError if there is no such file, or if it is read-only and `to_write` is set.
    """
    if not database.exists():
        raise ImageSearchError(f"there is no database {str(database)!r}")
    check_is_file(database, "a database")
    if to_write:
        check_writable(database)
        return open_or_make(database)
    return _open(database)


def open_or_make(database: Path) -> Database:
    """
    A database to write to, which is made if it is missing. It waits up to BUSY_SECONDS for other writers.
    """
    db = _open(database)
    db.execute(f"pragma page_size = {PAGE_SIZE}")
    db.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000}")
    return db


def open_if_exists(database: Path) -> Database:
    """
    As open_or_make, but an empty database in memory stands for one that is missing: connecting would
    make a file.
    """
    return open_or_make(database) if database.exists() else Database(memory=True)


def in_memory() -> sqlite3.Connection:
    """An empty database of our own, for a moment."""
    return sqlite3.connect(":memory:")


def wrapped(conn: sqlite3.Connection) -> Database:
    """A connection that somebody else opened, and will close."""
    return Database(conn)


def open_to_read(database: Path) -> sqlite3.Connection:
    """
    A read-only connection of our own, for any thread and for long reads: Datasette interrupts a query
    after its time limit, and half an index is useless.

    Raises sqlite3.Error if the database cannot be read.
    """
    without_locks = database.resolve() in _read_without_locks
    conn = _connect(database, "mode=ro&nolock=1" if without_locks else "mode=ro")
    try:
        conn.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.Error as error:
        conn.close()
        # Without its journal, a database that a killed program left half written would be read as it is.
        if not str(error).startswith(_CANNOT_WRITE) or journal_is_left(database):
            raise
        # This is the only way to open a WAL database in a read-only folder.
        conn = _connect(database, "immutable=1")
    return conn


def open_at_once(database: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    """
    A connection that does not wait: a program that holds a lock is alive, and has left nothing half
    written.
    """
    return _connect(database, f"mode={mode}", timeout=0)


def _open(database: Path) -> Database:
    check_sqlite()
    db = Database(database)
    _read_any_text(db.conn)
    return db


def _connect(database: Path, parameters: str, **options: Any) -> sqlite3.Connection:
    """`parameters` are those of SQLite's URIs."""
    uri = f"{database.resolve().as_uri()}?{parameters}"
    conn = sqlite3.connect(uri, uri=True, check_same_thread=False, **options)
    _read_any_text(conn)
    return conn


def _read_any_text(conn: sqlite3.Connection) -> None:
    """SQLite also stores texts that are not UTF-8: read them as Datasette does, and fail for none."""
    conn.text_factory = lambda text: text.decode(errors="replace")


def read_without_locks(database: Path) -> None:
    """
    Open this database as `datasette --nolock` does, from now on in this process. open_to_read then works
    while another program holds a lock, at the risk of a half-written page.
    """
    _read_without_locks.add(database.resolve())


@contextmanager
def plain_rows(conn: sqlite3.Connection) -> Iterator[None]:
    """Rows are tuples meanwhile, and of the connection's own kind again afterwards, such as dicts."""
    before, conn.row_factory = conn.row_factory, None
    try:
        yield
    finally:
        conn.row_factory = before


def database_path(conn: sqlite3.Connection) -> Path | None:
    """The file of a connection, also of one that is locked; None for a database in memory."""
    # As bytes, because the name of a folder need not be UTF-8.
    before, conn.text_factory = conn.text_factory, bytes
    try:
        # Not a select, which would wait for the lock. The first is the main one.
        *_, file = conn.execute("pragma database_list").fetchone()
    finally:
        conn.text_factory = before
    return Path(os.fsdecode(file)).resolve() if file else None


def check_folder(database: Path) -> None:
    """Raises ImageSearchError if the folder for a database is missing, or if the database is no file."""
    check_is_file(database, "a database")
    folder = database.resolve().parent if database.is_symlink() else database.parent
    if not folder.is_dir():
        raise ImageSearchError(f"there is no folder {str(folder)!r} for the database")


def check_writable(database: Path) -> None:
    """
    Raises ImageSearchError if a database is read-only, or the folder that its journal and sidecars go to.
    """
    check_folder(database)
    database = database.resolve()
    if not os.access(database.parent, os.W_OK):
        raise ImageSearchError(
            f"the folder {str(database.parent)!r} cannot be written to, and the database needs it for "
            "its journal and indexes; make it writable, or work on a copy in another folder"
        )
    if database.exists() and not os.access(database, os.W_OK):
        raise ImageSearchError(
            f"the database {str(database)!r} cannot be written to; make it writable, or work on a copy"
        )


def checkpoint(db: Database) -> None:
    """
    Leave no WAL behind: `datasette -i` does not read it, and a read-only folder cannot have one. The wait
    is short, because a reader that goes on reading keeps the WAL anyway.
    """
    if db.journal_mode == "wal":
        (patience,) = db.execute("pragma busy_timeout").fetchone()
        db.execute("pragma busy_timeout = 1000")
        db.execute("pragma wal_checkpoint(truncate)").fetchall()
        db.execute(f"pragma busy_timeout = {patience}")


def journal_is_left(database: Path) -> bool:
    """Whether there is a journal, left by a program that is writing or was killed while it wrote."""
    with suppress(OSError):
        return database.with_name(f"{database.name}-journal").stat().st_size > 0
    return False


def is_left_half_written(database: Path) -> bool:
    """Whether only a program with write access can read it, because another was killed during a commit."""
    if not journal_is_left(database):
        return False
    try:
        with closing(open_at_once(database, "ro")) as conn:
            conn.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        return "locked" not in str(error)
    return False


def recover(database: Path) -> bool:
    """
    Roll back the half-written commit of a killed program, as SQLite does for any reader with write
    access. Returns whether the database can be read now.
    """
    try:
        with closing(open_at_once(database, "rw")) as conn:
            conn.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.Error:
        return False
    return True
