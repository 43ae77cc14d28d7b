"""Waiting for other programs, and Ctrl-C meanwhile."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search.store import transaction
from datasette_image_search.store.transactions import upsert_rows

PATIENCE = "pragma busy_timeout = 30000"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A database with a table of notes, that waits for others for half a minute."""
    with closing(Database(tmp_path / "notes.db", execute_plugins=False)) as db:
        db["notes"].create({"note": str})
        db.execute(PATIENCE)
        yield db


@pytest.fixture
def other(db: Database, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that has the same database open."""
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        yield other


def ctrl_c_soon() -> threading.Timer:
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    return timer


def note_and(db: Database, work: Callable[[], object], **options) -> None:
    with transaction(db, **options):
        db["notes"].insert({"note": "lost"})
        work()


def notes(other: sqlite3.Connection) -> list[str]:
    return [note for (note,) in other.execute("select note from notes")]


def test_ctrl_c_ends_the_wait_for_another_writer(db: Database, other: sqlite3.Connection):
    other.execute("begin immediate")
    timer = ctrl_c_soon()
    with pytest.raises(KeyboardInterrupt), transaction(db):
        raise AssertionError("the lock was had")
    timer.join()
    assert other.in_transaction
    assert db.execute("pragma busy_timeout").fetchone() == (30000,)


def test_ctrl_c_ends_the_wait_for_a_reader_at_the_commit(db: Database, other: sqlite3.Connection):
    db["notes"].insert({"note": "before"})
    other.execute("begin")
    assert notes(other) == ["before"]
    timers: list[threading.Timer] = []
    with pytest.raises(KeyboardInterrupt):
        note_and(db, lambda: timers.append(ctrl_c_soon()))
    timers[0].join()
    other.execute("rollback")
    assert notes(other) == ["before"]
    assert not db.conn.in_transaction


def test_what_others_hold_is_waited_for(db: Database, other: sqlite3.Connection):
    other.execute("begin immediate")
    timer = threading.Timer(0.5, other.execute, ["rollback"])
    timer.start()
    with transaction(db):
        db["notes"].insert({"note": "written"})
    timer.join()
    assert notes(other) == ["written"]


def test_no_ctrl_c_comes_between_the_commit_and_what_is_noted_of_it(db: Database):
    noted = []

    def note() -> None:
        signal.raise_signal(signal.SIGINT)
        noted.append(db.execute("select count(*) from notes").fetchone())

    with pytest.raises(KeyboardInterrupt), transaction(db, committed=note):
        db["notes"].insert({"note": "written"})
    assert noted == [(1,)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_patience_has_an_end(db: Database, other: sqlite3.Connection):
    db.execute("pragma busy_timeout = 250")
    other.execute("begin immediate")
    with pytest.raises(sqlite3.OperationalError, match="locked"), transaction(db):
        pass


def test_nothing_is_noted_of_what_failed(db: Database):
    with pytest.raises(ZeroDivisionError):
        note_and(db, lambda: 1 / 0, committed=pytest.fail)
    assert db["notes"].count == 0


def test_rows_are_new_or_in_place_of_others_by_one_statement():
    """Anything else that fails on the way, and is passed over, would end the transaction unseen."""
    with closing(Database(memory=True)) as db:
        db["t"].insert({"a b": 1, "x": "old", "y": "stays"}, pk="a b")
        said = []
        db.conn.set_trace_callback(said.append)
        upsert_rows(db, "t", [{"a b": 1, "x": "new"}, {"a b": 2, "x": None}], ["a b"])
        upsert_rows(db, "t", [], ["a b"])
        db.conn.set_trace_callback(None)
        assert {each.partition(" ")[0].upper() for each in said} <= {"BEGIN", "INSERT"}
        assert db.execute("select * from t").fetchall() == [(1, "new", "stays"), (2, None, None)]
