"""
Measure a collection that is larger than memory: how long it takes to import and to index, what searches with and
without filters take, how much of the best they find, how much memory they have of their own, and what it costs to open
the index and to find one more image.

    python benchmarks/large.py large.db                          # 10,000,000 images: hours, and 55 GB of disk
    python benchmarks/large.py small.db --images 200000          # the same in a minute
    python benchmarks/large.py large.db --steps search,filters   # again, of what is there
    python benchmarks/large.py lance.db --engine lance --type auto    # from a dataset of Lance in place of the sidecar

Each step is a process of its own, so that its memory is its own. Times of a processor can be compared on a machine that
others use too; those of a clock are only true on a quiet one.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest import mock

import click
from collection import make_collection, text_vectors
from search import Collection, add_image, milliseconds, recall
from sqlite_utils import Database
from tabulate import tabulate

from datasette_image_search.engines import lance
from datasette_image_search.engines.registry import BUILT_IN
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.held import Held
from datasette_image_search.search.indexing import index_images
from datasette_image_search.store import Filter, find_index

K = 20
TIMED = 200
QUERIES = 100
"""For a recall, each compared with an exact search."""

SHARES = (0.1, 0.01, 0.0001)
"""Of the images, that a filter leaves."""

FILTERED = 1 / 4
"""Of these queries, that search under each filter."""

TRIES = 5

Row = tuple[str, object, str, str]
"""What was measured, the number, its unit, and what was wanted."""


@dataclass(frozen=True)
class Step:
    """The lines of a step, with its seconds by the clock and of processors, and its highest private memory in bytes."""

    rows: list[Row]
    seconds: float
    processor: float
    private: int


def made(database: Path, images: int, engine: str) -> list[Row]:
    """Import vectors, and fill in the columns that the filters need: a share of 0 to 1, with and without an index."""
    make_collection(database, images, with_sidecar=engine == BUILT_IN)
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.create_function(
            "spread", 1, lambda id: id * 0.6180339887498949 % 1, deterministic=True
        )
        conn.execute("update images set altitude = spread(id)")
        conn.execute("create index images_altitude on images (altitude)")
    return [("database", database.stat().st_size / 1e9, "GB", "")]


def indexed(database: Path, type: str, engine: str) -> list[Row]:
    with closing(Database(database, execute_plugins=False)) as db:
        _, held, _ = index_images(
            db, "images", type=type, engine=engine, queries=text_vectors(200, seed=7)
        )
    with closing(sqlite3.connect(database)) as conn:
        tuning = live_index(conn, find_index(conn)).tuning
    if isinstance(held, Held):
        # What was there before compaction would stay for an hour.
        with mock.patch.object(lance, "READ_FOR", timedelta()):
            held.engine.clean_up([held.commit[1]] if held.commit else [])
    files = database.parent.rglob("*")
    beside = [file for file in files if f"{database.name}-image-search-" in str(file)]
    size = sum(file.stat().st_size for file in beside if file.is_file())
    return [
        ("index", f"{tuning.factory} {tuning.parameters}" if tuning else "flat", "", ""),
        ("beside the database", size / 1e9, "GB", ""),
    ]


def opened(database: Path) -> list[Row]:
    with closing(sqlite3.connect(database)) as conn:
        ms = milliseconds(lambda: live_index(conn, find_index(conn)))
    return [("open the index", ms, "ms", "")]


def searched(database: Path, queries: int = QUERIES) -> list[Row]:
    collection = Collection(database, text_vectors(max(TIMED, queries) + TRIES))
    # First: it reads the lists that the timed searches read, as searches before these do in a server.
    found = recall(collection, queries)
    times = [milliseconds(collection.search, number) for number in range(TIMED)]
    exact = [milliseconds(lambda n=n: collection.search(n, exact=True)) for n in range(TRIES)]
    ranked = statistics.quantiles(times, n=20)
    return [
        (f"recall@{K} of {queries} queries", found, "", "0.95"),
        ("search, half of them", statistics.median(times), "ms", "25"),
        ("search, 95 % of them", ranked[-1], "ms", ""),
        ("exact search", statistics.median(exact), "ms", ""),
    ]


def filtered(database: Path, queries: int = QUERIES) -> list[Row]:
    searches = max(TRIES, int(FILTERED * queries))
    collection = Collection(database, text_vectors(searches))
    rows: list[Row] = []
    for share in SHARES:
        for name, column in (("an index", "altitude"), ("no index", "+altitude")):
            filter = Filter(f"{column} < :below", {"below": share})
            first = milliseconds(lambda f=filter: collection.search(0, f, 1))
            times, hits = [], []
            for number in range(searches):
                started = time.perf_counter()
                hits.append(len(collection.search(number, filter).hits))
                times.append((time.perf_counter() - started) * 1000)
            matching = collection.conn.execute(
                f"select count(*) from images where {filter.where}", filter.params
            ).fetchone()[0]
            assert set(hits) == {min(K, matching)}, hits
            what = f"filter of {share:.2%}, {name}"
            rows += [
                (f"{what}: first row of a first search", first, "ms", "1000"),
                (f"{what}: half of the searches", statistics.median(times), "ms", ""),
                (f"{what}: recall@{K}", recall(collection, TRIES, filter), "", ""),
            ]
    return rows


def committed(database: Path) -> list[Row]:
    """Images that another connection commits are the first hits of the next searches, until they are deleted."""
    collection = Collection(database, text_vectors(TRIES + 1, seed=11))
    collection.search(TRIES)
    added, deleted, ids = [], [], []
    with closing(sqlite3.connect(database)) as other:
        for number in range(TRIES):
            ids.append(add_image(other, collection.queries[number]))
            ms, best = _best(collection, number)
            assert best == ids[-1]
            added.append(ms)
        for number, id in enumerate(ids):
            with other:
                other.execute("delete from images where id = ?", [id])
            ms, best = _best(collection, number)
            assert best != id
            deleted.append(ms)
    return [
        ("search after one more commit", statistics.median(added), "ms", ""),
        ("search after a deletion", statistics.median(deleted), "ms", ""),
    ]


def _best(collection: Collection, number: int) -> tuple[float, int]:
    """The milliseconds of a search, and its first hit."""
    started = time.perf_counter()
    best = collection.search(number).hits[0].id
    return (time.perf_counter() - started) * 1000, best


STEPS: dict[str, Callable[..., list[Row]]] = {
    "make": made,
    "index": indexed,
    "open": opened,
    "search": searched,
    "filters": filtered,
    "commit": committed,
}


def measured(step: Callable[..., list[Row]], *arguments: object) -> Step:
    """Run a step in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_watched, (step, arguments))


