"""Real photos, real captions and the vectors that CLIP gave them: found as well as CLIP finds them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from datasette_image_search.sql import register_functions

from .commands import command, embed_images
from .recorded_clip import (
    FOLDER,
    MODEL,
    captions,
    needs_recorded_clip,
    recorded_clip_installed,
)

pytestmark = needs_recorded_clip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The 100 photos, by the command that people type."""
    database = tmp_path_factory.mktemp("flickr8k") / "photos.db"
    with pytest.MonkeyPatch.context() as patch, recorded_clip_installed(patch):
        embed_images(database, "images", FOLDER / "photos", "--model", MODEL)
        yield database


def quoted(caption: str) -> str:
    """A caption may hold " - " or begin with a number and a colon; in quotes it is words."""
    return f'"{caption.strip()}"'


def test_captions_find_their_photos_as_often_as_they_do_in_clip(database: Path) -> None:
    found = {1: 0, 5: 0, 10: 0}
    with closing(sqlite3.connect(database)) as conn:
        register_functions(conn)
        names = dict(conn.execute("select id, filename from images"))
        for photo, caption in captions():
            (hits,) = conn.execute("select image_search(?, 10)", [quoted(caption)]).fetchone()
            ranked = [names[hit["id"]] for hit in json.loads(hits)]
            for k in found:
                found[k] += photo in ranked[:k]
    recall = {k: count / len(captions()) for k, count in found.items()}
    assert recall == {1: 0.832, 5: 0.990, 10: 0.998}


def test_the_command_the_functions_and_the_aggregate_find_the_same(database: Path) -> None:
    with closing(sqlite3.connect(database)) as conn:
        register_functions(conn)
        for _, caption in captions()[::100]:
            query = quoted(caption)
            (hits,) = conn.execute("select image_search(?, 5)", [query]).fetchone()
            by_search = [(hit["id"], hit["score"]) for hit in json.loads(hits)]
            by_column = conn.execute(
                "select id, image_similarity(id, ?) as score from images order by 2 desc limit 5",
                [query],
            ).fetchall()
            (hits,) = conn.execute(
                "select image_search_agg(id, ?, 5) from images", [query]
            ).fetchone()
            by_aggregate = [(hit["id"], hit["score"]) for hit in json.loads(hits)]
            output = command("search-images", database, "images", query, "-k", 5, "--json").stdout
            by_command = [(row["id"], row["score"]) for row in json.loads(output)]
            for other in (by_column, by_aggregate, by_command):
                assert [id for id, _ in other] == [id for id, _ in by_search]
                assert [score for _, score in other] == pytest.approx(
                    [score for _, score in by_search], abs=1e-3
                )
