"""Limits of what a page reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from datasette_image_search.web import reading
from datasette_image_search.web.reading import statements_limited

pytestmark = pytest.mark.datasette

ENDLESS = "with recursive c(n) as (select 1 union all select n + 1 from c) select count(*) from c"


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as conn:
        yield conn


def test_a_statement_ends_at_the_limit(conn: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="interrupted"), statements_limited(conn, 20):
        conn.execute(ENDLESS)
    # And no later one does.
    conn.execute(
        "with recursive c(n) as (select 1 union all select n + 1 from c limit 9999) select max(n) from c"
    )


def test_statements_that_run_others_for_each_row_end_at_the_limit(conn: sqlite3.Connection) -> None:
    def asking(_: int) -> int:
        try:
            return conn.execute("select 1").fetchone()[0]
        except sqlite3.OperationalError:
            # It may meet the end, too; then the next one does.
            return 0

    conn.create_function("asking", 1, asking)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"), statements_limited(conn, 50):
        conn.execute(ENDLESS.replace("count(*)", "sum(asking(n))"))


def test_what_is_done_between_statements_does_not_count(
    conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(reading.time, "perf_counter", lambda: now)

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds
        conn.execute(ENDLESS.replace("from c)", "from c limit 9999)"))

    with statements_limited(conn, 1000):
        for _ in range(5):
            work(1.5)
    # But what takes very long is no page.
    with (
        pytest.raises(sqlite3.OperationalError, match="interrupted"),
        statements_limited(conn, 1000),
    ):
        work(11)
