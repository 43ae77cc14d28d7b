"""Links from Datasette's menus, for those who may see an image table."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from datasette_image_search.web.access import image_tables
from datasette_image_search.web.access.image_tables import MOST_ASKED, _tables

from .serving import datasette_of, get

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

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


@pytest.mark.parametrize("path", ["/", "/photos"])
async def test_the_search_box_is_where_tables_are_listed(database: Path, path: str) -> None:
    datasette = datasette_of(database)
    page = (await get(datasette, path)).text
    assert page.count('<form class="core" action="/-/image-search/photos/images" method="get"') == 1
    assert ">Search images</label>" in page
    assert page.index('role="search"') < page.index('href="/photos/images"')
    assert (await get(datasette, "/-/image-search/photos/images?q=red")).status_code == 200


async def test_there_are_boxes_for_five_tables_and_a_link_to_all(
    database: Path, folder: Path, embed: Callable[..., Path]
) -> None:
    for number in range(5):
        embed(folder, table=f"more {number}")
    home = (await get(datasette_of(database), "/")).text
    assert home.count('role="search"') == 5
    assert '<p><a href="/-/image-search">All image tables</a></p>' in home


async def test_without_image_tables_there_is_no_box(tmp_path: Path) -> None:
    Database(tmp_path / "plain.db")["plain"].insert({"id": 1}, pk="id")
    for path in ("/", "/plain"):
        assert 'role="search"' not in (await get(datasette_of(tmp_path / "plain.db"), path)).text


@pytest.mark.parametrize("path", ["/-/image-search", "/-/image-search/photos"])
async def test_the_only_image_table_is_where_its_list_leads(database: Path, path: str) -> None:
    response = await get(datasette_of(database), path)
    assert response.status_code == 302
    assert response.headers["location"] == "/-/image-search/photos/images"


async def test_several_image_tables_are_listed_by_database(
    database: Path, folder: Path, embed: Callable[..., Path]
) -> None:
    embed(folder, table="a/b <c>")
    embed(folder, name="the other.db")
    datasette = datasette_of(database, database.with_name("the other.db"))
    photos = {"/-/image-search/photos/images", "/-/image-search/photos/a~2Fb+~3Cc~3E"}
    other = "/-/image-search/the+other/images"
    for path, expected in (
        ("/-/image-search", photos | {other}),
        ("/-/image-search/photos", photos),
    ):
        page = (await get(datasette, path)).text
        assert set(re.findall(r'<li><a href="(/-/image-search/[^"]*)">', page)) == expected
    to_other = await get(datasette, "/-/image-search/the+other")
    assert to_other.headers["location"] == other


async def test_a_database_without_image_tables_and_a_hidden_one_are_alike(
    database: Path, tmp_path: Path
) -> None:
    Database(tmp_path / "plain.db")["plain"].insert({"id": 1}, pk="id")
    rules = {"databases": {"photos": {"allow": {"id": "anna"}}}}
    datasette = datasette_of(database, tmp_path / "plain.db", rules=rules)
    for name in ("photos", "plain", "nothing"):
        response = await get(datasette, f"/-/image-search/{name}")
        assert response.status_code == 404
        assert f"There is no image table in &#39;{name}&#39;" in response.text
    assert (await get(datasette, "/-/image-search/photos", actor="anna")).status_code == 302


async def test_a_page_asks_few_of_the_other_databases(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_tables, "FRESH", 0)
    plain = [tmp_path / f"plain {number}.db" for number in range(8)]
    for path in plain:
        Database(path)["plain"].insert({"id": 1}, pk="id")
    datasette = datasette_of(*plain, database)
    assert MENU in (await get(datasette, "/-/plugins")).text
    ages = {each: _tables.age(each) for each in datasette.databases.values()}
    assert MENU in (await get(datasette, "/-/plugins")).text
    asked = [each for each, age in ages.items() if _tables.age(each) < age]
    assert len(asked) == MOST_ASKED


async def test_the_first_image_table_of_many_databases_is_noticed(
    folder: Path, embed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_tables, "FRESH", 0)
    plain = [tmp_path / f"plain {number}.db" for number in range(8)]
    for path in plain:
        Database(path)["plain"].insert({"id": 1}, pk="id")
    datasette = datasette_of(*plain)
    assert MENU not in (await get(datasette, "/-/plugins")).text
    embed(folder, name=plain[7].name)
    pages = [(await get(datasette, "/-/plugins")).text for _ in range(-(-len(plain) // MOST_ASKED))]
    assert MENU in pages[-1]
