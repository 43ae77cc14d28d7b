"""Every command that writes, on a collection that has some of everything."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from ..drawn_films import draw_film
from ..vector_files import unit, write_npy
from .forked import TURNED, Ended, Forker
from .traced import Call, calls_of
from .whole import Described, described

SIZE = (24, 16)

VERSION_0_1 = Path(__file__).with_name("version_0_1.zip")
"""The files of a database that version 0.1 has made: EVERYTHING of the pictures of draw_pictures(), in /the/folder."""


@dataclass(frozen=True)
class Place:
    """
    A folder of pictures, and databases in folders of their own: `before` the command, `after` an
    undisturbed one, and `database`, which is disturbed.
    """

    folder: Path

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def before(self) -> Path:
        return self.folder / "before" / "photos.db"

    @property
    def after(self) -> Path:
        return self.folder / "after" / "photos.db"

    @property
    def database(self) -> Path:
        return self.folder / "now" / "photos.db"

    def copy(self, original: Path, copy: Path) -> None:
        """A database with the files beside it, into a folder that stays: it may be a disk."""
        for file in copy.parent.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        shutil.copytree(original.parent, copy.parent, dirs_exist_ok=True)

    def begin(self) -> None:
        self.copy(self.before, self.database)


Arguments = Callable[[Path, Place], tuple]
"""(database, place) -> the command line."""


@dataclass(frozen=True)
class Scenario:
    """What was done before, a list of command lines, and the one that is disturbed."""

    name: str
    command: Arguments
    before: tuple[Arguments, ...] = ()
    change: Callable[[Path], None] = lambda pictures: None
    """What happens to the pictures in between."""
    is_of_0_1: bool = False
    """Whether the database was made by version 0.1."""
    draw: Callable[[Path], None] | None = None
    """Draws the pictures; those of draw_pictures() if it is None."""
    is_of_engine: bool = False
    """Whether threads of an engine write too."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Prepared:
    """What there was before the command, and what there is after it, which takes so many seconds."""

    place: Place
    scenario: Scenario
    forker: Forker
    before: Described
    after: Described
    seconds: float

    @property
    def line(self) -> tuple:
        return self.scenario.command(self.place.database, self.place)

    @cached_property
    def calls(self) -> list[Call]:
        """Those of the command that write."""
        self.place.begin()
        return calls_of(
            self.forker,
            *self.line,
            within=self.place.folder,
            of_threads=self.scenario.is_of_engine,
        )


def prepare(scenario: Scenario, folder: Path, forker: Forker) -> Prepared:
    place = Place(folder)
    (scenario.draw or draw_pictures)(place.pictures)
    for database in (place.before, place.after, place.database):
        database.parent.mkdir(parents=True)
    write_vectors(folder)
    if scenario.is_of_0_1:
        _unpack_0_1(place)
    for arguments in scenario.before:
        succeed(forker.run(*arguments(place.before, place)))
    scenario.change(place.pictures)
    before = described(place.before)
    place.copy(place.before, place.after)
    started = time.monotonic()
    succeed(forker.run(*scenario.command(place.after, place)))
    seconds = time.monotonic() - started
    return Prepared(place, scenario, forker, before, described(place.after), seconds)


def succeed(ended: Ended) -> None:
    assert ended.code == 0, ended.output


def _unpack_0_1(place: Place) -> None:
    shutil.unpack_archive(VERSION_0_1, place.before.parent)
    with closing(sqlite3.connect(place.before)) as conn, conn:
        conn.execute("update image_search_roots set path = ?", [str(place.pictures)])


# --- Pictures ------------------------------------------------------------------------------------


def draw(path: Path, number: int) -> None:
    """The picture of this number: fields of colours, unlike that of any other."""
    random = Random(number)
    fields = np.array([random.randrange(256) for _ in range(4 * 3 * 3)], dtype=np.uint8)
    picture = Image.fromarray(fields.reshape(3, 4, 3)).resize(SIZE, Image.Resampling.NEAREST)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    when = 1_600_000_000 + number
    os.utime(path, (when, when))


