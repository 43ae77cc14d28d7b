"""
The places of images that lie around towns and in the sea: the seconds of `locate-images` on all of them, with nothing
to do, and for one that was moved. 2 minutes for 1,000,000; needs the extra `places`.

    python benchmarks/places.py [--images 1000000]
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from sqlite_utils import Database
from tabulate import tabulate

from datasette_image_search import Images
from datasette_image_search.ingest.import_request import ImportRequest
from datasette_image_search.ingest.vector_import import import_vectors
from datasette_image_search.places.geonames import geonames


def make(database: Path, images: int) -> None:
    """A table from a folder, with one vector, and all else but vectors and pictures."""
    folder = database.parent
    np.save(folder / "vectors.npy", np.ones((1, 64), dtype=np.float32))
    (folder / "paths.txt").write_text("first.jpg\n", encoding="utf-8")
    request = ImportRequest(
        database, "images", folder / "vectors.npy", "a/model", folder / "paths.txt", roots=[folder]
    )
    import_vectors(request)
    rng = np.random.default_rng(0)
    towns = geonames().tree.data
    points = towns[rng.integers(0, len(towns), images)] + rng.normal(0, 0.002, (images, 3))
    points[: images // 10] = rng.normal(0, 1, (images // 10, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]
    latitudes = np.degrees(np.arcsin(points[:, 2])).tolist()
    longitudes = np.degrees(np.arctan2(points[:, 1], points[:, 0])).tolist()
    rows = (
        (f"{number // 100}/{number}.jpg", str(number // 100), *point)
        for number, point in enumerate(zip(latitudes, longitudes, strict=True))
    )
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.executemany(
            "insert into images (root_id, path, folder, latitude, longitude, camera_make, camera_model, taken_at) "
            "values (1, ?, ?, ?, ?, 'Canon', 'EOS R5', '2024-05-01T12:00:00')",
            rows,
        )


def measured(database: Path) -> tuple[float, float, int]:
    """Seconds, those of a processor, and images that were looked at."""
    start, of_processor = time.perf_counter(), time.process_time()
    with Images(database) as images:
        done = images.locate().done
    return time.perf_counter() - start, time.process_time() - of_processor, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "photos.db"
        make(database, options.images)
        geonames.cache_clear()
        results = [("all", *measured(database)), ("nothing to do", *measured(database))]
        with closing(Database(database)) as db, db.conn:
            db.execute("update images set latitude = 0 where id = 2")
        results.append(("one was moved", *measured(database)))
    print(
        tabulate(
            results, ["run", "seconds", "of a processor", "images"], floatfmt=".1f", intfmt=","
        )
    )
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB of memory at most")


if __name__ == "__main__":
    main()
