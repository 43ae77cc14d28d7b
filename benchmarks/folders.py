"""
Measure what it costs to find the files of very many folders that are named on the command line.

    python benchmarks/folders.py --folders 10000

The script makes the folders, each with one picture, and looks for changes as a run does: in a new table,
in one that knows all files, and after half of the folders have gone. Beside them it names one folder that
contains all. It takes a minute.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from tabulate import tabulate

from datasette_image_search.ingest.scan import find_changes
from datasette_image_search.ingest.walk import FoundFile
from datasette_image_search.store.tables import KnownSource

FOLDERS_PER_YEAR = 100


@click.command()
@click.option("--folders", default=10_000, show_default=True)
def main(folders: int) -> None:
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
