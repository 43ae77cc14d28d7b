"""The search page and the pictures on it, for those who may see them."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from datasette.app import Datasette
from sqlite_utils import Database

PAGE = "/-/image-search/photos/images"
pytestmark = pytest.mark.asyncio


async def get(
    datasette: Datasette, path: str, actor: str | None = None, **headers
) -> httpx.Response:
    cookies = {}
    if actor is not None:
        cookies["ds_actor"] = datasette.sign({"a": {"id": actor}}, "actor")
    return await datasette.client.get(path, cookies=cookies, headers=headers)


def names(response: httpx.Response) -> list[str]:
    """The file names on a page, in its order."""
    return re.findall(r'<img [^>]*alt="([^"]*)"', response.text)


# --- Thumbnails ------------------------------------------------------------------------------------


async def test_a_thumbnail_is_the_stored_webp(database: Path) -> None:
    datasette = Datasette([str(database)])
    response = await get(datasette, f"{PAGE}/6/thumbnail")
    assert response.status_code == 200
    assert response.content == Database(database)["_images_thumbnails"].get(6)["webp"]
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]


async def test_a_browser_that_has_the_thumbnail_is_not_sent_it_again(database: Path) -> None:
    datasette = Datasette([str(database)])
    etag = (await get(datasette, f"{PAGE}/6/thumbnail")).headers["etag"]
    again = await get(datasette, f"{PAGE}/6/thumbnail", **{"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("id", ["99", "abc", "6.0", "..~2F6", "1~20or~201", "9" * 30])
async def test_no_such_thumbnail(database: Path, id: str) -> None:
    assert (await get(Datasette([str(database)]), f"{PAGE}/{id}/thumbnail")).status_code == 404


async def test_a_thumbnail_that_is_no_webp_is_not_served(database: Path) -> None:
    """The table is one that others can write to."""
    html = b"<html><script>alert(1)</script>"
    Database(database)["_images_thumbnails"].upsert({"image_id": 6, "webp": html}, pk="image_id")
    assert (await get(Datasette([str(database)]), f"{PAGE}/6/thumbnail")).status_code == 404


# --- Who may see what --------------------------------------------------------------------------------

ROUTES = [PAGE, f"{PAGE}?q=red", f"{PAGE}/6/thumbnail"]


def restricted(database: Path, level: str) -> Datasette:
    """A Datasette in which only anna may see the table, the database, or anything at all."""
    allow = {"id": "anna"}
    tables = {"images": {"allow": allow}} if level == "table" else {}
    databases = {"photos": {"tables": tables, **({"allow": allow} if level == "database" else {})}}
    rules = {"databases": databases, **({"allow": allow} if level == "instance" else {})}
    # Permissions are configuration in Datasette 1.0, and metadata in 0.65.
    place = "config" if hasattr(Datasette, "allowed") else "metadata"
    return Datasette([str(database)], **{place: rules})


@pytest.mark.parametrize("level", ["table", "database", "instance"])
@pytest.mark.parametrize("path", ROUTES)
async def test_only_those_who_may_see_the_table(database: Path, level: str, path: str) -> None:
    datasette = restricted(database, level)
    await datasette.invoke_startup()
    assert (await get(datasette, path, actor="anna")).status_code == 200
    for actor in (None, "bob"):
        assert (await get(datasette, path, actor=actor)).status_code == 404


@pytest.mark.parametrize("path", ["/-/image-search/nope/images", "/-/image-search/photos/nope"])
async def test_what_one_may_not_see_answers_like_what_is_not_there(
    database: Path, path: str
) -> None:
    Database(database)["plain"].insert({"id": 1}, pk="id")
    datasette = restricted(database, "table")
    hidden = await get(datasette, PAGE)
    missing = await get(datasette, path)
    assert hidden.status_code == missing.status_code == 404
    assert "There is no image table" in hidden.text
    assert "There is no image table" in missing.text
    plain = await get(datasette, "/-/image-search/photos/plain")
    assert plain.status_code == 404


async def test_another_case_of_the_name_is_no_way_in(database: Path) -> None:
    datasette = restricted(database, "table")
    for path in (PAGE, f"{PAGE}/6/thumbnail"):
        assert (await get(datasette, path.replace("images", "IMAGES"))).status_code == 404
    seen = await get(datasette, PAGE.replace("images", "IMAGES"), actor="anna")
    assert seen.status_code in (200, 404)
