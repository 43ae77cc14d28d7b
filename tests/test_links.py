"""Links from Datasette's menus, for those who may see an image table."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from .serving import datasette_of, get

pytestmark = pytest.mark.asyncio

SEARCH = 'href="/-/image-search/photos/images"'
MENU = 'href="/-/image-search"'


async def test_every_page_leads_to_the_search(database: Path) -> None:
    Database(database)["plain"].insert({"id": 1}, pk="id")
    datasette = datasette_of(database)
    assert MENU in (await get(datasette, "/")).text
    assert SEARCH in (await get(datasette, "/photos")).text
    assert SEARCH in (await get(datasette, "/photos/images")).text
    plain = (await get(datasette, "/photos/plain")).text
    assert MENU in plain
    assert SEARCH not in plain


async def test_a_row_leads_to_more_like_it(database: Path) -> None:
    page = await get(datasette_of(database), "/photos/images/6")
    count = page.text.count('href="/-/image-search/photos/images?q=%236"')
    # In the cell, and in the menu where Datasette has one for rows.
    assert count == (2 if hasattr(Datasette, "allowed") else 1)


async def test_no_link_to_what_one_may_not_see(database: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(database, rules=rules)
    for path in ("/", "/photos"):
        assert "/-/image-search" not in (await get(datasette, path)).text
        assert "/-/image-search" in (await get(datasette, path, actor="anna")).text


async def test_a_damaged_database_does_not_take_the_others_along(
    database: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.db"
    Database(damaged)["image_search_indexes"].insert({"other": 1})
    datasette = datasette_of(damaged, database)
    assert MENU in (await get(datasette, "/")).text
