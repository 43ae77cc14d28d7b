"""
Measure what the search by text costs: embedding with it and without, the migration of a database of an older version, and
searches for rare words, common ones and phrases, also as whole pages.

    python benchmarks/texts.py                     # about 15 minutes on 2 cores, 1 GB of disk
    python benchmarks/texts.py --images 100000 --pictures 500

All is in processor time, which other work on the machine changes little; embedding is with and without by turns. The images of the
searches have the names and folders of a collection, titles for every fourth and a keyword for every tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from html import unescape
from pathlib import Path
from unittest import mock

import numpy as np
from datasette.app import Datasette
from PIL import Image
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasette_image_search.ingest.import_request import ImportRequest
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.ingest.vector_import import import_vectors
from datasette_image_search.store import find_index, schema, triggers
from datasette_image_search.store.connections import open_or_make
from datasette_image_search.store.filters import Filter
from datasette_image_search.store.migrations import migrate
from datasette_image_search.store.schema import ensure_keywords
from datasette_image_search.store.text_search import Words, text_hits, text_matches
from datasette_image_search.web.pages.results import WITHOUT_TEXTS

ALBUMS = ("Lisbon", "Porto", "Vienna", "Garden", "Birthday", "Office", "Hike", "Snow", "Beach")
SUBJECTS = ("castle", "bridge", "roses", "cake", "dog", "tram", "harbour", "sunset", "market")

FEW = Filter("id % 1000 = 1")
"""One image in a thousand."""

REPEATED = 5


@contextmanager
def without_texts() -> Iterator[None]:
    """Image tables are made and kept as if there were no search by text."""
    with ExitStack() as stack:
        for module, name in ((triggers, "ensure_texts"), (triggers, "renew_texts")):
            stack.enter_context(mock.patch.object(module, name))
        stack.enter_context(mock.patch.object(triggers, "fill_texts"))
        stack.enter_context(mock.patch.object(schema, "forget_texts"))
        for name in ("text_added", "text_gone", "text_renumbered"):
            stack.enter_context(mock.patch.object(triggers, name, return_value=""))
        stack.enter_context(mock.patch.object(triggers, "text_triggers", return_value={}))
        yield


def embedding(home: Path, pictures: int) -> list[list[object]]:
    rng = random.Random(1)
    folder = home / "pictures"
    for number in range(pictures):
        album = folder / f"{2010 + number % 10} {ALBUMS[number % 9]}"
        album.mkdir(parents=True, exist_ok=True)
        colour = tuple(rng.randrange(256) for _ in range(3))
        Image.new("RGB", (320, 240), colour).save(album / f"IMG_{number:05}.jpg")
    took: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(REPEATED):
        for name in took if turn % 2 else reversed(took):
            database = home / f"{name}-{turn}.db"
            with without_texts() if name == "without" else ExitStack():
                started = time.process_time()
                embed_images(EmbedRequest(database, "images", (folder,), model="palette"))
                took[name].append(time.process_time() - started)
            database.unlink()
    ratio = statistics.median(
        ours / others for ours, others in zip(took["with"], took["without"], strict=True)
    )
    return [
        [f"embed-images, {pictures:,} pictures, without texts", f"{min(took['without']):.1f} s"],
        ["with texts", f"{min(took['with']):.1f} s"],
        ["the second by the first, the median of pairs", f"{ratio:.3f} x"],
    ]


def make_large(home: Path, images: int) -> Path:
    vectors, paths, database = home / "vectors.npy", home / "paths.txt", home / "large.db"
    np.save(vectors, np.random.default_rng(0).standard_normal((images, 16), dtype=np.float32))
    with paths.open("w") as file:
        for number in range(images):
            album = number * 5000 // images
            file.write(
                f"{2010 + album // 366}/{album % 366:03} {ALBUMS[album % 9]}/IMG_{number:07}.jpg\n"
            )
    # Where nothing is: there are no files to look at.
    root = Path("/collection-of-the-benchmarks")
    import_vectors(ImportRequest(database, "images", vectors, "made/16", paths, roots=[root]))
    with open_or_make(database) as db:
        table = find_index(db.conn).table
        ensure_keywords(db, table)
        subject = "case id % 9 " + " ".join(
            f"when {at} then '{word}'" for at, word in enumerate(SUBJECTS)
        )
        with db.conn:
            db.execute(
                f"update images set title = 'The old ' || {subject} end || ' of day ' || (id / 1000) where id % 4 = 0"
            )
            db.execute(
                "insert into images_keywords (image_id, keyword) select id, 'holiday ' || (id % 7) from images where id % 10 = 0"
            )
            db.execute("update images set title = 'A zeppelin over the bay' where id % 100000 = 7")
    return database


def migration(database: Path) -> list[list[object]]:
    with open_or_make(database) as db:
        with db.conn:
            for (name,) in db.execute(
                "select name from sqlite_master where type = 'trigger'"
            ).fetchall():
                db.execute(f'drop trigger "{name}"')
            db.execute("drop table _images_texts_fts")
            db.execute("drop table _images_texts")
            db.execute("delete from image_search_migrations where name = 'm007_texts'")
        size = database.stat().st_size
        started = time.process_time()
        migrate(db)
        took = time.process_time() - started
        pages = db.execute("select sum(pgsize) from dbstat where name like '%texts%'").fetchone()[0]
    return [
        [
            "the migration of a database of an older version",
            f"{took:.1f} s, {pages / 1e6:.0f} MB of {size / 1e6:.0f}",
        ]
    ]


def searching(database: Path) -> list[list[object]]:
    asked = {
        "rare: zeppelin": [Words("zeppelin")],
        "of a ninth: lisbon": [Words("lisbon")],
        "of every image: jpg": [Words("jpg")],
        "two words: lisbon castle": [Words("lisbon castle")],
        'phrase: "the old castle"': [Words("the old castle", is_phrase=True)],
        'phrase of every image: "img"': [Words("IMG", is_phrase=True)],
        "beginning: lis*": [Words("lis*")],
        "beginning of every image: i*": [Words("i*")],
        "two terms: lisbon + castle": [Words("lisbon"), Words("castle")],
    }
    lines: list[list[object]] = []
    with open_or_make(database) as db:
        table = find_index(db.conn).table
        for name, words in asked.items():
            ms, found = _timed(lambda words=words: text_hits(db.conn, table, words).hits)

            filtered, _ = _timed(lambda words=words: text_hits(db.conn, table, words, (), FEW).hits)
            ids = [hit.id for hit in found[:60]]
            said, _ = _timed(lambda words=words, ids=ids: text_matches(db.conn, table, words, ids))
            lines.append([name, len(found), ms, filtered, said])
    return lines


async def pages(database: Path) -> list[list[object]]:
    """Whole pages with words and an image, for which the vectors made here need no model."""
    datasette = Datasette([str(database)])
    await datasette.invoke_startup()
    page = f"/-/image-search/{database.stem}/images"
    asked = {
        "an image, by likeness": {"q": "#1", "_by": "likeness"},
        "an image + text:castle": {"q": "#1 + text:castle"},
        "an image + text:(twelve words)": {"q": f"#1 + text:{' '.join((*SUBJECTS, *ALBUMS[:3]))}"},
        "the matches of an image + text:castle": {"q": "#1 + text:castle", "_matches_only": "1"},
        "castle, by text": {"q": "castle", "_by": "text"},
        "an image - text:castle": {"q": "#1 - text:castle"},
    }
    for pairs in asked.values():
        # The index is opened, and the server warms up.
        await datasette.client.get(page, params=pairs)
    lines: list[list[object]] = []
    for name, pairs in asked.items():
        times = []
        for _ in range(REPEATED):
            started = time.process_time()
            response = await datasette.client.get(page, params=pairs)
            times.append((time.process_time() - started) * 1000)
            response.raise_for_status()
        lines.append([name, statistics.median(times), WITHOUT_TEXTS in unescape(response.text)])
    return lines


def _timed(function: Callable[[], list]) -> tuple[float, list]:
    """Milliseconds of the processor, the median of some, and what comes out."""
    times = []
    for _ in range(REPEATED):
        started = time.process_time()
        result = function()
        times.append((time.process_time() - started) * 1000)
    return statistics.median(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--database", type=Path, help="an earlier --keep, as it is")
    parser.add_argument("--keep", type=Path, help="a folder for the large database")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = asked.keep or Path(folder)
        database = asked.database or make_large(home, asked.images)
        print(tabulate(migration(database)), flush=True)
        print(
            tabulate(
                searching(database),
                ["words", "found", "ms", "ms under a filter", "ms to say where"],
                floatfmt=".1f",
            ),
            flush=True,
        )
        print(
            tabulate(
                asyncio.run(pages(database)), ["page", "ms", "texts left out"], floatfmt=".0f"
            ),
            flush=True,
        )
        if asked.pictures:
            print(tabulate(embedding(Path(folder), asked.pictures)))


if __name__ == "__main__":
    main()