def _watched(step: Callable[..., list[Row]], arguments: tuple[object, ...]) -> Step:
    over, highest = threading.Event(), [0]

    def watch() -> None:
        while True:
            highest[0] = max(highest[0], private_bytes())
            if over.wait(0.2):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started, processor = time.perf_counter(), time.process_time()
    rows = step(*arguments)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    over.set()
    watcher.join()
    return Step(rows, seconds, processor, highest[0])


def private_bytes() -> int:
    """Memory that no file has: pages of a sidecar, which the system can drop, are not of it."""
    with Path("/proc/self/smaps_rollup").open() as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))


@click.command()
@click.argument("database", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--images", default=10_000_000, show_default=True)
@click.option("--type", default="ivf", show_default=True, help="of index-images")
@click.option("--engine", default=BUILT_IN, show_default=True, help="of index-images")
@click.option(
    "--queries",
    default=QUERIES,
    show_default=True,
    help="for a recall; an engine reads all for each",
)
@click.option("--steps", help=f"some of {','.join(STEPS)}; default: all that are not done")
def main(
    database: Path, images: int, type: str, engine: str, queries: int, steps: str | None
) -> None:
    wanted = steps.split(",") if steps else list(STEPS)[1 if database.exists() else 0 :]
    if unknown := set(wanted) - set(STEPS):
        raise click.BadParameter(f"there is no step {min(unknown)!r}", param_hint="--steps")
    more: dict[str, tuple[object, ...]] = {
        "make": (images, engine),
        "index": (type, engine),
        **dict.fromkeys(("search", "filters"), (queries,)),
    }
    headers = ("step", "measured", "number", "unit", "wanted")
    for name in wanted:
        step = measured(STEPS[name], database, *more.get(name, ()))
        rows = [
            *step.rows,
            ("clock", step.seconds, "s", ""),
            ("processors", step.processor, "s", ""),
            ("private memory, highest", step.private / 1e9, "GB", "2" if name in SERVING else ""),
        ]
        table = [
            (name, what, f"{value:.4g}" if isinstance(value, float) else value, unit, goal)
            for what, value, unit, goal in rows
        ]
        click.echo(tabulate(table, headers, tablefmt="github", disable_numparse=True))
        click.echo()
        sys.stdout.flush()


SERVING = {"open", "search", "filters", "commit"}


if __name__ == "__main__":
    main()
