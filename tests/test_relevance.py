"""How much better images are than chance, and where the matches end."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search import Images, ImageSearchError
from datasette_image_search.search.asked import SearchOptions, images_within
from datasette_image_search.search.hits import LINE
from datasette_image_search.search.relevance import AMONG, NEGLIGIBLE, Background, Relevance
from datasette_image_search.sql import register_functions

from .commands import command, embed_images
from .conftest import draw_picture

COLOURS = ("red", "blue", "green", "grey", "white", "black", "brown", "purple", "pink", "yellow")


def normal(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table by palette: three pictures in each of ten colours, and none that is teal."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(30):
        draw_picture(folder / f"{number}.png", COLOURS[number % 10], size=(90 + number, 90))
    embed_images(folder / "photos.db", "images", folder, "--model", "palette")
    return folder / "photos.db"


def test_it_is_the_chance_that_none_of_so_many_images_scores_so_high() -> None:
    background = Background(0.2, 0.05)
    (one,) = Relevance(background, n=1)(np.array([0.45]))
    assert one == pytest.approx(1 - normal(5), abs=1e-12)
    (ten,) = Relevance(background, n=10)(np.array([0.35]))
    assert ten == pytest.approx((1 - normal(3)) ** 10, abs=1e-12)


def test_a_large_collection_hides_no_image_that_stands_out() -> None:
    scores = np.linspace(0, 6, 61)
    thousand, million = (Relevance(Background(0, 1), n)(scores) for n in (AMONG, 1_000_000))
    assert (thousand == million).all()


@given(st.integers(1, 2_000), st.floats(-1, 1), st.floats(0.001, 1), st.floats(0.01, 1))
def test_it_rises_with_the_score_and_its_score_is_the_border(
    n: int, middle: float, spread: float, least: float
) -> None:
    relevance = Relevance(Background(middle, spread), n)
    border = relevance.score_of(least)
    at = np.sort(np.append(np.linspace(-1, 1, 401), [border, np.nextafter(border, -9)]))
    values = relevance(at)
    assert (np.diff(values) >= 0).all()
    assert ((values >= 0) & (values <= 1)).all()
    assert ((values >= least) == (at >= border)).all()


def test_it_does_not_depend_on_what_was_asked_before(many: Path, tmp_path: Path) -> None:
    """Words and their vector are ranked alike, and have different backgrounds."""
    found = []
    for order in (1, -1):
        copy = tmp_path / str(order)
        copy.mkdir()
        for file in many.parent.glob("photos.db*"):
            shutil.copy(file, copy)
        with Images(copy / "photos.db") as images:
            queries = ["red", images.vector("red").tobytes()]
            found.append([images.search(query, 30) for query in queries[::order]][::order])
    assert found[0] == found[1]
    words, vector = found[0]
    assert [hit.id for hit in words] == [hit.id for hit in vector]
    assert [hit.relevance for hit in words] != [hit.relevance for hit in vector]


def test_a_query_has_one_relevance_alone_and_beside_others(many: Path) -> None:
    with Images(many) as images:
        for query in ("red - blue", "#3", "red"):
            (alone,) = images.find([query], 30)
            beside = images.find([query, "green"], 30)[0]
            assert alone.hits == beside.hits


def test_images_that_were_deleted_do_not_count(many: Path, tmp_path: Path) -> None:
    for file in many.parent.glob("photos.db*"):
        shutil.copy(file, tmp_path)
    with Images(tmp_path / "photos.db") as images:
        images.search("red", 3)
        with images.conn:
            images.conn.execute("delete from images where id % 3 = 0")
        beside = images.search("red", 20)
    with Images(tmp_path / "photos.db") as images:
        images.index()
        again = images.search("red", 20)
    assert [hit.relevance for hit in beside] == [hit.relevance for hit in again]


def test_the_matches_are_the_pictures_that_a_person_means(many: Path) -> None:
    with Images(many) as images:
        for colour in ("red", "blue", "green", "purple"):
            (found,) = images.find([colour], 30)
            names = [f"{number}.png" for number in range(30) if COLOURS[number % 10] == colour]
            asked = f"select id from images where filename in {(*names,)}"
            meant = {id for (id,) in images.conn.execute(asked)}
            assert {hit.id for hit in found.hits[:3]} == meant
            assert found.matches >= 3
            values = [hit.relevance for hit in found.hits]
            assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("query", ["red", "#3", "#3 + red", "red -blue"])
def test_what_is_left_is_exactly_what_has_the_relevance(many: Path, query: str) -> None:
    with Images(many) as images:
        everything = images.search(query, 30)
        relevances = [hit.relevance for hit in everything]
        assert None not in relevances
        for least in {LINE, 0.5, *relevances[:6]}:
            wanted = [hit for hit in everything if hit.relevance >= least]
            assert images.search(query, 30, min_relevance=least) == wanted
            asked = images.ask(query)
            options = SearchOptions(min_relevance=least)
            within = images_within(images.conn, asked.index, asked, options)
            assert within is not None
            assert sorted(within.ids.ids) == sorted(hit.id for hit in wanted)
            some = "filename < '2'"
            filtered = images.search(query, 30, where=some, min_relevance=least)
            allowed = {hit.id for hit in images.search(query, 30, where=some)}
            assert filtered == [hit for hit in wanted if hit.id in allowed]


def test_one_image_has_the_same_relevance_everywhere(many: Path) -> None:
    with Images(many) as images, closing(sqlite3.connect(many)) as conn:
        register_functions(conn)
        hits = images.search("red", 30)
        (rows,) = conn.execute("select image_search('red', 30)").fetchone()
        assert json.loads(rows) == [
            {"id": hit.id, "score": hit.score, "relevance": hit.relevance} for hit in hits
        ]
        for hit in hits:
            assert images.relevance(hit.id, "red") == pytest.approx(hit.relevance, abs=1e-9)
            sql = "select image_relevance(?, 'red'), image_relevance(999, 'red'), image_relevance(null, 'red')"
            found = conn.execute(sql, [hit.id]).fetchone()
            assert found == (pytest.approx(hit.relevance, abs=1e-9), None, None)


@pytest.mark.parametrize("query", ["red", "#3", "#3 + red", "red -blue"])
def test_rows_of_a_statement_have_the_relevances_of_hits(
    many: Path, tmp_path: Path, query: str
) -> None:
    """To the last bit, as rows are ordered and grouped by them; also of what another program changed meanwhile."""
    for file in many.parent.glob("photos.db*"):
        shutil.copy(file, tmp_path)
    with (
        Images(tmp_path / "photos.db") as images,
        closing(sqlite3.connect(tmp_path / "photos.db")) as conn,
    ):
        register_functions(conn)
        sql = "select id, image_relevance(id, ?), image_similarity(id, ?) is null from images"
        for change in (
            "delete from images where id = 7",
            "delete from _images_vectors where image_id = 9",
            # An id so far from the others that relevances are not looked up by it.
            "update images set id = 1099511627776 where id = 5",
            "delete from images where id = 8",
        ):
            wanted = {hit.id: (hit.relevance, 0) for hit in images.search(query, 30)}
            ids = [id for (id,) in conn.execute("select id from images")]
            found = {id: rest for id, *rest in conn.execute(sql, [query, query])}
            assert found == {id: [*wanted.get(id, (None, 1))] for id in ids}
            assert len({relevance for relevance, _ in wanted.values()}) > 3
            with images.conn:
                images.conn.execute(change)


def test_what_is_negligible_is_nothing() -> None:
    relevance = Relevance(Background(0.2, 0.05), n=1_000)
    least = relevance.score_of(NEGLIGIBLE)
    assert relevance(np.array([np.nextafter(least, 0), -1])).tolist() == [0, 0]
    assert relevance(np.array([least]))[0] == pytest.approx(NEGLIGIBLE)


def test_a_few_images_have_matches_too(tmp_path: Path) -> None:
    for colour in ("red", "blue", "green"):
        draw_picture(tmp_path / f"{colour}.png", colour)
    embed_images(tmp_path / "photos.db", "images", tmp_path, "--model", "palette")
    with Images(tmp_path / "photos.db") as images:
        (found,) = images.find(["red"], 3)
        assert found.matches == 1
        assert found.hits[0].id == images.search("red", 1)[0].id
        # Of three pictures nobody can tell what others score with each other: nothing is left out.
        hits = images.search("#1", 3, min_relevance=0.9)
        assert [hit.relevance for hit in hits] == [None] * 3
        (found,) = images.find(["#1"], 3, min_relevance=0.9)
        assert "is not known" in found.warnings[0]


def test_the_command_drops_what_is_less_relevant(many: Path) -> None:
    result = command(
        "search-images", many, "images", "red", "-k", 30, "--min-relevance", LINE, "--json"
    )
    with Images(many) as images:
        ids = [hit.id for hit in images.search("red", 30, min_relevance=LINE)]
    assert 0 < len(ids) < 30
    assert [row["id"] for row in json.loads(result.stdout)] == ids
    result = command("search-images", many, "images", "bright left", "--min-relevance", 1)
    assert "No image has a relevance of 1 or more" in result.output


def test_the_command_says_if_nothing_is_a_match(many: Path) -> None:
    asked = "search-images", many, "images", "red", "-k", 3
    assert command(*asked).stderr == ""
    with Images(many) as images:
        matches = [hit.id for hit in images.search("red", 30, min_relevance=LINE)]
    result = command(*asked, "--where", f"id not in ({', '.join(map(str, matches))})")
    assert result.stderr == "No image is a clear match; these are the nearest\n"
    assert len(result.stdout.splitlines()) == 2 + 3
    result = command(*asked, "blue", "--where", f"id not in ({', '.join(map(str, matches))})")
    assert result.stderr == "No image is a clear match for 'red'; these are the nearest\n"


def test_a_relevance_that_there_is_not_is_refused(many: Path) -> None:
    with (
        Images(many) as images,
        pytest.raises(ImageSearchError, match="it must be above 0 and at most 1, such as"),
    ):
        images.search("red", min_relevance=1.5)
