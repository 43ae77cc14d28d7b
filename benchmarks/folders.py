"""
Measure what it costs to find out that nothing has changed, and to find the files of very many folders that are
named on the command line.

    python benchmarks/folders.py --unchanged 100000 --folders 10000

For the first the script makes files and a table that knows them, without and with an .xmp file beside each, and with films
and films of Live Photos among them, and runs
`sqlite-utils embed-images` again. For the second it makes folders, each with one picture, and looks for changes as a
run does: in a new table, in one that knows all files, and after half of the folders have gone. Beside them it names
one folder that contains all. It takes two minutes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from sqlite_utils import Database
from tabulate import tabulate

from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.ingest.scan import find_changes
from datasette_image_search.ingest.walk import FoundFile
from datasette_image_search.store.image_record import ImageRecord
from datasette_image_search.store.indexes import ensure_index
from datasette_image_search.store.schema import ensure_tables
from datasette_image_search.store.tables import KnownSource
from datasette_image_search.store.writes import ensure_roots, folder_of

FOLDERS_PER_YEAR = 100

FILES_PER_FOLDER = 500


@click.command()
@click.option("--unchanged", default=(20_000, 100_000), multiple=True, show_default=True)
@click.option("--folders", default=10_000, show_default=True)
def main(unchanged: Sequence[int], folders: int) -> None:
    rows = [
        (f"{number:,} files{said}", *run_again(number, kind))
        for number in unchanged
        for kind, said in KINDS.items()
    ]
    click.echo(
        tabulate(rows, headers=("nothing changed", "seconds", "of a processor"), floatfmt=".2f")
    )
    click.echo()
    measure_folders(folders)


# --- Nothing has changed ---------------------------------------------------------------------------


KINDS = {
    "alone": "",
    "beside": ", each with an .xmp",
    "films": ", a fifth of them films, a fifth with that of a Live Photo beside it",
}


def run_again(number: int, kind: str) -> tuple[float, float]:
    """Seconds, and seconds of a processor, of a whole command, its start included."""
    with TemporaryDirectory() as place:
        photos = Path(place, "photos")
        make_files(photos, number, kind)
        database = Path(place, "photos.db")
        write_rows(database, photos)
        command = [sys.executable, "-m", "sqlite_utils", "embed-images"]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [*command, database, "images", photos], check=True, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if f"{number} unchanged" not in done.stdout.replace(",", ""):
            raise click.ClickException(f"the run says: {done.stdout}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_files(photos: Path, number: int, kind: str) -> None:
    for start in range(0, number, FILES_PER_FOLDER):
        folder = photos / f"folder {start}"
        folder.mkdir(parents=True)
        for each in range(start, min(number, start + FILES_PER_FOLDER)):
            is_film = kind == "films" and each % 5 == 0
            (folder / f"IMG_{each}.{'mp4' if is_film else 'jpg'}").write_bytes(b"%d" % each)
            if kind == "films" and each % 5 == 1:
                (folder / f"IMG_{each}.mov").write_bytes(b"%d" % each)
            if kind == "beside":
                (folder / f"IMG_{each}.xmp").write_bytes(b"%d" % each)


def write_rows(database: Path, photos: Path) -> None:
    """As a run does that has embedded all files, but in a few statements: for so many rows that is minutes less."""
    palette = PaletteEmbedder()
    vector = np.full(palette.dimensions, palette.dimensions**-0.5, np.float32)
    with Database(database) as db:
        table = ensure_tables(db, "images")
        index = ensure_index(
            db,
            table,
            model="palette",
            weights=None,
            fingerprint=palette.fingerprint,
            dimensions=palette.dimensions,
        )
        roots = ensure_roots(db, {str(photos.resolve())})
        found = changes([photos], {}).to_embed
        # What is in these files is no film, which only a run that pairs them would see.
        films = {file.path.removesuffix(".mov") for file in found if file.path.endswith(".mov")}
        files = [
            replace(file, companions=json.dumps([f"{stem}.mov"])) if stem in films else file
            for file in found
            if not file.path.endswith(".mov")
            for stem in [file.path.removesuffix(".jpg")]
        ]
        db.table("images").insert_all(record_of(file, roots[file.root]).row() for file in files)
        db.execute(
            "insert into {vectors} (index_id, image_id, sha256, vector, times) "
            "select ?, id, sha256, iif(path like '%.mp4', ?, ?), iif(path like '%.mp4', '[0, 1, 2]', null) "
            "from {images}".format(**table.quoted()),
            [index.id, 3 * vector.tobytes(), vector.tobytes()],
        )
        states = ({"image_id": id, "files": each.beside} for id, each in enumerate(files, start=1))
        db.table(table.beside).insert_all(state for state in states if state["files"])
        db.conn.commit()


def record_of(file: FoundFile, root_id: int) -> ImageRecord:
    return ImageRecord(
        root_id,
        file.path,
        folder_of(file.path),
        file.name,
        "JPEG",
        4_000,
        3_000,
        file.size,
        file.mtime,
        sha256=file.path,
        companions=file.companions or None,
    )


# --- Very many folders -----------------------------------------------------------------------------


def measure_folders(folders: int) -> None:
    with TemporaryDirectory() as place:
        made = [make_folder(Path(place), number) for number in range(folders)]
        below_one_root = known_of(changes([Path(place)], {}).to_embed)
        known = known_of(changes(made, {}).to_embed)
        rows = [
            ("one folder, new", *timed([Path(place)], {})),
            ("one folder, all known", *timed([Path(place)], below_one_root)),
            ("all folders, new", *timed(made, {})),
            ("all folders, all known", *timed(made, known)),
            ("all folders, of one known root", *timed(made, below_one_root)),
        ]
        for folder in made[1::2]:
            (folder / "picture.jpg").unlink()
        rows.append(("all folders, half of them empty now", *timed(made, known)))
    click.echo(
        tabulate(
            rows, headers=(f"{folders:,} folders", "seconds", "of a processor"), floatfmt=".2f"
        )
    )


def make_folder(place: Path, number: int) -> Path:
    year, day = divmod(number, FOLDERS_PER_YEAR)
    folder = place / f"year {year}" / f"day {day}"
    folder.mkdir(parents=True)
    # A scan opens no file, so that any bytes do.
    (folder / "picture.jpg").write_bytes(b"%d" % number)
    return folder


def known_of(files: Sequence[FoundFile]) -> dict[tuple[str, str], KnownSource]:
    return {
        file.key: KnownSource(number, file.size, file.mtime)
        for number, file in enumerate(files, start=1)
    }


def changes(paths: Sequence[Path], known: dict[tuple[str, str], KnownSource]):
    return find_changes(paths, known, {root for root, _ in known})


def timed(paths: Sequence[Path], known: dict[tuple[str, str], KnownSource]) -> tuple[float, float]:
    """Seconds, and seconds of a processor, which other work on the machine does not change much."""
    started, busy = time.perf_counter(), time.process_time()
    changes(paths, known)
    return time.perf_counter() - started, time.process_time() - busy


if __name__ == "__main__":
    main()
