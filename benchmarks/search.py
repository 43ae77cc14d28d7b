"""
Measure how fast searches are, with and without filters, and what they find. Each line is compared to the
bare FAISS search of the same vectors in the same run, because machines differ and are noisy.

    python benchmarks/search.py                        # everything, about 15 minutes on 2 cores
    python benchmarks/search.py exact filters          # only these parts
    python benchmarks/search.py --vectors images.npy --queries texts.npy

Without files, CLIP-like vectors are drawn (see collection.py). --database keeps the collection for the
next run. peers.py compares them with other tools.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collection import make_collection, text_vectors
from sqlite_utils import Database

from datasette_image_search.search import planner
from datasette_image_search.search.codes import threads_for
from datasette_image_search.search.freshness import live_index, live_snapshot
from datasette_image_search.search.hits import Found, Hit
from datasette_image_search.search.indexing import index_images
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.sidecar import sidecar_path
from datasette_image_search.sql import register_functions
from datasette_image_search.store import Filter, Index, find_index
from datasette_image_search.store.stored_vectors import vector_to_blob

T = TypeVar("T")

K = 20
REPEATED = 15
PAGE = 60
MEASURED = 400
"""Queries for a recall, whose standard error is then 0.002."""

SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)


class Collection:
    """A database with its queries, and the bare FAISS index of the same vectors to compare with."""

    def __init__(self, database: Path, queries: np.ndarray) -> None:
        self.database = database
        self.queries = queries
        self.conn = sqlite3.connect(database, isolation_level=None)
        self.index = find_index(self.conn)

    @cached_property
    def faiss(self) -> faiss.Index:
        """Of a sidecar; an engine has another file there."""
        path = sidecar_path(self.database.resolve(), self.index)
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)

    @property
    def n(self) -> int:
        return self.faiss.ntotal

    def search(self, number: int, filter: Filter | None = None, k: int = K, **options) -> Found:
        # The index is read anew, as every caller does.
        index = find_index(self.conn)
        vectors = self.queries[number : number + 1]
        (found,) = search_now(self.conn, index, vectors, k, filter, **options)
        return found

    def bare(self, number: int) -> None:
        self.faiss.search(self.queries[number : number + 1], K)


def search_now(
    conn: sqlite3.Connection,
    index: Index,
    vectors: np.ndarray,
    k: int,
    filter: Filter | None = None,
    **options,
) -> list[Found]:
    """By the score, in the state that the database has now."""
    with live_snapshot(conn, index) as live:
        return planner.search_live(conn, live, vectors, k, filter, **options)


def milliseconds(function: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    function(*arguments)
    return (time.perf_counter() - started) * 1000


def beside_bare(
    collection: Collection, function: Callable[[int], object], repeated: int = REPEATED
) -> tuple[float, float]:
    """Medians of (function, bare FAISS) in milliseconds, by turns and once without looking."""
    ours, bare = [], []
    for number in range(repeated + 1):
        bare.append(milliseconds(collection.bare, number))
        ours.append(milliseconds(function, number))
    return statistics.median(ours[1:]), statistics.median(bare[1:])


def line(what: str, value: float, bare: float | None, found: str = "", wanted: str = "") -> None:
    ratio = "" if bare is None else f"{value / bare:7.2f} x"
    print(f"{what:<58} {value:9.1f} ms {ratio:>10}  {found:<24} {wanted}", flush=True)


def recall(collection: Collection, queries: int, filter: Filter | None = None, k: int = K) -> float:
    found = wanted = 0
    for number in range(queries):
        best = {hit.id for hit in collection.search(number, filter, k, exact=True).hits}
        found += len(best & {hit.id for hit in collection.search(number, filter, k).hits})
        wanted += len(best)
    return found / max(1, wanted)


def pages(collection: Collection, queries: int) -> tuple[float, int]:
    """Of six pages, the share of the best of so many that they show, and how many are shown twice."""
    found = twice = 0
    for number in range(queries):
        best = {hit.id for hit in collection.search(number, k=6 * PAGE, exact=True).hits}
        shown = [
            hit.id
            for page in range(6)
            for hit in collection.search(number, k=PAGE + 1, offset=page * PAGE).hits[:PAGE]
        ]
        found += len(best & set(shown))
        twice += len(shown) - len(set(shown))
    return found / (queries * 6 * PAGE), twice


# --- Parts ---------------------------------------------------------------------------------------


def exact(collection: Collection) -> None:
    print(f"\nExact, {collection.n:,} x {collection.faiss.d}, no filter")
    ours, bare = beside_bare(collection, lambda number: collection.search(number, exact=True))
    line("bare FAISS, flat float16", bare, bare)
    line("search", ours, bare, wanted="1.15 x")
    index = collection.index
    for count in (4, 16):
        vectors = collection.queries[:count]
        together = milliseconds(search_now, collection.conn, index, vectors, K)
        line(f"{count} queries at once, each", together / count, bare)


def codes_in_bytes(collection: Collection) -> None:
    """Each search with them and without, by turns, in processor time, which other work does not change."""
    conn = collection.conn
    live = live_index(conn, collection.index)
    first, *newer = live.segments
    if first.in_bytes is None:
        print("\nCodes in bytes: the sidecar has none")
        return
    half = replace(live, segments=(replace(first, in_bytes=None), *newer))
    print(f"\nCodes in bytes, {collection.n:,} x {collection.faiss.d}, ms of the processor")
    for share in (None, 0.25, 0.01):
        where = None
        if share is not None:
            where = Filter("+altitude < :below", {"below": 100 * share})

        def search(
            searched: LiveIndex, number: int, where: Filter | None = where
        ) -> tuple[Hit, ...]:
            vectors = collection.queries[number : number + 1]
            return planner.search_live(conn, searched, vectors, K, where)[0].hits

        times: dict[str, list[float]] = {"bytes": [], "half": [], "bare": []}
        for number in range(REPEATED + 1):
            found = [
                _processor_time(times["bytes"], search, live, number),
                _processor_time(times["half"], search, half, number),
            ]
            assert found[0] == found[1], "other hits"
            # A second thread would wait in a loop, which takes a processor too.
            with threads_for(collection.queries[:1]):
                _processor_time(times["bare"], collection.bare, number)
        ours, without, bare = (statistics.median(each[1:]) for each in times.values())
        what = "no filter" if share is None else f"{share:.0%} filter, no index"
        line(f"{what}, half precision alone", without, bare)
        line(f"{what}, bytes first", ours, bare, f"{ours / without:.2f} of half", "0.6")


def _processor_time(into: list[float], function: Callable[..., T], *arguments: object) -> T:
    started = time.process_time()
    result = function(*arguments)
    into.append((time.process_time() - started) * 1000)
    return result


def filters(collection: Collection) -> None:
    how = "approximate" if live_index(collection.conn, collection.index).approximate else "exact"
    print(f"\nFilters, {how}: at most 2.5 x bare plus one enumeration")
    for share in SHARES:
        where = Filter("altitude < :below", {"below": 100 * share})
        _filter_line(collection, f"random {share:.2%}", lambda _, f=where: f)
    for share in SHARES:
        rows = int(collection.n * share)
        for name, where in (("", "+id"), (", by an index", "id")):
            _filter_line(
                collection,
                f"the farthest {share:.2%}{name}",
                lambda number, w=where, r=rows: _farthest(collection, number, w, r),
                repeated=5,
            )


def _farthest(collection: Collection, number: int, column: str, rows: int) -> Filter:
    """The rows that are farthest from a query, in a table of their own."""
    name = f"temp.far_{number}_{rows}"
    known = collection.conn.execute(
        "select 1 from temp.sqlite_master where name = ?", [name.partition(".")[2]]
    ).fetchone()
    if not known:
        live = live_index(collection.conn, collection.index)
        scores = live.scores(collection.queries[number])
        far = np.argpartition(scores, rows - 1)[:rows]
        collection.conn.execute(f"create table {name} (id integer primary key)")
        collection.conn.executemany(
            f"insert into {name} values (?)", ((id,) for id in live.image_ids(far).tolist())
        )
    return Filter(f"{column} in (select id from {name})")


def _filter_line(
    collection: Collection, what: str, filter_of: Callable[[int], Filter], repeated: int = REPEATED
) -> None:
    for number in range(repeated + 1):
        filter_of(number)
    matching = len(_enumerated(collection, filter_of(1)))
    ours, bare = beside_bare(
        collection, lambda number: collection.search(number, filter_of(number)), repeated
    )
    listing = statistics.median(
        milliseconds(_enumerated, collection, filter_of(number)) for number in range(1, 4)
    )
    hits = {len(collection.search(number, filter_of(number)).hits) for number in (1, 2)}
    assert hits == {min(K, matching)}, hits
    steps = collection.search(1, filter_of(1)).steps
    names = " ".join(step.name for step in steps)
    budget = 2.5 * bare + listing
    found = f"{min(hits)} of {matching:,}"
    line(
        what,
        ours,
        bare,
        found,
        f"{'within' if ours <= budget else 'OVER'} {budget:.0f} ms; {names}",
    )


def _enumerated(collection: Collection, filter: Filter) -> list:
    return collection.conn.execute(
        f"select id from images where {filter.where}", filter.params
    ).fetchall()


def ivf(collection: Collection) -> None:
    print("\nIVF, tuned for a recall of 0.98 on queries that are not measured here")
    before = beside_bare(collection, lambda number: collection.search(number, exact=True))
    with closing(Database(collection.database, execute_plugins=False)) as db:
        started = time.perf_counter()
        held_out = collection.queries[-200:]
        index_images(db, "images", type="ivf", queries=held_out)
        line("index-images --type ivf", (time.perf_counter() - started) * 1000, None)
    approximate = live_index(collection.conn, find_index(collection.conn)).approximate
    print(f"  {approximate.tuning!r}")
    # First, because it reads the lists that the timed queries will, as those of a server have been.
    found = recall(collection, min(MEASURED, len(collection.queries) - len(held_out)))
    ours, bare = beside_bare(collection, collection.search, 50)
    faster = before[0] / ours
    line(
        "search",
        ours,
        bare,
        f"recall@20 {found:.4f}",
        f"0.98; {faster:.1f} x faster than exact (8)",
    )
    for what, k, offset in (
        ("the first page", PAGE + 1, 0),
        ("the second", PAGE + 1, PAGE),
        ("the third", PAGE + 1, 2 * PAGE),
    ):
        ours, bare = beside_bare(
            collection,
            lambda number, k=k, offset=offset: collection.search(number, k=k, offset=offset),
        )
        found = recall(collection, 100, k=k + offset)
        line(what, ours, bare, f"recall@{k + offset} {found:.4f}")
    share, twice = pages(collection, 20)
    print(f"  six pages of {PAGE}: {share:.4f} of the best {6 * PAGE}, {twice} shown twice")
    for share in SHARES:
        where = Filter("altitude < :below", {"below": 100 * share})
        found = recall(collection, REPEATED, where)
        print(f"  random {share:.2%}: recall@20 {found:.4f}")
    filters(collection)
    with closing(Database(collection.database, execute_plugins=False)) as db:
        index_images(db, "images", type="flat")


def sql(collection: Collection) -> None:
    print("\nSQL functions")
    rows, fed = collection.n // 10, collection.n // 4
    conn = sqlite3.connect(collection.database)
    register_functions(conn)
    # Searched before, as in a server that is running.
    blobs = [vector_to_blob(query) for query in collection.queries[: 2 * REPEATED]]
    conn.execute("select image_search(?, 1)", [blobs[-1]]).fetchall()

    def ordered_by(function: str, number: int) -> None:
        conn.execute(
            f"select id, {function}(id, ?) as value from images where id <= ? "
            "order by value desc limit 20",
            # A short text, as people write it; what it says makes no difference once it is a vector.
            [f"#{number + 1}", rows],
        ).fetchall()

    for function in ("image_similarity", "image_relevance"):
        first, bare = beside_bare(collection, partial(ordered_by, function))
        line(f"{function}, {rows:,} rows, order by", first, bare, wanted="250 ms")
        second, bare = beside_bare(collection, partial(ordered_by, function))
        line("the same again", second, bare, wanted="120 ms")
    total, bare = beside_bare(
        collection,
        lambda number: conn.execute(
            "select image_search_agg(id, ?, 20) from images where id <= ?", [blobs[number], fed]
        ).fetchall(),
    )
    line(f"image_search_agg of {fed:,} rows", total, bare, wanted="300 ms")


def opening(collection: Collection) -> None:
    print("\nOpening, in a new process")
    script = """
