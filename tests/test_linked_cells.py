"""Pictures in the cells of tables that lead to an image table by a foreign key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from datasette.database import Database as Served
from sqlite_utils import Database

from datasette_image_search.store.foreign_keys import ForeignKey, foreign_keys

from .serving import datasette_of, get

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

SRC = "/-/image-search/photos/images/{}/thumbnail"


@pytest.fixture
def notes(db: Database) -> Database:
    """Two notes about image 6, red.jpg, one about an image that is not there, and one about none."""
    db["notes"].insert_all(
        [
            {"id": at, "image": image, "other": 6, "note": "a <b>"}
            for at, image in enumerate((6, 6, 99, None), start=1)
        ],
        pk="id",
        foreign_keys=[("image", "images", "id")],
    )
    return db


def cells(page: httpx.Response, column: str = "image") -> list[str]:
    found = re.findall(rf'<td class="col-{column}[^"]*">(.*?)</td>', page.text, re.DOTALL)
    return [cell.strip() for cell in found]


async def test_a_foreign_key_shows_the_picture(notes: Database, database: Path) -> None:
    page = await get(datasette_of(database), "/photos/notes")
    first, second, missing, none = cells(page)
    assert first == second
    assert 'href="/-/image-search/photos/images/6"' in first
    assert f'src="{SRC.format(6)}" alt="" height="48" loading="lazy"' in first
    # An image that is not there has no picture, and takes no room.
    assert f'src="{SRC.format(99)}"' in missing
    assert "<img" not in none
    assert "<img" not in "".join(cells(page, "other"))
    assert "image-search-tables.css" in page.text
    row = await get(datasette_of(database), "/photos/notes/1")
    assert SRC.format(6) in row.text


async def test_the_label_of_the_image_stays(notes: Database, database: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"label_column": "filename"}}}}}
    page = await get(datasette_of(database, rules=rules), "/photos/notes")
    assert "red.jpg</a>&nbsp;<em>6</em>" in cells(page)[0]


async def test_who_may_not_see_the_images_sees_no_picture(notes: Database, database: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"allow": {"id": "anna"}}}}}}
    page = await get(datasette_of(database, rules=rules), "/photos/notes")
    assert "<img" not in "".join(cells(page))


async def test_more_rows_need_no_more_looks_into_the_database(
    notes: Database, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Served.execute_fn

    async def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return await look(*arguments)

    monkeypatch.setattr(Served, "execute_fn", counted)
    datasette = datasette_of(database)
    await get(datasette, "/photos/notes")
    looks = 0
    assert len(cells(await get(datasette, "/photos/notes?_size=2"))) == 2
    with_two, looks = looks, 0
    notes["notes"].insert_all({"image": id, "other": 6} for id in range(1, 9))
    assert len(pictures_of(await get(datasette, "/photos/notes"))) == 11
    assert looks <= with_two


def pictures_of(page: httpx.Response) -> list[str]:
    return [cell for cell in cells(page) if "<img" in cell]


async def test_keys_of_other_columns_and_of_several_are_no_pictures(
    database: Path, db: Database
) -> None:
    db.execute("create table pairs (a integer, b integer, primary key (a, b))")
    db.execute(
        "create table other (y text references IMAGES(id), z integer references images(size), "
        "a integer, b integer, foreign key (a, b) references pairs (a, b))"
    )
    db.execute("insert into other values ('4', 5, null, null)").connection.commit()
    page = await get(datasette_of(database), "/photos/other")
    assert "<img" not in "".join(cells(page, "z"))
    db.execute("create table bare (x integer references images)")
    found = {(key.table, key.column): key for key in foreign_keys(db.conn)}
    assert found["bare", "x"] == ForeignKey("bare", "x", "images", None)
    assert found["other", "y"] == ForeignKey("other", "y", "IMAGES", "id")
    assert ("other", "a") not in found
