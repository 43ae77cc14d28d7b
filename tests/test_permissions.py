"""
Who may see what: every route, format and picture, for anonymous, for bob and for anna, where only
anna may see the table, its database, or anything at all.

A new route is a line in ROUTES.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from .commands import change, command
from .conftest import copied_database, draw_picture
from .only_ours import close
from .serving import ask, datasette_of

TABLE = "/-/image-search/{database}/{table}"

ROUTES = [
    ("GET", TABLE),
    ("GET", f"{TABLE}?q=red"),
    ("GET", f"{TABLE}?q=%236"),
    ("GET", f"{TABLE}?q=red&_facet=camera_make&format=JPEG"),
    ("GET", f"{TABLE}.json?q=red"),
    ("GET", f"{TABLE}.csv?q=red"),
    ("GET", f"{TABLE}/6/thumbnail"),
    ("GET", f"{TABLE}/6/image"),
    ("GET", f"{TABLE}/6/preview"),
    ("GET", f"{TABLE}/6?q=red&_position=1"),
    ("GET", f"{TABLE}/map"),
    ("GET", f"{TABLE}/map?q=red&_color=folder"),
    ("GET", f"{TABLE}/map.json"),
    ("GET", f"{TABLE}/map.json?q=red&format=JPEG"),
    ("GET", f"{TABLE}/map.json?_color=camera_make"),
    ("GET", f"{TABLE}/upload"),
    ("POST", f"{TABLE}/upload"),
]
"""Method and path. Those of POST send a picture."""

HIDDEN_ANSWERS = 404
"""To those who may not see the table, as to all for a table that is not there."""

LEVELS = ["table", "database", "instance"]
STRANGERS = [None, "bob"]

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    return draw_picture(tmp_path / "upload.png", "red").read_bytes()


def restricted(database: Path, level: str) -> Datasette:
    """Only anna may see the table images, the database photos, or anything; all else is open."""
    allow = {"allow": {"id": "anna"}}
    rules = {
        "table": {"databases": {"photos": {"tables": {"images": allow}}}},
        "database": {"databases": {"photos": allow}},
        "instance": allow,
    }[level]
    return datasette_of(database, rules=rules, plugin={"roots": [str(database.parent)]})


async def answer(
    datasette: Datasette, route: tuple[str, str], actor: str | None, picture: bytes, **names: str
) -> httpx.Response:
    """`names` may say another database or table than photos and images."""
    method, path = route
    path = path.format(**{"database": "photos", "table": "images", **names})
    return await ask(datasette, path, actor, method, picture if method == "POST" else None)


@pytest.fixture(scope="module")
def of_levels(
    drawn_once: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Datasette]]:
    """
    restricted() by its level, and one for an open table of a closed database: the same for all tests that only ask. There is a
    table `plain` beside the images.
    """
    place = tmp_path_factory.mktemp("levels")
    folder = shutil.copytree(drawn_once / "pictures", place / "pictures")
    database = copied_database(drawn_once, folder, place)
    Database(database)["plain"].insert({"id": 1}, pk="id")
    made = {level: restricted(database, level) for level in LEVELS}
    photos = {"allow": {"id": "anna"}, "tables": {"images": {"allow": True}}}
    options = {"plugin": {"roots": [str(place)]}, "rules": {"databases": {"photos": photos}}}
    made["open table"] = datasette_of(database, **options)
    yield made
    for datasette in made.values():
        close(datasette)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
async def test_only_those_who_may_see_the_table(
    of_levels: dict[str, Datasette], picture: bytes, level: str, route: tuple[str, str]
) -> None:
    datasette = of_levels[level]
    await datasette.invoke_startup()
    assert (await answer(datasette, route, "anna", picture)).status_code == 200
    for actor in STRANGERS:
        hidden = await answer(datasette, route, actor, picture)
        assert hidden.status_code == HIDDEN_ANSWERS
        assert_shows_nothing(hidden)


def assert_shows_nothing(response: httpx.Response) -> None:
    """No picture, no path, no token, and no caching by others."""
    assert not response.headers["content-type"].startswith("image/")
    for word in ("red.jpg", "vec:", "thumbnail", "palette", "csrftoken"):
        assert word not in response.text
    assert "etag" not in response.headers
    assert "public" not in response.headers.get("cache-control", "")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
async def test_what_one_may_not_see_answers_like_what_is_not_there(
    of_levels: dict[str, Datasette], picture: bytes, level: str, route: tuple[str, str]
) -> None:
    """To the letter, but for the name; whatever the case of the name, for SQLite sees none."""
    datasette = of_levels[level]
    await datasette.invoke_startup()
    for actor in STRANGERS:
        hidden = await answer(datasette, route, actor, picture)
        for names in (
            {"table": "nowhere"},
            {"table": "plain"},
            {"table": "IMAGES"},
            {"table": "_images_thumbnails"},
            {"table": "image_search_indexes"},
            {"database": "nowhere"},
            {"database": "_memory"},
        ):
            missing = await answer(datasette, route, actor, picture, **names)
            assert missing.status_code == HIDDEN_ANSWERS
            assert without_names(missing) == without_names(hidden)


def without_names(response: httpx.Response) -> tuple[str, list[tuple[str, str]]]:
    """Body and headers, with the names of tables and databases made one."""
    text = response.text
    for name in (
        "_images_thumbnails",
        "image_search_indexes",
        "nowhere",
        "plain",
        "IMAGES",
        "images",
        "photos",
        "_memory",
    ):
        text = text.replace(name, "NAME")
    headers = [(name, value) for name, value in response.headers.items() if name != "set-cookie"]
    return text, [(name, value) for name, value in headers if name != "content-length"]


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
async def test_a_row_that_is_not_there_says_no_more_than_a_table(
    database: Path, picture: bytes, route: tuple[str, str]
) -> None:
    """Who may not see the table cannot ask which rows it has."""
    if "/6/" not in route[1]:
        return
    datasette = restricted(database, "table")
    await datasette.invoke_startup()
    method, path = route
    for actor in STRANGERS:
        there = await answer(datasette, route, actor, picture)
        missing = await answer(datasette, (method, path.replace("/6/", "/999/")), actor, picture)
        assert there.text == missing.text


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
async def test_an_open_table_of_a_closed_database(
    of_levels: dict[str, Datasette], picture: bytes, route: tuple[str, str]
) -> None:
    """Datasette's own rule, that a table may be opened by itself, holds here as on its own page."""
    datasette = of_levels["open table"]
    await datasette.invoke_startup()
    for actor in (None, "bob", "anna"):
        own = await ask(datasette, "/photos/images", actor)
        ours = await answer(datasette, route, actor, picture)
        assert (ours.status_code == 200) == (own.status_code == 200)


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
async def test_a_token_for_less_is_not_enough(
    database: Path, picture: bytes, route: tuple[str, str]
) -> None:
    """Of an actor who may see the table, but whose token is for another one only (1.0 has such)."""
    datasette = restricted(database, "table")
    if not hasattr(datasette, "allowed"):
        pytest.skip("this Datasette has no tokens with restrictions")
    await datasette.invoke_startup()
    restrictions = {"r": {"photos": {"plain": ["vt"]}}}
    token = "dstok_" + datasette.sign(
        {"a": "anna", "t": 1_700_000_000, "d": None, "_r": restrictions}, namespace="token"
    )
    method, path = route
    path = path.format(database="photos", table="images")
    content = picture if method == "POST" else None
    response = await ask(datasette, path, None, method, content, authorization=f"Bearer {token}")
    assert response.status_code == HIDDEN_ANSWERS


