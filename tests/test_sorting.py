"""Hits in the order of a column: the matches of a query, or its best."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from datasette_image_search import Images

from .commands import change, command, embed_images, query
from .conftest import draw_picture

OTHERS = ("blue", "green", "grey", "white", "black", "navy", "teal", "lime")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table by palette of 30 images, four of them red, which have the numbers 3, None, 1 and 2."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(26):
        draw_picture(folder / f"{number:02}.png", OTHERS[number % len(OTHERS)], size=(90, 90))
    for number in range(4):
        draw_picture(folder / f"red {number}.png", "red", size=(90 + number, 90))
    path = folder / "photos.db"
    embed_images(path, "images", folder, "--model", "palette")
    change(
        path,
        "alter table images add column number integer",
        "update images set number = id where filename not like 'red%'",
        *(
            f"update images set number = {number} where filename = 'red {at}.png'"
            for at, number in enumerate(["-3", "null", "-1", "-2"])
        ),
    )
    return path


def test_all_matches_of_a_query_are_sorted_before_any_is_left_out(many: Path):
    with Images(many) as images:
        best = {hit.id: hit for hit in images.search("red", 4)}
        number = dict(query(many, "select id, number from images"))
        rising = sorted(best, key=lambda id: (number[id] is None, number[id]))
        falling = sorted(best, key=lambda id: (number[id] is None, -(number[id] or 0)))
        assert sum(number[id] is None for id in best) == 1
        for k in (1, 3, 4, 30):
            assert images.search("red", k, sort="number") == [best[id] for id in rising[:k]]
            assert images.search("red", k, sort_desc="number") == [best[id] for id in falling[:k]]
        for offset in (1, 3, 4):
            page = images.search("red", 2, offset=offset, sort="number")
            assert page == [best[id] for id in rising[offset : offset + 2]]
        some = images.search("red", 5, where="number < -1", sort="number")
        assert [number[hit.id] for hit in some] == [-3, -2]


@pytest.mark.parametrize("where", ["filename not like 'red%'", "id < 20"])
def test_the_best_are_sorted_if_none_is_a_match(many: Path, where: str):
    with Images(many) as images:
        number = dict(query(many, "select id, number from images"))
        for offset in (0, 2):
            best = images.search("red", 3, where=where, offset=offset)
            (found,) = images.find(["red"], 3, where=where, offset=offset, sort_desc="number")
            assert list(found.hits) == sorted(best, key=lambda hit: -number[hit.id])
            assert (found.knows_matches, found.matches) == (True, 0)
    asked = ("search-images", many, "images", "red", "-k", 3, "--where", where)
    assert command(*asked, "--sort", "number").stderr == command(*asked).stderr
    assert "No image is a clear match" in command(*asked).stderr


def test_the_best_are_sorted_if_nobody_can_tell_the_matches(tmp_path: Path):
    """Of three pictures, what others score with each other says too little."""
    for colour in ("red", "orange", "blue"):
        draw_picture(tmp_path / f"{colour}.png", colour)
    embed_images(tmp_path / "photos.db", "images", tmp_path, "--model", "palette")
    with Images(tmp_path / "photos.db") as images:
        for k in (1, 2, 3):
            (found,) = images.find(["#3"], k)
            assert not found.knows_matches
            wanted = sorted(found.hits, key=lambda hit: hit.id)
            assert images.search("#3", k, sort="id") == wanted


def test_the_command_sorts(many: Path):
    asked = ("search-images", many, "images", "red", "blue", "-k", 3, "--csv")
    rows = list(csv.DictReader(command(*asked, "--sort-desc", "filename").stdout.splitlines()))
    assert [row["path"] for row in rows[:3]] == ["red 3.png", "red 2.png", "red 1.png"]
    assert rows[0]["query"] == "red"
    paths = [row["path"] for row in rows[3:]]
    assert paths == sorted(paths, reverse=True)


def test_what_a_least_relevance_leaves_is_sorted(many: Path):
    """Not the matches alone: what is shown without the order is what is shown with it."""
    with Images(many) as images:
        relevances = [hit.relevance for hit in images.search("red", 30)]
        least = sorted(relevances)[-12]
        assert 0 < least < 0.95
        for by in ("likeness", "both"):
            asked = {"by": by, "min_relevance": least}
            shown = images.search("red", 30, **asked)
            in_order = images.search("red", 30, **asked, sort="id")
            assert in_order == sorted(shown, key=lambda hit: hit.id)
            assert len(shown) >= 12
            page = images.search("red", 5, **asked, sort="id", offset=4)
            assert page == in_order[4:9]