def draw_pictures(folder: Path) -> None:
    """Some in sub-folders, one that is two files, nearly the same one twice, and one that is broken."""
    for number in range(6):
        draw(folder / f"{number}.bmp", number)
    for number in range(6, 10):
        draw(folder / "trip" / f"{number}.bmp", number)
    draw(folder / "trip" / "copy of 2.bmp", 2)
    (folder / "broken.bmp").write_bytes(b"BM nothing")
    nearly = Image.open(folder / "3.bmp")
    nearly.putpixel((0, 0), (0, 0, 0))
    nearly.save(folder / "nearly 3.bmp")
    for name in ("broken.bmp", "nearly 3.bmp"):
        os.utime(folder / name, (1_600_000_000, 1_600_000_000))


def change_pictures(folder: Path) -> None:
    """Some of each that a folder sees: new, changed, touched, moved, copied, gone, mended."""
    for number in (20, 21, 22):
        draw(folder / f"{number}.bmp", number)
    draw(folder / "0.bmp", 30)
    draw(folder / "trip" / "6.bmp", 36)
    os.utime(folder / "1.bmp")
    (folder / "2.bmp").rename(folder / "trip" / "2 was here.bmp")
    shutil.copy(folder / "4.bmp", folder / "copy of 4.bmp")
    (folder / "5.bmp").unlink()
    (folder / "trip" / "9.bmp").unlink()
    draw(folder / "broken.bmp", 40)


