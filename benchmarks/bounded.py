"""
Measure what pages of millions of images find that look no further than the lists of an index, beside the exact answer.

    python benchmarks/many_rows.py one.db --images 1000000 --dimensions 512
    sqlite-utils index-images one.db images --type ivf
    python benchmarks/bounded.py one.db

Of each kind of search: the share of the best that is found, the milliseconds of a processor of a bounded and of an exact
search, by turns, and whether one was short. The limit from which on pages are bounded is lowered to nothing.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

import click
import numpy as np
from collection import text_vectors
from tabulate import tabulate

from datasette_image_search.search import bounded
from datasette_image_search.search.freshness import live_snapshot
from datasette_image_search.search.hits import Hit
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.planner import search_live
from datasette_image_search.store import Filter, find_index

PAGE = 60

Case = tuple[str, int, int, float]
"""What it is called, k, the offset, and the share of the images that pass a filter."""

CASES: list[Case] = [
    ("the first page", PAGE, 0, 1),
    ("the fifth page", PAGE, 240, 1),
    ("the best 300, to be sorted", 300, 0, 1),
    ("the best 2,000, to be sorted", 2_000, 0, 1),
    ("10 % pass", PAGE, 0, 0.1),
    ("1 % pass", PAGE, 0, 0.01),
    ("0.1 % pass", PAGE, 0, 0.001),
]


@click.command()
@click.argument("database", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--queries", default=20, show_default=True)
def main(database: Path, queries: int) -> None:
    bounded.LARGE = 0
    with closing(sqlite3.connect(database)) as conn, live_snapshot(conn, find_index(conn)) as live:
        vectors = text_vectors(queries, live.index.dimensions, seed=3)
        rows = [measured(conn, live, vectors, *case) for case in CASES]
    headers = ("search", "recall", "ms", "exact ms", "short")
    click.echo(tabulate(rows, headers, tablefmt="github", floatfmt=(None, ".3f", ".0f", ".0f")))


def measured(
    conn: sqlite3.Connection,
    live: LiveIndex,
    vectors: np.ndarray,
    name: str,
    k: int,
    offset: int,
    share: float,
) -> list[object]:
    # Sizes of files are evenly spread, and have no index.
    filter = None if share == 1 else Filter("size < :most", {"most": 2e6 + 4e6 * share})
    found, times, exact_times, short = [], [], [], 0
    for vector in vectors:

        def search(*, exact: bool, vector: np.ndarray = vector) -> tuple[tuple[Hit, ...], float]:
            started = time.process_time()
            (answer,) = search_live(
                conn, live, vector[None], k, filter, offset=offset, exact=exact, bounded=True
            )
            return answer.hits, (time.process_time() - started) * 1000

        hits, duration = search(exact=False)
        best, exact_duration = search(exact=True)
        times.append(duration)
        exact_times.append(exact_duration)
        found.append(len({hit.id for hit in hits} & {hit.id for hit in best}) / len(best))
        short += len(hits) < len(best)
    medians = map(statistics.median, (times, exact_times))
    return [name, statistics.mean(found), *medians, short]


if __name__ == "__main__":
    main()
