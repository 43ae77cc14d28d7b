"""`sqlite-utils locate-images` as people run it, and what embed-images does of it."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from datasette.app import Datasette
from PIL import ExifTags, Image
from sqlite_utils import Database

from datasette_image_search import Images
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.places import geonames, locating

from .commands import change, command, embed_images, query, start
from .conftest import SHARED, draw_picture
from .serving import get

VIENNA, AREZZO, MELBOURNE = (48.2082, 16.3719), (43.4674, 11.8851), (-37.81, 144.96)
SEA = (0.0, -30.0)

IN_AREZZO = ("Italy", "IT", "Tuscany", "Arezzo")
IN_MELBOURNE = ("Australia", "AU", "Victoria", "Melbourne")
NOWHERE = (None, None, None, None)


def locate(database: Path, *arguments: object, table: str = "images") -> str:
    result = command("locate-images", database, table, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[-1]


def move(database: Path, id: int, point: tuple[object, object]) -> None:
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("update images set latitude = ?, longitude = ? where id = ?", (*point, id))


def place(database: Path, id: object, table: str = "images") -> tuple:
    sql = f"select country, country_code, state, city from {table} where id = ?"
    return query(database, sql, [id])[0]


def draw_at(path: Path, colour: str, north: float, east: float) -> None:
    """A picture with whole degrees in its EXIF."""
    exif = Image.Exif()
    gps = {
        ExifTags.GPS.GPSLatitudeRef: "N",
        ExifTags.GPS.GPSLatitude: (north, 0.0, 0.0),
        ExifTags.GPS.GPSLongitudeRef: "E",
        ExifTags.GPS.GPSLongitude: (east, 0.0, 0.0),
    }
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    draw_picture(path, colour, exif=exif)


def test_places_of_images(database: Path):
    for id, point in enumerate([AREZZO, MELBOURNE, SEA, (91, 0), ("north", None)], 1):
        move(database, id, point)
    assert locate(database) == ("2 images located, 1 too far from any town, 2 without a position")
    places = [place(database, id) for id in range(1, 7)]
    assert places == [IN_AREZZO, IN_MELBOURNE, NOWHERE, NOWHERE, NOWHERE, NOWHERE]
    assert locate(database) == "Nothing to do: 4 images located already"


def test_only_what_moved_is_located_again(database: Path, monkeypatch: pytest.MonkeyPatch):
    move(database, 1, AREZZO)
    move(database, 2, SEA)
    locate(database)
    move(database, 3, VIENNA)
    move(database, 1, MELBOURNE)
    looked_up = []
    nearest = geonames.Towns.nearest

    def counted(towns: geonames.Towns, latitudes: np.ndarray, *others: object) -> np.ndarray:
        looked_up.extend(latitudes.tolist())
        return nearest(towns, latitudes, *others)

    monkeypatch.setattr(geonames.Towns, "nearest", counted)
    assert locate(database) == "2 images located, 0 too far from any town"
    assert looked_up == [MELBOURNE[0], VIENNA[0]]
    assert place(database, 1) == IN_MELBOURNE


def test_an_image_is_found_by_the_names_of_its_place(database: Path):
    def found(words: str) -> list[int]:
        with Images(database) as images:
            return [hit.id for hit in images.search(words, by="text")]

    move(database, 1, AREZZO)
    locate(database)
    assert [found(words) for words in ("arezzo", "tuscany", "italy")] == [[1]] * 3
    move(database, 1, MELBOURNE)
    locate(database)
    assert [found(words) for words in ("arezzo", "melbourne australia")] == [[], [1]]
    move(database, 1, (None, None))
    locate(database)
    assert found("melbourne") == []


@pytest.mark.parametrize("point", [(None, None), (None, AREZZO[1]), (AREZZO[0], None)])
def test_an_image_that_lost_its_place_loses_the_names_of_it(database: Path, point: tuple):
    move(database, 1, AREZZO)
    locate(database)
    move(database, 1, point)
    locate(database)
    assert place(database, 1) == NOWHERE


def test_what_a_person_corrected_stays_also_if_the_image_moves(database: Path):
    move(database, 1, AREZZO)
    locate(database)
    change(database, "update images set city = 'Home' where id = 1")
    locate(database)
    assert place(database, 1) == ("Italy", "IT", "Tuscany", "Home")
    move(database, 1, MELBOURNE)
    locate(database)
    assert place(database, 1) == ("Australia", "AU", "Victoria", "Home")


def test_max_distance(database: Path):
    move(database, 1, SEA)
    move(database, 2, AREZZO)
    locate(database)
    assert locate(database, "--max-distance", 2000).startswith("2 images located")
    assert place(database, 1)[0] is not None
    assert locate(database, "--max-distance", 2000) == "Nothing to do: 2 images located already"
    # Without it, the images stay as they are.
    assert locate(database) == "Nothing to do: 2 images located already"
    assert locate(database, "--max-distance", 0.001) == "0 images located, 2 too far from any town"
    assert place(database, 2) == NOWHERE
    for refused in (0, -1, float("nan"), float("inf"), "far", True):
        with Images(database) as images, pytest.raises(ImageSearchError, match="max_distance is"):
            images.locate(max_distance=refused)


def test_where(database: Path):
    for id in (1, 2):
        move(database, id, AREZZO)
    assert locate(database, "--where", "id = :id", "-p", "id", 2).startswith("1 image located")
    assert [place(database, id) for id in (1, 2)] == [NOWHERE, IN_AREZZO]
    result = command("locate-images", database, "images", "--where", "nonsense")
    assert result.exit_code == 1
    assert "the filter 'nonsense' does not work on 'images'" in result.output


def test_the_row_of_an_image_that_is_deleted_renumbered_or_replaced(database: Path):
    for id in (1, 2, 3):
        move(database, id, AREZZO)
    locate(database)
    change(
        database,
        "delete from images where id = 1",
        "update images set id = 100 where id = 2",
        "insert or replace into images (id, root_id, path, latitude, longitude) "
        "select id, root_id, path, latitude, longitude from images where id = 3",
    )
    assert query(database, "select image_id from _images_places") == [(100,)]
    assert locate(database) == "1 image located, 0 too far from any town"
    assert place(database, 3) == IN_AREZZO


def test_a_picture_that_changes_gets_the_place_of_the_new_one(path: Path, folder: Path):
    draw_at(folder / "there.jpg", "red", 43.0, 12.0)
    embed_images(path, "images", folder, "--model", "palette")
    (before,) = query(path, "select country from images where path = 'there.jpg'")
    draw_at(folder / "there.jpg", "blue", 48.0, 16.0)
    embed_images(path, "images", folder)
    (after,) = query(path, "select country from images where path = 'there.jpg'")
    assert (before, after) == (("Italy",), ("Austria",))


def test_embed_images_locates_new_images(path: Path, folder: Path):
    result = embed_images(path, "images", folder, "--model", "palette")
    assert "located" not in result.output
    assert "country" not in Database(path)["images"].columns_dict
    draw_at(folder / "there.jpg", "red", 43.0, 12.0)
    assert "1 image located" in embed_images(path, "images", folder).output
    assert query(path, "select country_code, path from images where country is not null") == [
        ("IT", "there.jpg")
    ]
    assert "located" not in embed_images(path, "images", folder).output


def test_embed_images_without_the_extra(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    draw_at(folder / "there.jpg", "red", 43.0, 12.0)
    monkeypatch.setattr(locating, "has_towns", lambda: False)
    embed_images(path, "images", folder, "--model", "palette")
    assert "country" not in Database(path)["images"].columns_dict


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A person's own table, with keys that are texts, a column of that name, and degrees as texts."""
    draw_picture(tmp_path / "red.png", "red")
    rows = [
        {"id": "a", "file": "red.png", "latitude": "43.4674", "longitude": "11.8851", "city": 7}
    ]
    Database(tmp_path / "own.db")["trips"].insert_all(rows, pk="id")
    embed_images(tmp_path / "own.db", "trips", "--path-column", "file", "--model", "palette")
    return tmp_path / "own.db"


