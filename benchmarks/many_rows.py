"""
Make a database of many rows in half a minute of a processor for each million, for the cost of pages.

    python benchmarks/many_rows.py ten.db                                       # 10,000,000, 8 GB
    python benchmarks/many_rows.py one.db --images 1000000 --dimensions 512    # 5 GB
    python benchmarks/cold.py ten.db images

The rows, their texts and their vectors are what import-image-vectors writes, with the metadata of collection.py, but
written in bulk: without triggers, and with the indexes of the columns made at the end. Of vectors of 32 dimensions a
sixteenth is read of what is read of CLIP's: how fast these are searched is measured by large.py.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import reduce
from operator import xor
from pathlib import Path

import click
import numpy as np
from collection import IMAGES, _draw, make_collection, text_vectors
from sqlite_utils import Database

from datasette_image_search.search.indexing import index_images

FIRST = 1_000
"""Images that are imported as anybody's are, so that the tables are ours."""

BATCH = 100_000

FOLDERS = 5_000


@click.command()
@click.argument("database", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--images", default=10_000_000, show_default=True)
@click.option("--dimensions", default=32, show_default=True)
def main(database: Path, images: int, dimensions: int) -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        source = Path(folder, "vectors.npy")
        np.save(source, vectors(FIRST, dimensions, seed=0).astype(np.float16))
        make_collection(database, source, model="short vectors")
    with closing(sqlite3.connect(database)) as conn:
        fill(conn, images, dimensions)
    click.echo(f"rows: {time.perf_counter() - started:.0f} s")
    with closing(Database(database, execute_plugins=False)) as db:
        index_images(db, "images", queries=text_vectors(200, dimensions, seed=7))
    size = sum(file.stat().st_size for file in database.parent.glob(f"{database.name}*"))
    click.echo(f"{size / 1e9:.1f} GB in {time.perf_counter() - started:.0f} s")


def vectors(n: int, dimensions: int, seed: int) -> np.ndarray:
    out = np.empty((n, dimensions), dtype=np.float32)
    _draw(out, seed, IMAGES)
    return out


def fill(conn: sqlite3.Connection, images: int, dimensions: int) -> None:
    conn.executescript(
        "pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -1000000"
    )
    later = conn.execute(
        "select type, name, sql from sqlite_master where sql is not null and tbl_name in "
        "('images', '_images_vectors', '_images_tokens') and type in ('trigger', 'index')"
    ).fetchall()
    for kind, name, _ in later:
        conn.execute(f'drop {kind} "{name}"')
    (generation,) = conn.execute("select generation from image_search_indexes").fetchone()
    for start in range(FIRST, images, BATCH):
        numbers = range(start, min(start + BATCH, images))
        tokens = np.random.default_rng(start).integers(-(2**62), 2**62, len(numbers)).tolist()
        generation = reduce(xor, tokens, generation)
        ids = [number + 1 for number in numbers]
        conn.executemany(
            "insert into images (id, root_id, path, folder, filename, format, width, height, size, taken_at, "
            "camera_make, camera_model, iso, latitude, longitude) "
            "values (?, 1, ?, ?, ?, 'JPEG', 4000, 3000, ?, ?, ?, ?, ?, ?, ?)",
            rows(numbers, images),
        )
        conn.executemany(
            "insert into _images_vectors (id, index_id, image_id, vector) values (?, 1, ?, ?)",
            zip(
                ids,
                ids,
                map(np.ndarray.tobytes, vectors(len(ids), dimensions, seed=start)),
                strict=True,
            ),
        )
        conn.executemany(
            "insert into _images_tokens values (?, 1, ?)", zip(ids, tokens, strict=True)
        )
        conn.executemany("insert into _images_texts values (?, ?)", zip(ids, ids, strict=True))
        conn.executemany(
            "insert into _images_texts_fts (rowid, filename, folder) values (?, ?, ?)",
            ((n + 1, _filename(n), _folder(n, images)) for n in numbers),
        )
        conn.commit()
    conn.execute("update image_search_indexes set generation = ?", [generation])
    for _, _, sql in sorted(later):
        conn.execute(sql)
    conn.commit()
    conn.execute("pragma journal_mode = delete")


def rows(numbers: range, images: int) -> Iterator[tuple[object, ...]]:
    draw = np.random.default_rng(numbers[0])
    shares = draw.random((len(numbers), 6))
    for number, share in zip(numbers, shares.tolist(), strict=True):
        make, model, size, second, here, iso = share
        folder = _folder(number, images)
        name = _filename(number)
        hour, rest = divmod(int(86400 * second), 3600)
        month, day = divmod(int(folder[5:]) % 336, 28)
        taken_at = (
            f"{folder[:4]}-{month + 1:02}-{day + 1:02} {hour:02}:{rest // 60:02}:{rest % 60:02}"
        )
        camera = _camera(make, model, int(folder[:4]))
        place = (48 + 6 * size, 8 + 6 * second) if here < 0.5 else (None, None)
        yield (
            number + 1,
            f"{folder}/{name}",
            folder,
            name,
            2_000_000 + int(4_000_000 * size),
            taken_at,
            *camera,
            100 << int(7 * iso),
            *place,
        )


def _folder(number: int, images: int) -> str:
    day = number * FOLDERS // images
    return f"{2010 + day // 366}/{day % 366:03}"


def _filename(number: int) -> str:
    return f"IMG_{number:07}.jpg"


def _camera(make: float, model: float, year: int) -> tuple[str | None, str | None]:
    if make < 0.03:
        return None, None
    if make < 0.60:
        return "Apple", f"iPhone {4 + year - 2010}"
    if make < 0.85:
        return "Canon", f"Canon EOS {5 + int(5 * model)}D"
    if make < 0.98:
        return "NIKON CORPORATION", "NIKON D750"
    if make < 0.999:
        return "FUJIFILM", "X-T3"
    return "LEICA CAMERA AG", "LEICA M10"


if __name__ == "__main__":
    main()
