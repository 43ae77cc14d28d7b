"""
The seconds of each command that has nothing to do, because nothing has changed since the last time, its start included;
of `read-images` also if it has read thumbnails only, as the folder of the originals is gone.

    python benchmarks/unchanged.py [--images 100000]

Needs the extras `places` and `ocr`, and takes two minutes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from folders import make_files, write_rows
from sqlite_utils import Database
from tabulate import tabulate

from datasette_image_search.store import find_index, transaction
from datasette_image_search.store.lines import ensure_lines


def make(database: Path, photos: Path, images: int) -> None:
    """As after each command, but in a few statements."""
    make_files(photos, images, beside=False)
    write_rows(database, photos)
    with closing(Database(database)) as db:
        index = find_index(db.conn, "images")
        with transaction(db):
            db.execute("update images set latitude = 48.2 + id % 100 / 1000.0, longitude = 16.4")
            ensure_lines(db, index)
            db.execute(
                "insert into _images_readings (image_id, sha256, of_thumbnail) select id, sha256, 0 from images"
            )
    for command in (("locate-images",), ("tag-images", "red", "green"), ("embed-images", photos)):
        run(command[0], database, *command[1:])


def run(command: str, database: Path, *arguments: object) -> tuple[str, float, float]:
    """The command, seconds, and seconds of a processor."""
    line = [sys.executable, "-m", "sqlite_utils", command, database, "images", *arguments, "-s"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*map(str, line)], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return command, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database, photos = Path(folder) / "photos.db", Path(folder) / "photos"
        make(database, photos, options.images)
        rows = [
            run("embed-images", database, photos),
            *(run(command, database) for command in ("locate-images", "read-images", "tag-images")),
        ]
        photos.rename(photos.with_name("away"))
        with closing(Database(database)) as db, db.conn:
            db.execute("update _images_readings set of_thumbnail = 1")
        rows.append(("read-images, of thumbnails", *run("read-images", database)[1:]))
    print(tabulate(rows, ["nothing to do", "seconds", "of a processor"], floatfmt=".2f"))


if __name__ == "__main__":
    main()