def test_a_table_of_ones_own_keeps_its_columns(own: Path):
    # It is a person's own, which nobody writes to without being asked.
    assert "country" not in Database(own)["trips"].columns_dict
    assert locate(own, table="trips").startswith("1 image located")
    assert place(own, "a", "trips") == ("Italy", "IT", "Tuscany", 7)
    assert locate(own, table="trips") == "Nothing to do: 1 image located already"
    Database(own)["trips"].insert(
        {"id": "b", "file": "red.png", "latitude": -37.81, "longitude": 145}
    )
    embed_images(own, "trips")
    assert place(own, "b", "trips")[0] == "Australia"


def test_tables_that_cannot_be_located(database: Path, own: Path):
    def refused(database: Path, table: str) -> str:
        result = command("locate-images", database, table)
        assert result.exit_code == 1
        return result.output

    change(own, "alter table trips rename latitude to north")
    assert "table 'trips' has no columns latitude and longitude" in refused(own, "trips")
    change(database, *(f"alter table images add {name}" for name in ("country", "COUNTRY_CODE")))
    change(database, *(f"alter table images add {name}" for name in ("state", "city")))
    assert "of table 'images' are yours; rename one" in refused(database, "images")
    change(
        database,
        "alter table images rename city to town",
        "create table _images_places (image_id)",
    )
    assert "'_images_places' was not made by locate-images" in refused(database, "images")


