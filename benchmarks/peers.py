"""
Compare exact searches for 20 vectors under a filter on one column with those of sqlite-vec and datasette-faiss, of those
that are installed: by turns, in milliseconds of a search, and how many times as long as ours they take.

    pip install apsw sqlite-vec datasette-faiss
    python benchmarks/peers.py                         # five minutes on 2 cores, 2 GB of disk
    OMP_NUM_THREADS=1 python benchmarks/peers.py --processor-time      # on a machine that does other work
    python benchmarks/peers.py --vectors images.npy --queries texts.npy

Without files, CLIP-like vectors are drawn (see collection.py). More than 200,000 take long: vec0 scans all for each query.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from search import Collection, add_vectors, open_or_make
from tabulate import tabulate

from datasette_image_search.search.freshness import live_index
from datasette_image_search.store import Filter

Search = Callable[[int, float, str], object]
"""Of the query with a number, for rows of which the column, written so, is below a value."""

WAYS = {"an index finds them": "{}", "an index is scanned": "+{}", "no index": "+{}"}
"""How an index helps a filter on a column; the plus keeps SQLite from looking anything up in it."""

SHARES = (0.25, 0.01)

QUERIES = 12
"""The first is for warming up."""


def compare(collection: Collection, clock: Callable[[], float]) -> None:
    """All are files, as ours is."""
    live = live_index(collection.conn, collection.index)
    vectors = live.segments[0].decoded(np.arange(collection.n))
    values = [
        value for (value,) in collection.conn.execute("select altitude from images order by id")
    ]
    searches: dict[str, Search] = {"this": _ours(collection)}
    for name, peer in (("sqlite-vec", _sqlite_vec), ("datasette-faiss", _datasette_faiss)):
        try:
            searches[name] = peer(collection, vectors, values)
        except ImportError as missing:
            print(f"{name}: not installed ({missing.name})")
    del vectors, values
    rows: dict[str, list[str]] = {name: [] for name in searches}
    headers = []
    for way, column in WAYS.items():
        collection.conn.execute("drop index if exists benchmark")
        if way != "no index":
            collection.conn.execute("create index benchmark on images (altitude)")
        for share in SHARES:
            headers.append(f"{share:.0%}, {way}")
            times: dict[str, list[float]] = {name: [] for name in searches}
            for number in range(QUERIES):
                for name, search in searches.items():
                    started = clock()
                    search(number, 100 * share, column)
                    times[name].append(1000 * (clock() - started))
            medians = {name: statistics.median(each[1:]) for name, each in times.items()}
            for name, ms in medians.items():
                ratio = "" if name == "this" else f" ({ms / medians['this']:.1f} x)"
                rows[name].append(f"{ms:,.1f}{ratio}")
    print(tabulate([[name, *row] for name, row in rows.items()], ["", *headers], "github"))
    print("wanted: 10 times as fast as sqlite-vec, and 15 as datasette-faiss if 1 % pass")


def _ours(collection: Collection) -> Search:
    def search(number: int, below: float, column: str) -> object:
        where = Filter(f"{column.format('altitude')} < :below", {"below": below})
        return collection.search(number, where)

    return search


def _sqlite_vec(collection: Collection, vectors: np.ndarray, values: list[float]) -> Search:
    """vec0 with a metadata column; through apsw, which loads extensions where Python's own may not."""
    import apsw
    import sqlite_vec

    conn = apsw.Connection(str(collection.database.with_name("sqlite-vec.db")))
    conn.enable_load_extension(True)
    conn.load_extension(sqlite_vec.loadable_path())
    conn.execute(
        f"create virtual table v using vec0(id integer primary key, value float, "
        f"vector float[{vectors.shape[1]}] distance_metric=cosine)"
    )
    with conn:
        rows = zip(values, vectors, strict=True)
        conn.executemany(
            "insert into v (id, value, vector) values (?, ?, ?)",
            ((id, value, vector.tobytes()) for id, (value, vector) in enumerate(rows)),
        )
    sql = "select id, distance from v where vector match ? and k = 20 and value < ?"
    # It has no index but its own.
    return lambda number, below, _: list(
        conn.execute(sql, [collection.queries[number].tobytes(), below])
    )


def _datasette_faiss(collection: Collection, vectors: np.ndarray, values: list[float]) -> Search:
    """Its aggregate, which is fed ids and vectors."""
    import datasette_faiss

    conn = sqlite3.connect(collection.database.with_name("datasette-faiss.db"))
    datasette_faiss.prepare_connection(conn)
    conn.execute("create table v (id integer primary key, value float, vector blob)")
    conn.executemany(
        "insert into v values (?, ?, ?)",
        (
            (id, value, vector.tobytes())
            for id, (value, vector) in enumerate(zip(values, vectors, strict=True))
        ),
    )
    conn.commit()
    conn.execute("create index by_value on v (value)")
    sql = "select faiss_agg(id, vector, ?, 20) from v where {} < ?"
    return lambda number, below, column: conn.execute(
        sql.format(column.format("value")), [collection.queries[number].tobytes(), below]
    ).fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200_000)
    add_vectors(parser)
    parser.add_argument("--processor-time", action="store_true", help="not the time of the clock")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        compare(open_or_make(Path(folder, "photos.db"), arguments), clock)


if __name__ == "__main__":
    main()
