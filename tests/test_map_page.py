"""The map of an image table as a server answers it: the page, and what it shows as JSON."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from datasette_image_search.maps.colouring import STEPS
from datasette_image_search.search import projection
from datasette_image_search.web.pages import map_page

from .commands import change, command
from .conftest import COLOURS, draw_picture
from .serving import HANGS, ask, datasette_of

MAP = "/-/image-search/photos/images/map"
ANOTHER_MAP = "/-/image-search/another/images/map"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


async def map_of(datasette: Datasette, query: str = "", path: str = f"{MAP}.json") -> dict:
    response = await ask(datasette, f"{path}?{query}")
    assert response.status_code == 200, response.text
    return response.json()


async def sentence(datasette: Datasette, query: str) -> str:
    """What is wrong, which JSON and page say alike."""
    answer = await ask(datasette, f"{MAP}.json?{query}")
    assert answer.status_code == 400
    assert answer.json()["ok"] is False
    page = await ask(datasette, f"{MAP}?{query}")
    if page.status_code == 400:
        assert (
            unescape(re.search(r'role="alert">(.*?)</p>', page.text)[1]) == answer.json()["error"]
        )
    return answer.json()["error"]


def data_attributes(page: httpx.Response) -> dict[str, str]:
    tag = re.search(r'<div class="image-map"([^>]*)>', page.text)[1]
    return {name: unescape(value) for name, value in re.findall(r'data-(\w+)="([^"]*)"', tag)}


async def test_every_image_is_a_point(database: Path) -> None:
    data = await map_of(datasette_of(database))
    images = data["images"]
    assert sorted(images["id"]) == list(range(1, 9))
    assert sorted(images["name"]) == sorted(f"{colour}.jpg" for colour in COLOURS)
    assert {len(column) for column in images.values()} == {8}
    for axis in ("x", "y"):
        assert (min(images[axis]), max(images[axis])) == (-1, 1)
    assert (data["count"], data["description"], data["model"]) == (8, "8 images", "palette")
    assert set(images["colour"]) == {0}


async def test_images_that_are_alike_are_near_each_other(database: Path) -> None:
    images = (await map_of(datasette_of(database)))["images"]
    at = {
        name: complex(x, y)
        for name, x, y in zip(images["name"], images["x"], images["y"], strict=True)
    }
    assert abs(at["red.jpg"] - at["orange.jpg"]) < abs(at["red.jpg"] - at["white.jpg"])
    assert abs(at["yellow.jpg"] - at["orange.jpg"]) < abs(at["yellow.jpg"] - at["blue.jpg"])


async def test_filters_are_those_of_the_search_page(database: Path) -> None:
    datasette = datasette_of(database)
    data = await map_of(datasette, "filename__contains=re&_where=id+%3C+7")
    assert sorted(data["images"]["name"]) == ["green.jpg", "red.jpg"]
    assert data["description"].startswith("2 images where filename contains")
    page = await ask(datasette, f"{MAP}?filename__contains=re&_color=folder")
    assert 'value="re"' in page.text
    links = data_attributes(page)
    assert links["url"] == f"{MAP}.json?filename__contains=re&_color=folder"
    assert links["search"] == "/-/image-search/photos/images?filename__contains=re"
    added = await ask(
        datasette, f"{MAP}?_filter_column=id&_filter_op=gt&_filter_value=3&_color=id&q=red"
    )
    assert added.status_code == 302
    assert "id__gt=3" in added.headers["location"]
    assert added.headers["location"].startswith(f"{MAP}?")
    blank = await ask(datasette, f"{MAP}?filename=&_filter_column=id&_filter_op=gt&_filter_value=3")
    assert blank.headers["location"] == f"{MAP}?filename=&id__gt=3"
    none = await ask(datasette, f"{MAP}?_filter_column=&_filter_op=gt&_filter_value=3")
    assert none.headers["location"] == MAP


async def test_the_search_page_has_a_link_to_the_map(database: Path) -> None:
    datasette = datasette_of(database)
    page = await ask(
        datasette,
        "/-/image-search/photos/images?q=red&format=JPEG&_size=2&_facet=folder&_next=2"
        "&_min_score=-1",
    )
    link = unescape(re.search(r'<a href="([^"]*)">Map by likeness</a>', page.text)[1])
    assert link.startswith(f"{MAP}?")
    assert "q=red" in link
    assert "format=JPEG" in link
    assert "_next" not in link
    assert "_size" not in link
    assert "_min_score=-1" in link
    assert (await ask(datasette, link)).status_code == 200


@pytest.mark.parametrize("limit", ["_min_score=0.3", "_min_relevance=0.9"])
@pytest.mark.parametrize("colour", ["", "&_color=filename"])
async def test_the_map_has_the_images_that_the_search_page_has(
    database: Path, limit: str, colour: str
) -> None:
    datasette = datasette_of(database)
    search = "/-/image-search/photos/images.json"
    hits = (await ask(datasette, f"{search}?q=red&{limit}")).json()["hits"]
    data = await map_of(datasette, f"q=red&{limit}{colour}")
    assert 0 < len(hits) < 8
    assert sorted(data["images"]["id"]) == sorted(hit["id"] for hit in hits)
    name, least = limit.removeprefix("_min_").split("=")
    assert data["description"].endswith(f", with a {name} of {least} or more")
    page = await ask(datasette, f"{MAP}?q=red&{limit}{colour}")
    assert f'<input type="hidden" name="_min_{name}" value="{least}">' in page.text
    assert limit in unescape(re.search(r'data-url="([^"]*)"', page.text)[1])


async def test_colours_by_a_column(database: Path) -> None:
    change(database, "update images set camera_model = iif(id < 4, 'Canon', null)")
    datasette = datasette_of(database)
    data = await map_of(datasette, "_color=camera_model")
    assert data["legend"]["title"] == "camera_model"
    labels = {entry["label"]: entry["colour"] for entry in data["legend"]["entries"]}
    assert set(labels) == {"Canon", "no value"}
    for id, colour in zip(data["images"]["id"], data["images"]["colour"], strict=True):
        assert data["colours"][colour] == labels["Canon" if id < 4 else "no value"]
    page = await ask(datasette, f"{MAP}?_color=camera_model")
    assert "<option selected>camera_model</option>" in page.text


async def test_colours_by_likeness_to_a_query(database: Path) -> None:
    data = await map_of(datasette_of(database), "q=red")
    assert data["legend"]["title"] == 'likeness to "red"'
    codes = dict(zip(data["images"]["name"], data["images"]["colour"], strict=True))
    assert codes["red.jpg"] == STEPS - 1
    assert codes["red.jpg"] > codes["orange.jpg"] > codes["blue.jpg"]


async def test_a_column_goes_before_a_query(database: Path) -> None:
    data = await map_of(datasette_of(database), "q=red&_color=filename")
    assert data["legend"]["title"] == "filename"
    # The query is not used, and need not be one.
    data = await map_of(datasette_of(database), "q=gibberish&_color=filename")
    assert data["legend"]["title"] == "filename"


async def test_what_is_wrong_is_said_in_a_sentence(database: Path) -> None:
    datasette = datasette_of(database)
    assert "has no column 'nope' to colour by; it has id" in await sentence(
        datasette, "_color=nope"
    )
    assert "has no column 'nope' to filter by" in await sentence(datasette, "nope=1")
    assert "no such column: nope" in await sentence(datasette, "_where=nope")
    assert "there is no image" in await sentence(datasette, "q=%23999")
    slow = (
        "(with+recursive+t(n)+as+(select+1+union+all+select+n%2B1+from+t)+select+count(*)+from+t)"
    )
    limited = datasette_of(database, settings={"sql_time_limit_ms": 50})
    assert "took more than the 50 ms" in await sentence(limited, f"_where={slow}")


async def test_what_is_committed_is_on_the_map_at_once(database: Path, folder: Path) -> None:
    datasette = datasette_of(database)
    before = await map_of(datasette)
    change(database, "delete from images where id = 6")
    assert sorted((await map_of(datasette))["images"]["id"]) == [1, 2, 3, 4, 5, 7, 8]
    draw_picture(folder / "pink.jpg", "pink")
    command("embed-images", database, "images", folder, "--model", "palette")
    after = await map_of(datasette)
    assert "pink.jpg" in after["images"]["name"]
    assert len(after["images"]["id"]) == len(before["images"]["id"]) + 1


async def test_the_projection_is_made_once_and_in_no_thread_that_others_wait_for(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    pca = projection.pca

    def noting(*args):
        threads.append(threading.current_thread().name)
        return pca(*args)

    monkeypatch.setattr(projection, "pca", noting)
    datasette = datasette_of(database)
    for query in ("", "q=red", "id__gt=4"):
        await map_of(datasette, query)
    assert len(threads) == 1
    assert threads[0].startswith("image-search-map")


async def test_no_search_waits_for_a_map_and_no_map_that_is_known_for_another(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = tmp_path / "another.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(another)) as copy:
        source.backup(copy)
    datasette = datasette_of(database, another)
    await map_of(datasette)
    begun, may_end = threading.Event(), threading.Event()
    pca = projection.pca

    def waiting(*args: Any) -> Any:
        begun.set()
        may_end.wait(HANGS)
        return pca(*args)

    monkeypatch.setattr(projection, "pca", waiting)
    in_work = asyncio.ensure_future(map_of(datasette, path=f"{ANOTHER_MAP}.json"))
    try:
        assert await asyncio.to_thread(begun.wait, HANGS)
        for path in (f"{MAP}.json?q=red", "/-/image-search/photos/images.json?q=blue"):
            response = await asyncio.wait_for(ask(datasette, path), HANGS)
            assert response.status_code == 200
        assert not in_work.done()
    finally:
        may_end.set()
    assert len((await in_work)["images"]["id"]) == 8


async def test_colours_and_json_are_made_beside_the_event_loop(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noting(work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            threads.append(threading.current_thread())
            return work(*args)

        return noted

    for name in ("by_score", "map_data", "as_json"):
        monkeypatch.setattr(map_page, name, noting(getattr(map_page, name)))
    await map_of(datasette_of(database), "q=red")
    assert len(threads) == 3
    assert threading.current_thread() not in threads


async def test_of_too_many_some_are_shown(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_page, "MOST_IMAGES", 5)
    data = await map_of(datasette_of(database))
    assert (len(data["images"]["id"]), data["count"]) == (5, 8)


async def test_a_map_of_nothing(database: Path) -> None:
    data = await map_of(datasette_of(database), "id=999&_color=filename")
    assert (data["count"], data["images"]["id"]) == (0, [])


async def test_names_that_need_care(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "my photos.db"
    db = Database(database)
    for colour in COLOURS[:3]:
        key = f"{colour}/1, <b>"
        db["my.images"].insert({"key": key, "file": str(folder / f"{colour}.jpg")}, pk="key")
    db.close()
    embedding = ("my.images", "--path-column", "file", "--model", "palette")
    assert command("embed-images", database, *embedding).exit_code == 0
    datasette = datasette_of(database, settings={"base_url": "/prefix/"})
    path = "/-/image-search/my+photos/my~2Eimages/map"
    data = await map_of(datasette, path=f"{path}.json")
    assert "red/1, <b>" in data["images"]["id"]
    links = data_attributes(await ask(datasette, path))
    assert links["images"] == "/prefix/-/image-search/my+photos/my~2Eimages"
    assert links["rows"] == "/prefix/my+photos/my~2Eimages"
    thumbnail = f"/-/image-search/my+photos/my~2Eimages/{'red~2F1~2C+~3Cb~3E'}/thumbnail"
    assert (await ask(datasette, thumbnail)).status_code == 200


async def test_ids_that_a_browser_cannot_count_to_are_texts(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "photos.db"
    ids = [2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1]
    db = Database(database)
    for id, colour in zip(ids, COLOURS, strict=False):
        db["own"].insert({"id": id, "file": str(folder / f"{colour}.jpg")}, pk="id")
    db.close()
    embedding = ("own", "--path-column", "file", "--model", "palette")
    assert command("embed-images", database, *embedding).exit_code == 0
    datasette = datasette_of(database)
    path = "/-/image-search/photos/own"
    shown = (await map_of(datasette, path=f"{path}/map.json"))["images"]["id"]
    # As a browser reads JSON, where all numbers are float64.
    read = [id if isinstance(id, str) else int(float(id)) for id in shown]
    assert sorted(map(int, read)) == sorted(ids)
    # What is selected on the map is found by a set with numbers and texts in it.
    for chosen in (read, [str(2**53 + 1)], [2**53 - 1, str(-(2**53) - 1)]):
        found = await ask(datasette, f"{path}.json?_among=map.{quote(json.dumps(chosen))}")
        assert sorted(hit["id"] for hit in found.json()["hits"]) == sorted(map(int, chosen))
    thumbnail = await ask(datasette, f"{path}/{2**53 + 1}/thumbnail")
    assert thumbnail.status_code == 200


async def test_a_database_in_memory(database: Path) -> None:
    datasette = Datasette(memory=True)
    datasette.add_memory_database("photos")
    with (
        closing(sqlite3.connect(database)) as source,
        closing(sqlite3.connect("file:photos?mode=memory&cache=shared", uri=True)) as memory,
    ):
        source.backup(memory)
        remembered = list(projection._projected)
        data = await map_of(datasette)
    assert sorted(data["images"]["id"]) == list(range(1, 9))
    # It is another index each time, and must not push out those that are asked for again.
    assert list(projection._projected) == remembered


async def test_other_programs_may_ask_where_datasette_lets_them(database: Path) -> None:
    answer = await ask(datasette_of(database, cors=True), f"{MAP}.json")
    assert answer.headers["access-control-allow-origin"] == "*"
