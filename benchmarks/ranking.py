"""
Measure what the corrected ranking and relevance cost, beside the ranking by the score alone.

    python benchmarks/ranking.py                       # about 6 minutes on 2 cores
    python benchmarks/ranking.py --database large.db   # a collection of search.py, left as it is

Both kinds of codes are in memory and the two are searched by turns, in processor time, which other work on
the machine changes little. Vectors and reference queries are drawn: see collection.py.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from collection import make_collection, text_vectors
from tabulate import tabulate

from datasette_image_search.search.correction import ranking_vectors
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.planner import search_live
from datasette_image_search.search.query import QueryVector
from datasette_image_search.search.relevance import relevance_of
from datasette_image_search.search.stored import stored_codes
from datasette_image_search.store import find_index
from datasette_image_search.store.references import References, with_references

K = 20
REPEATED = 120
REFERENCES = 300


def live_with(conn: sqlite3.Connection, references: References | None) -> LiveIndex:
    """All vectors in memory, as they are encoded with these reference queries."""
    index = with_references(find_index(conn), references)
    codes = stored_codes(conn, index, references)
    return LiveIndex(index, (codes,), from_sidecar=False, references=references)


def processor_ms(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return (time.process_time() - started) * 1000


def measure(conn: sqlite3.Connection) -> None:
    texts = text_vectors(REFERENCES + REPEATED + 1)
    references, asked = References(texts[:REFERENCES]), texts[REFERENCES:]
    plain, corrected = live_with(conn, None), live_with(conn, references)
    times: dict[str, list[float]] = {"score": [], "corrected": [], "relevance": []}
    first = 0.0
    for number, vector in enumerate(asked):
        query = QueryVector(corrected.index, vector, words=(1.0,), pictures=())
        rows = ranking_vectors(corrected.index, references, vector[None], np.ones(1))
        told = {
            "score": lambda vector=vector: search_live(conn, plain, vector[None], K),
            "corrected": lambda rows=rows: search_live(conn, corrected, rows, K),
            "relevance": lambda row=rows[0], query=query: relevance_of(corrected, row, query),
        }
        # Each of the two is first as often as the other.
        turns = list(told) if number % 2 else [*reversed(list(told)[:2]), "relevance"]
        took = {name: processor_ms(told[name]) for name in turns}
        if number == 0:
            first = took["relevance"]
            continue
        for name, ms in took.items():
            times[name].append(ms)
    by_score = times["score"]
    ratio = statistics.median(
        ours / theirs for ours, theirs in zip(times["corrected"], by_score, strict=True)
    )
    lines = [
        ["by the score", by_score],
        ["by the corrected score", times["corrected"]],
        ["relevance of a query", times["relevance"]],
    ]
    print(f"{len(plain):,} vectors, the best {K}, ms of a processor")
    print(
        tabulate(
            [[name, statistics.median(ms), min(ms)] for name, ms in lines],
            ["", "median", "least"],
            floatfmt=".2f",
        )
    )
    print(
        f"corrected : score, {ratio:.3f} for the median pair, "
        f"{min(times['corrected']) / min(by_score):.3f} of the least"
    )
    print(f"relevance of the first query, with the background: {first:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--database", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = arguments.database or Path(folder, "large.db")
        if not database.exists():
            make_collection(database, arguments.images)
        with closing(sqlite3.connect(database, isolation_level=None)) as conn:
            measure(conn)


if __name__ == "__main__":
    main()
