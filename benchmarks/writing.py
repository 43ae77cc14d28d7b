"""
Measure how many images a second one processor writes: rows with metadata, vectors, thumbnails and what triggers make of
them, beside the same bytes in three tables without indexes and triggers.

    python benchmarks/writing.py
    python benchmarks/writing.py --images 100000

All is in processor time. The database is in the folder for temporary files, better of a memory than of a disk.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sqlite_utils import Database
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasette_image_search.metadata.columns import Metadata
from datasette_image_search.store import transaction
from datasette_image_search.store.connections import open_or_make
from datasette_image_search.store.image_record import ImageRecord
from datasette_image_search.store.indexes import ensure_index
from datasette_image_search.store.migrations import migrate
from datasette_image_search.store.schema import ensure_tables
from datasette_image_search.store.stored_vectors import vector_to_blob
from datasette_image_search.store.tables import EmbeddedImage
from datasette_image_search.store.writes import ensure_roots, write_batch

DIMENSIONS = 512

THUMBNAIL_BYTES = 8_000

BATCHES = (32, 500)

KEYWORDS = ("beach", "dog", "summer")


def made_images(count: int, keywords: Sequence[str]) -> list[EmbeddedImage]:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    thumbnail = rng.bytes(THUMBNAIL_BYTES)
    return [made_image(number, vectors[number], thumbnail, keywords) for number in range(count)]


def made_image(
    number: int, vector: np.ndarray, thumbnail: bytes, keywords: Sequence[str]
) -> EmbeddedImage:
    folder, name = f"{2000 + number // 5000}/{number // 500}", f"IMG_{number:06}.jpg"
    metadata = Metadata(
        taken_at="2021-07-08T10:11:12",
        camera_make="Canon",
        camera_model="EOS R6",
        focal_length=35.0,
        f_number=1.8,
        exposure_time=0.01,
        iso=100,
        latitude=50.0,
        longitude=8.0,
        keywords=tuple(keywords),
    )
    record = ImageRecord(
        root_id=1,
        path=f"{folder}/{name}",
        folder=folder,
        filename=name,
        format="JPEG",
        width=4000,
        height=3000,
        size=5_000_000,
        mtime="2021-07-08T10:11:12.000000001",
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        metadata=metadata,
    )
    return EmbeddedImage(None, record, vector, thumbnail)


def write_ours(path: Path, images: Sequence[EmbeddedImage], size: int) -> float:
    with open_or_make(path) as db:
        db.enable_wal()
        migrate(db)
        table = ensure_tables(db, "images", "path", None)
        with transaction(db):
            index = ensure_index(
                db,
                table,
                model="palette",
                weights=None,
                fingerprint="made",
                dimensions=DIMENSIONS,
                path_column="path",
                content_column=None,
                unfinished=False,
            )
            ensure_roots(db, ["/photos"])
        return seconds_of(images, size, lambda db_images: write_batch(db, table, index, db_images))


def write_plain(path: Path, images: Sequence[EmbeddedImage], size: int) -> float:
    db = Database(path)
    db.enable_wal()
    names = list(images[0].content.row())  # type: ignore[union-attr]
    db.conn.execute(f"create table images (id integer primary key, {', '.join(names)})")
    db.conn.execute("create table vectors (image_id, vector)")
    db.conn.execute("create table thumbnails (image_id, webp)")

    def write(batch: Sequence[EmbeddedImage]) -> None:
        marks = ", ".join("?" * len(names))
        rows = [tuple(each.content.row().values()) for each in batch]  # type: ignore[union-attr]
        with db.conn:
            db.conn.executemany(f"insert into images ({', '.join(names)}) values ({marks})", rows)
            db.conn.executemany(
                "insert into vectors values (?, ?)",
                [(at, vector_to_blob(each.vector)) for at, each in enumerate(batch)],
            )
            db.conn.executemany(
                "insert into thumbnails values (?, ?)",
                [(at, each.thumbnail) for at, each in enumerate(batch)],
            )

    seconds = seconds_of(images, size, write)
    db.close()
    return seconds


def seconds_of(
    images: Sequence[EmbeddedImage], size: int, write: Callable[[Sequence[EmbeddedImage]], None]
) -> float:
    started = time.process_time()
    for start in range(0, len(images), size):
        write(images[start : start + size])
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    count = parser.parse_args().images
    rows = []
    for keywords in ((), KEYWORDS):
        images = made_images(count, keywords)
        for size in BATCHES:
            with tempfile.TemporaryDirectory() as folder:
                ours = write_ours(Path(folder) / "ours.db", images, size)
                plain = write_plain(Path(folder) / "plain.db", images, size)
            rows.append((len(keywords), size, count / ours, count / plain, ours / plain))
    print(
        tabulate(
            rows,
            ["keywords", "a batch", "images/s", "plain tables", "times"],
            floatfmt=("", "", ".0f", ".0f", ".1f"),
        )
    )


if __name__ == "__main__":
    main()