def draw_films(folder: Path) -> None:
    """Some films, and pairs: one whose picture is broken, and one whose film is."""
    folder.mkdir(parents=True)
    for name, colours in FILMS.items():
        draw_film(folder / name, [(colour, 0.5) for colour in colours], "mpeg4", (32, 32))
    for number, name in enumerate(("pair.jpg", "bad film.jpg", "alone.jpg", "x.bmp")):
        draw(folder / name, number)
    (folder / "bad picture.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "bad film.mov").write_bytes(bytes(100))
    for file in folder.iterdir():
        os.utime(file, (1_600_000_000, 1_600_000_000))


FILMS = {
    "a.mp4": ("red", "green", "blue"),
    "b.mov": ("white", "black"),
    "c.avi": ("yellow", "red", "black", "blue"),
    "pair.mov": ("red", "white"),
    "bad picture.mov": ("green", "yellow"),
}


def change_films(folder: Path) -> None:
    """One with other scenes, pairs that part, one that comes together, and one that goes elsewhere."""
    draw_film(folder / "a.mp4", [("white", 0.5), ("green", 0.5)], "mpeg4", (32, 32))
    (folder / "bad picture.jpg").unlink()
    shutil.move(folder / "b.mov", folder / "alone.mov")
    (folder / "trip").mkdir()
    for name in ("pair.jpg", "pair.mov"):
        shutil.move(folder / name, folder / "trip" / name)


def write_vectors(folder: Path) -> None:
    """What import-image-vectors reads: for all of the pictures, and of none."""
    paths = [f"{number}.bmp" for number in range(6)]
    write_npy(folder, paths, unit(len(paths), 16))
    whole = [*paths, *(f"trip/{number}.bmp" for number in range(6, 10))]
    whole += ["trip/copy of 2.bmp", "nearly 3.bmp"]
    (folder / "whole").mkdir()
    write_npy(folder / "whole", whole, unit(len(whole), 16, seed=1))


# --- Commands ------------------------------------------------------------------------------------


def embed(*options: str) -> Arguments:
    return lambda database, place: (
        *("embed-images", database, "images", place.pictures, "-s"),
        *("--batch-size", 4, "--workers", 1, *options),
    )


def importing(source: str, *options: str) -> Arguments:
    return lambda database, place: (
        *("import-image-vectors", database, "images", place.folder / source / "vectors.npy", "-s"),
        *("--paths", place.folder / source / "paths.txt", "--root", place.pictures, *options),
    )


def other(name: str, *options: str) -> Arguments:
    return lambda database, place: (name, database, "images", *options)


PALETTE = embed("--model", "palette")
TAG = other("tag-images", "red", "green", "blue", "-s")
DUPLICATES = other("find-duplicates", "--threshold", "0.9", "--write", "-s")
EVERYTHING = (PALETTE, TAG, DUPLICATES, other("index-images", "--type", "IVF2,SQ8", "-s"))


def engine(*options: str) -> Arguments:
    return other("index-images", "--engine", "lance", *options, "-s")


def positions(database: Path, place: Place) -> tuple:
    """Where each image was taken, all but the first."""
    return "query", database, "update images set latitude = 40 + id, longitude = id where id > 1"


def chosen_scenarios() -> list[Scenario]:
    """A quarter of them by chance; all in a soak."""
    every = list(scenarios())
    if "SOAK_MINUTES" in os.environ:
        return every
    return Random(os.environ["FAULT_SEED"]).sample(every, len(every) // 4)


def scenarios() -> Iterable[Scenario]:
    yield Scenario("first run", PALETTE)
    yield Scenario("first run with a log", embed("--model", "palette", "--wal"))
    yield Scenario("second run", embed(), EVERYTHING, change_pictures)
    yield Scenario("films and pairs", PALETTE, draw=draw_films)
    yield Scenario(
        "films and pairs again", embed("--prune"), (PALETTE,), change_films, draw=draw_films
    )
    yield Scenario(
        "second run with a log", embed(), (embed("--model", "palette", "--wal"),), change_pictures
    )
    yield Scenario("prune", embed("--prune"), EVERYTHING, change_pictures)
    replacing = embed("--model", TURNED, "--replace-model")
    yield Scenario("replace the model", replacing, EVERYTHING)
    yield Scenario("replace by the same", embed("--replace-model"), EVERYTHING)
    adding = embed("--model", TURNED, "--add-model")
    yield Scenario("add a model", adding, EVERYTHING)
    yield Scenario("promote a model", replacing, (*EVERYTHING, adding))
    yield Scenario("import", importing("", "--model", "my/model"))
    yield Scenario(
        "import another model", importing("whole", "--model", "my/model", "--add-model"), EVERYTHING
    )
    yield Scenario(
        "import instead", importing("whole", "--model", "my/model", "--replace-model"), EVERYTHING
    )
    yield Scenario("index flat", other("index-images", "--type", "flat", "-s"), EVERYTHING)
    yield Scenario("index ivf", other("index-images", "--type", "IVF2,SQ8", "-s"), (PALETTE,))
    yield Scenario("feed an engine", engine(), (PALETTE,), is_of_engine=True)
    alone = engine("--no-stored-vectors")
    yield Scenario(
        "second run with an engine alone",
        embed("--prune"),
        (PALETTE, alone),
        change_pictures,
        is_of_engine=True,
    )
    yield Scenario(
        "bring vectors back from an engine",
        engine("--stored-vectors"),
        (PALETTE, alone),
        is_of_engine=True,
    )
    yield Scenario("tag", TAG, (PALETTE,))
    yield Scenario("tag again", other("tag-images", "dark", "light", "--replace", "-s"), EVERYTHING)
    yield Scenario("find duplicates", DUPLICATES, (PALETTE,))
    yield Scenario(
        "find other duplicates",
        other("find-duplicates", "--threshold", "1", "--write", "-s"),
        EVERYTHING,
    )
    yield Scenario("locate", other("locate-images", "-s"), (*EVERYTHING, positions))
    yield Scenario("read", other("read-images", "--workers", "1", "-s"), EVERYTHING)
    yield Scenario("version 0.1", embed("--prune"), change=change_pictures, is_of_0_1=True)
    yield Scenario("version 0.1, indexed", other("index-images", "-s"), is_of_0_1=True)
