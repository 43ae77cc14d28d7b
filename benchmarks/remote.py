"""
Measure what photos in S3 cost, beside the same photos on the disk, and compare the tables row by row.

    python benchmarks/remote.py ~/Pictures --objects 2000

The script starts a server with the API of S3 on this machine, moto's, which takes part of the processors. It uploads
the photos, each as often as it takes to have so many objects with bytes of their own, and embeds them with palette:
from the disk, from S3, and from S3 that answers one request of 20 with "slow down" or an internal error. It takes some minutes.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import s3fs
from sqlite_utils import Database
from tabulate import tabulate

from datasette_image_search import Images
from datasette_image_search.decoding.formats import is_image_name

sys.path.append(str(Path(__file__).parents[1]))

from tests.s3_server import S3Server, s3_server

ROOT = "s3://bucket/photos"

LARGEST = 1_000_000
"""Bytes of a photo that is uploaded very often."""


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--objects", default=2000, show_default=True)
@click.option("--every", default=20, show_default=True, help="Of so many requests one fails")
def main(photos: Path, objects: int, every: int) -> None:
    with TemporaryDirectory() as made, s3_server() as (server, url):
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        place = Path(made)
        folder = draw_from(photos, place / "photos", objects)
        fs = s3fs.S3FileSystem()
        fs.mkdir("bucket")
        fs.put(str(folder), "bucket/", recursive=True)
        rows = [run("from the disk", place / "disk.db", folder, server)]
        rows.append(run("from S3", place / "s3.db", ROOT, server))
        rows.append(run("nothing changed", place / "s3.db", ROOT, server))
        server.every = every
        rows.append(
            run(f"from S3, one request of {every} fails", place / "failing.db", ROOT, server)
        )
        rows.append(run("nothing changed", place / "failing.db", ROOT, server))
        headers = ("", "seconds", "embedded", "unchanged", "failed", "GET", "HEAD", "peak MB")
        click.echo(tabulate(rows, headers=headers, floatfmt=".1f"))
        expected, expected_vectors = contents(place / "disk.db")
        for name in ("s3.db", "failing.db"):
            found, vectors = contents(place / name)
            is_equal = found == expected and np.allclose(vectors, expected_vectors, atol=1e-6)
            click.echo(f"{name} is {'equal to' if is_equal else 'OTHER THAN'} disk.db")


def draw_from(photos: Path, folder: Path, number: int) -> Path:
    """Copies with some zeros after their end, so that each has bytes of its own."""
    small = [
        file
        for file in sorted(photos.rglob("*"))
        if is_image_name(file.name) and file.is_file() and file.stat().st_size < LARGEST
    ]
    for at, file in enumerate(islice(cycle(small), number)):
        target = folder / f"{at % 20:02}" / f"{at:05}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes() + bytes(at // len(small)))
    return folder


def run(what: str, database: Path, place: Path | str, server: S3Server) -> Sequence[object]:
    server.asked.clear()
    started = time.perf_counter()
    with Images(database) as images:
        found = images.embed([place], model="palette")
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    counts = found.embedded, found.unchanged, len(found.failures)
    return what, seconds, *counts, server.asked["GET"], server.asked["HEAD"], peak


def contents(database: Path) -> tuple[list[tuple[object, ...]], np.ndarray]:
    """The rows without their times and ids, with thumbnails; and the vectors, which depend on their batch in the last digit."""
    rows = Database(database).query(
        "select images.*, vector, webp from images join _images_vectors as v on v.image_id = images.id "
        "join _images_thumbnails as t on t.image_id = images.id order by path"
    )
    found, vectors = [], []
    for row in rows:
        vectors.append(np.frombuffer(row.pop("vector"), "<f4"))
        found.append(tuple(row[name] for name in row if name not in ("id", "root_id", "mtime")))
    return found, np.array(vectors)


if __name__ == "__main__":
    main()