async def test_another_database_with_a_table_of_that_name(
    database: Path, picture: bytes, tmp_path: Path
) -> None:
    """A rule for one is no rule for the other."""
    other = tmp_path / "other.db"
    other.write_bytes(database.read_bytes())
    rules = {"databases": {"photos": {"allow": {"id": "anna"}}}}
    datasette = datasette_of(database, other, rules=rules, plugin={"roots": [str(database.parent)]})
    await datasette.invoke_startup()
    for route in ROUTES:
        assert (await answer(datasette, route, None, picture)).status_code == HIDDEN_ANSWERS
        seen = await answer(datasette, route, None, picture, database="other")
        assert seen.status_code == 200


@pytest.mark.parametrize("kind", ["thumbnail", "image"])
@pytest.mark.parametrize("level", LEVELS)
async def test_no_shared_cache_keeps_what_only_some_may_see(
    database: Path, picture: bytes, level: str, kind: str
) -> None:
    datasette = restricted(database, level)
    await datasette.invoke_startup()
    response = await answer(datasette, ("GET", f"{TABLE}/6/{kind}"), "anna", picture)
    assert response.status_code == 200
    assert "public" not in response.headers["cache-control"]
    # An ETag that somebody knows is no ticket.
    etag = response.headers["etag"]
    path = f"/-/image-search/photos/images/6/{kind}"
    assert (await ask(datasette, path, if_none_match=etag)).status_code == HIDDEN_ANSWERS
    assert (await ask(datasette, path, range="bytes=0-9")).status_code == HIDDEN_ANSWERS
    assert (await ask(datasette, path, method="HEAD")).status_code == HIDDEN_ANSWERS


async def test_tags_that_one_may_not_see_cannot_be_found_by_searching(database: Path) -> None:
    """Neither in the full-text index nor by what a search tells."""
    assert command("tag-images", database, "images", "red", "blue").exit_code == 0
    change(database, "update images_tags set tag = 'zebrafish' where image_id = 6")
    rules = {"databases": {"photos": {"tables": {"images_tags": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(database, rules=rules)
    page = TABLE.format(database="photos", table="images")
    for path in (
        "/photos/_images_texts_fts.json?_shape=array",
        "/photos/_images_texts_fts_content.json?_shape=array",
        f"{page}.json?q=zebrafish&_by=text",
        f"{page}.json?q=zebrafish",
        f"{page}?q=text:zebra*",
    ):
        hidden = await ask(datasette, path, actor="bob")
        assert hidden.status_code in (400, 403, 404), path
        assert (await ask(datasette, path, actor="anna")).status_code == 200, path
    found = (await ask(datasette, f"{page}.json?q=red+%2B+blue", actor="bob")).json()
    assert [hit["matched"] for hit in found["hits"]] == [[]] * 8
    assert "Find by" not in (await ask(datasette, f"{page}?q=red", actor="bob")).text
    assert "Find by" in (await ask(datasette, f"{page}?q=red", actor="anna")).text
