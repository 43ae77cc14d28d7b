"""The openers of databases: what each waits for, makes, reads and refuses."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search.errors import ImageSearchError
from datasette_image_search.store import connections
from datasette_image_search.store.connections import (
    checkpoint,
    database_path,
    open_at_once,
    open_database,
    open_if_exists,
    open_or_make,
    open_to_read,
    read_without_locks,
)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table notes as select cast(x'ff' as text) as text")
    return path


def of(opened: Database | sqlite3.Connection, sql: str) -> list[tuple[object, ...]]:
    return opened.execute(sql).fetchall()


def test_a_database_that_is_missing_is_not_made(tmp_path: Path):
    path = tmp_path / "photos.db"
    with pytest.raises(ImageSearchError, match=r"there is no database '.*photos.db'"):
        open_database(path)
    with open_if_exists(path) as db:
        assert database_path(db.conn) is None
    assert not path.exists()


def test_a_folder_is_no_database(tmp_path: Path):
    with pytest.raises(ImageSearchError, match="is a folder, not a database"):
        open_database(tmp_path)


def test_a_new_database_has_room_for_vectors_in_a_page(tmp_path: Path):
    with open_or_make(tmp_path / "photos.db") as db:
        db.execute("create table images (id integer primary key)")
        assert of(db, "pragma page_size") == [(connections.PAGE_SIZE,)]


@pytest.mark.parametrize(
    ("opened", "seconds"),
    [
        (open_database, 5),
        (lambda path: open_database(path, to_write=True), connections.BUSY_SECONDS),
        (open_or_make, connections.BUSY_SECONDS),
        (open_if_exists, connections.BUSY_SECONDS),
        (open_to_read, 5),
        (lambda path: open_at_once(path, "rw"), 0),
    ],
)
def test_each_opener_waits_as_long_as_it_says_and_reads_any_text(
    notes: Path, opened: Callable[[Path], Database | sqlite3.Connection], seconds: int
):
    with closing(opened(notes)) as there:
        assert of(there, "pragma busy_timeout") == [(seconds * 1000,)]
        assert of(there, "select text from notes") == [("\N{REPLACEMENT CHARACTER}",)]


@pytest.mark.parametrize("opened", [open_to_read, lambda path: open_at_once(path, "ro")])
def test_a_read_only_connection_writes_nothing(
    notes: Path, opened: Callable[[Path], sqlite3.Connection]
):
    with closing(opened(notes)) as conn:
        assert database_path(conn) == notes.resolve()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            conn.execute("delete from notes")


def test_a_database_is_read_without_locks_while_another_program_writes(
    notes: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "_read_without_locks", set())
    with closing(sqlite3.connect(notes, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        with closing(open_at_once(notes, "ro")) as conn, pytest.raises(sqlite3.OperationalError):
            of(conn, "select * from notes")
        read_without_locks(notes)
        with closing(open_to_read(notes)) as conn:
            assert len(of(conn, "select * from notes")) == 1


def test_a_checkpoint_leaves_no_wal(notes: Path):
    wal = notes.with_name("notes.db-wal")
    with open_database(notes, to_write=True) as db:
        db.enable_wal()
        db.table("notes").insert({"text": "more"})
        assert wal.stat().st_size > 0
        checkpoint(db)
        assert wal.stat().st_size == 0


def test_an_old_sqlite_is_one_sentence(notes: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    for open_one in (open_database, open_or_make):
        with pytest.raises(ImageSearchError, match=r"has SQLite 3\.34\.1, and .* needs 3\.35; use"):
            open_one(notes)
