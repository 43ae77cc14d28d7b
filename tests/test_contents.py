"""BLOBs of a person's own table, copied without being in memory."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import tracemalloc
from collections.abc import Callable
from urllib.parse import quote

import pytest
from sqlite_utils import Database

from datasette_image_search.store import contents
from datasette_image_search.store.contents import copy_content
from datasette_image_search.store.tables import find_image_table

CONTENT = bytes(range(256)) * 5000


KEYS = ("integer", "text", "without rowid", "with a rowid of its own")


@pytest.fixture(params=KEYS)
def db(request: pytest.FixtureRequest) -> Database:
    key = "integer" if request.param == "integer" else "text"
    columns = f"id {key} primary key not null, content"
    columns += ", _rowid_ text" if request.param == "with a rowid of its own" else ""
    end = " without rowid" if request.param == "without rowid" else ""
    db = Database(memory=True)
    db.execute(f"create table images ({columns}){end}")
    values = [("1", CONTENT), ("2", b""), ("3", None), ("4", "a text"), ("5", 12)]
    db.conn.executemany("insert into images (id, content) values (?, ?)", values)
    return db


def copied(db: Database, key: str, at_most: int = len(CONTENT)) -> tuple[bytes, tuple[int, str]]:
    table = find_image_table(db.conn, "images")
    target = io.BytesIO()
    image_id = table.parse_key(key)
    found = copy_content(db.conn, table, "content", image_id, target, at_most=at_most)
    return target.getvalue(), found


def test_what_is_copied_is_what_is_there(db: Database) -> None:
    written, found = copied(db, "1")
    assert written == CONTENT
    assert found == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize("key", ["2", "3", "4", "5", "6"])
def test_what_is_no_blob_is_nothing(db: Database, key: str) -> None:
    assert copied(db, key) == (b"", (0, hashlib.sha256(b"").hexdigest()))


def test_what_is_above_the_limit_is_not_read(db: Database) -> None:
    assert copied(db, "1", at_most=len(CONTENT) - 1)[0] == b""


@pytest.mark.skipif(not hasattr(Database(memory=True).conn, "blobopen"), reason="Python 3.10")
def test_a_large_one_is_never_in_memory_as_a_whole(tmp_path) -> None:
    db = Database(tmp_path / "a.db")
    db.execute("create table images (id integer primary key, content)")
    db.execute("insert into images values (1, zeroblob(50000000))")
    db.conn.commit()
    table = find_image_table(db.conn, "images")
    with (tmp_path / "copy").open("wb") as target:
        tracemalloc.start()
        size, _ = copy_content(db.conn, table, "content", 1, target, at_most=10**9)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert size == 50_000_000
    assert most < 10 * contents.PIECE


def in_base64() -> str:
    return base64.b64encode(CONTENT).decode()


def in_lines() -> str:
    return base64.encodebytes(CONTENT).decode().replace("\n", "\r\n")


WRITTEN: dict[str, Callable[[], str]] = {
    "base64": in_base64,
    "lines": in_lines,
    "long head": lambda: f"data:image/png;name={'x' * 900};base64,{in_lines()}",
    "quoted base64": lambda: "data:image/png;base64," + quote(in_base64(), safe=""),
    "quoted": lambda: "  data:image/png,%" + CONTENT.hex("%"),
}


@pytest.mark.parametrize(("db", "kind"), zip(itertools.cycle(KEYS), WRITTEN), indirect=["db"])
def test_a_text_may_be_longer_than_the_picture_in_it(db: Database, kind: str) -> None:
    value = WRITTEN[kind]()
    db.execute("update images set content = ? where id = 4", [value])
    assert copied(db, "4")[0] == CONTENT
    assert copied(db, "4", at_most=len(CONTENT) - 1)[0] == b""