def test_columns_that_a_person_dropped(database: Path):
    move(database, 1, AREZZO)
    locate(database)
    change(database, "alter table images rename state to region")
    move(database, 1, MELBOURNE)
    assert locate(database).startswith("1 image located")
    assert query(database, "select city, region from images where id = 1") == [
        ("Melbourne", "Tuscany")
    ]


def test_ctrl_c_keeps_what_is_done(database: Path, monkeypatch: pytest.MonkeyPatch):
    for id in (1, 2, 3):
        move(database, id, AREZZO)
    monkeypatch.setattr(locating, "BATCH", 1)
    places_of, batches = locating._places, []

    def interrupted(*arguments: object) -> object:
        batches.append(arguments)
        if len(batches) == 2:
            raise KeyboardInterrupt
        return places_of(*arguments)

    monkeypatch.setattr(locating, "_places", interrupted)
    result = command("locate-images", database, "images")
    assert result.exit_code == 130
    assert result.stdout.splitlines()[-1] == (
        "Interrupted: 1 image located, 0 too far from any town"
    )
    assert locate(database).startswith("2 images located")


def test_a_run_that_is_killed_is_finished_by_the_next(database: Path):
    images = Database(database)["images"]
    rows = [
        {"root_id": 1, "path": f"{n}.jpg", "latitude": AREZZO[0], "longitude": AREZZO[1]}
        for n in range(30_000)
    ]
    images.insert_all(rows)
    process = start("locate-images", database, "images", "-s")
    located = 0
    while not 0 < located < 30_000 and process.poll() is None:
        if Database(database)["_images_places"].exists():
            located = query(database, "select count(*) from _images_places")[0][0]
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0)
    locate(database)
    assert query(database, "pragma integrity_check") == [("ok",)]
    counts = "select count(*), count(distinct image_id) from _images_places"
    assert query(database, counts) == [(30_000, 30_000)]
    assert query(database, "select count(*) from images where city = 'Arezzo'") == [(30_000,)]


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_facets_and_a_search_under_a_filter(database: Path):
    for id, point in enumerate([AREZZO, AREZZO, MELBOURNE], 1):
        move(database, id, point)
    page = "/-/image-search/photos/images.json?q=red"
    datasette = Datasette([str(database)])
    assert "city" not in str((await get(datasette, page)).json()["suggested_facets"])
    locate(database)
    datasette = Datasette([str(database)])
    answer = (await get(datasette, page)).json()
    suggested = {facet["name"] for facet in answer["suggested_facets"]}
    assert {"country", "city"} <= suggested
    answer = (await get(datasette, f"{page}&city=Arezzo&_facet=country")).json()
    assert sorted(hit["id"] for hit in answer["hits"]) == [1, 2]
    (facet,) = answer["facet_results"]["results"].values()
    assert [(each["value"], each["count"]) for each in facet["results"]] == [("Italy", 2)]


@pytest.mark.skipif(not (SHARED / "exif").exists(), reason="needs ../shared")
def test_photographs(path: Path):
    embed_images(path, "images", SHARED / "exif" / "gps", "--model", "palette")
    assert query(path, "select city, count(*) from images group by city") == [("Arezzo", 4)]
    embed_images(path, "images", SHARED / "exif" / "camera")
    with Images(path) as images:
        found = {hit.id for hit in images.search("green", where="city = 'Arezzo'")}
        assert len(images.search("green")) > 4
    assert found == {
        id for (id,) in query(path, "select id from images where filename like 'DSCN00%'")
    }
