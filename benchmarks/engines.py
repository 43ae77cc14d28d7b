"""
Measure a search from the sidecar and from Lance on the same CLIP-like vectors: build, the milliseconds of a query with and
without a filter, recall@20, bytes on the disk.

    python benchmarks/engines.py
    python benchmarks/engines.py --images 1000000 --vectors vectors.npy --queries texts.npy

Takes 10 minutes for 200,000 vectors. Recall is by brute force over the same vectors in float32, for queries that no index was tuned for.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from collection import image_vectors, make_collection, text_vectors
from sqlite_utils import Database
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasette_image_search.search import planner
from datasette_image_search.search.freshness import live_snapshot
from datasette_image_search.search.indexing import index_images
from datasette_image_search.store import Filter, find_index
from datasette_image_search.store.connections import open_or_make

WAYS = (
    ("sidecar, flat", {"engine": "sidecar", "type": "flat"}),
    ("sidecar, ivf", {"engine": "sidecar", "type": "ivf"}),
    ("lance, ivf_rq", {"engine": "lance", "type": "ivf_rq"}),
)

FILTERS = (("no filter", None), ("10 %", "id % 10 = 3"), ("0.1 %", "id % 1000 = 3"))

K = 20


def measure(
    db: Database, folder: Path, vectors: np.ndarray, queries: np.ndarray, tuning: np.ndarray
) -> list[list[object]]:
    rows = []
    for name, options in WAYS:
        started = time.perf_counter()
        index_images(db, "images", queries=tuning, target=0.98, **options)
        built = time.perf_counter() - started
        of_search = (file for file in folder.rglob("*") if "-image-search-" in str(file))
        size = sum(file.stat().st_size for file in of_search if file.is_file())
        row: list[object] = [name, f"{built:.0f}", f"{size / len(vectors):,.0f}"]
        for _, where in FILTERS:
            row += searched(db, vectors, queries, where)
        rows.append(row)
    return rows


def searched(
    db: Database, vectors: np.ndarray, queries: np.ndarray, where: str | None
) -> tuple[str, str]:
    """The milliseconds of a query, the median, and recall@20."""
    filter = None if where is None else Filter(where)
    ids = np.array([id for (id,) in db.execute(f"select id from images where {where or 1}")])
    seconds, shares = [], []
    for number, query in enumerate([queries[0], *queries]):
        started = time.perf_counter()
        with live_snapshot(db.conn, find_index(db.conn)) as live:
            (found,) = planner.search_live(db.conn, live, query[None], K, filter)
        took = time.perf_counter() - started
        if number == 0:
            # It opens the files.
            continue
        seconds.append(took)
        scores = vectors[ids - 1] @ query
        best = ids[np.argpartition(scores, len(scores) - K)[-K:]]
        assert len(found.hits) == K
        shares.append(np.isin(best, [hit.id for hit in found.hits]).mean())
    return f"{np.median(seconds) * 1000:.1f}", f"{np.mean(shares):.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--queries", type=Path)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = asked.vectors or folder / "vectors.npy"
        if asked.vectors is None:
            np.save(file, image_vectors(asked.images))
        texts = text_vectors(200) if asked.queries is None else np.load(asked.queries)[:200]
        make_collection(folder / "photos.db", file)
        vectors = np.load(file)
        with open_or_make(folder / "photos.db") as db:
            rows = measure(db, folder, vectors, texts[:50], texts[50:])
    headers = ["", "build, s", "bytes each"]
    for name, _ in FILTERS:
        headers += [f"{name}, ms", "recall@20"]
    print(tabulate(rows, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