import json, sqlite3, sys, time
from datasette_image_search.search.freshness import live_index, live_snapshot
from datasette_image_search.store import find_index
def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(l.split()[1]) for l in file if l.startswith("Private_Dirty")) * 1024
conn = sqlite3.connect(sys.argv[1])
before, started = private(), time.perf_counter()
live_index(conn, find_index(conn))
print(json.dumps([(time.perf_counter() - started) * 1000, (private() - before) / 1e6]))
"""
    runs = []
    for _ in range(5):
        process = subprocess.run(
            [sys.executable, "-c", script, collection.database], capture_output=True, check=True
        )
        runs.append(json.loads(process.stdout))
    ms, megabytes = (statistics.median(column) for column in zip(*runs, strict=True))
    line("open the index", ms, None, f"{megabytes:.1f} MB private", "100 ms, 50 MB")


def commit(collection: Collection) -> None:
    print("\nOne more image, committed by another, then searched for")
    with closing(sqlite3.connect(collection.database)) as other:
        other.execute("pragma synchronous = off")
        sizes = [path.stat().st_mtime_ns for path in _sidecars(collection)]

        def found(number: int) -> None:
            hits = collection.search(number).hits
            assert hits[0].id == added[number], "not found"

        added: dict[int, int] = {}
        times, bares = [], []
        for number in range(REPEATED):
            added[number] = add_image(other, collection.queries[number])
            times.append(milliseconds(found, number))
            bares.append(milliseconds(collection.bare, number))
        assert sizes == [path.stat().st_mtime_ns for path in _sidecars(collection)], "rewritten"
        for id in added.values():
            other.execute("delete from images where id = ?", [id])
        other.commit()
    line("search", statistics.median(times), statistics.median(bares), "found", "60 ms")


def _sidecars(collection: Collection) -> list[Path]:
    return sorted(
        collection.database.parent.glob(f"{collection.database.name}-image-search-*.faiss")
    )


def add_image(conn: sqlite3.Connection, vector: np.ndarray) -> int:
    with conn:
        row = conn.execute("insert into images (root_id, path) values (1, hex(randomblob(9)))")
        conn.execute(
            "insert into _images_vectors (index_id, image_id, sha256, vector) values (1, ?, null, ?)",
            [row.lastrowid, vector_to_blob(vector)],
        )
    return row.lastrowid


PARTS = {
    "exact": exact,
    "bytes": codes_in_bytes,
    "filters": filters,
    "sql": sql,
    "opening": opening,
    "commit": commit,
    "ivf": ivf,
}


def add_vectors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vectors", type=Path, help="a .npy file of image vectors")
    parser.add_argument("--queries", type=Path, help="a .npy file of query vectors, 300 or more")


def open_or_make(database: Path, arguments: argparse.Namespace) -> Collection:
    """The collection in a file, made if it is not there, with the queries that were asked for."""
    queries = (
        np.load(arguments.queries).astype(np.float32) if arguments.queries else text_vectors(400)
    )
    if not database.exists():
        started = time.perf_counter()
        n = source = arguments.images
        if arguments.vectors is not None:
            source = database.with_suffix(".npy")
            np.save(source, np.load(arguments.vectors, mmap_mode="r")[:n])
        make_collection(database, source)
        with closing(sqlite3.connect(database)) as conn, conn:
            rng = np.random.default_rng(0)
            conn.executemany(
                "update images set altitude = ? where id = ?",
                ((100 * value, id) for id, value in enumerate(rng.random(n).tolist(), start=1)),
            )
        print(f"made {database.name} in {time.perf_counter() - started:.0f} s")
    return Collection(database, queries)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--images", type=int, default=1_000_000)
    add_vectors(parser)
    parser.add_argument("--database", type=Path, help="keep the collection here")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {min(unknown)!r}")
    with tempfile.TemporaryDirectory() as folder:
        collection = open_or_make(arguments.database or Path(folder, "large.db"), arguments)
        for name in arguments.parts or PARTS:
            PARTS[name](collection)


if __name__ == "__main__":
    main()
