"""The map of the earth as a server answers it: a list without JavaScript, and cells of a view as JSON."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import httpx
import pytest
from datasette.app import Datasette

from datasette_image_search.web.pages import geographic_map

from .commands import change
from .serving import ask, datasette_of

EARTH = "/-/image-search/photos/images/earth"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def placed(database: Path) -> Path:
    """Three images in Lisbon, one in Sydney, four nowhere."""
    change(
        database,
        "update images set latitude = 38.7, longitude = -9.1 where id in (1, 2)",
        "update images set latitude = 38.8, longitude = -9.2, format = 'PNG' where id = 3",
        "update images set latitude = -33.9, longitude = 151.2 where id = 5",
    )
    return database


async def cells_of(datasette: Datasette, query: str = "") -> list[dict]:
    answer = await ask(datasette, f"{EARTH}.json?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["cells"]


def listed(page: httpx.Response) -> list[tuple[str, str, str]]:
    found = re.findall(r'<li><a href="([^"]*)">([^<]*)</a>: ([^<]*)</li>', page.text)
    return [(unescape(url), place, count) for url, place, count in found]


async def test_a_list_of_places_without_javascript(placed: Path) -> None:
    datasette = datasette_of(placed)
    page = await ask(datasette, f"{EARTH}?id__lt=8")
    (url, place, count), sydney = listed(page)
    assert (place, count) == ("38.73° N, 9.13° W", "3 images")
    assert sydney[1:] == ("33.90° S, 151.20° E", "1 image")
    found = (await ask(datasette, url.replace("images?", "images.json?"))).json()
    assert sorted(hit["id"] for hit in found["hits"]) == [1, 2, 3]
    assert "id__lt=8" in url


async def test_cells_of_a_view_as_json(placed: Path) -> None:
    datasette = datasette_of(placed)
    lisbon, sydney = await cells_of(datasette)
    assert (lisbon["count"], lisbon["box"]) == (3, [38.7, -9.2, 38.8, -9.1])
    assert sydney["url"] == "/-/image-search/photos/images/5"
    assert lisbon["url"] is None
    assert re.search(r"/images/5/thumbnail\?v=\w+$", sydney["thumbnail"])
    (only,) = await cells_of(datasette, "_view=-90,100,0,180")
    assert only == sydney
    assert [each["count"] for each in await cells_of(datasette, "_view=38,-10,39,-9")] == [2, 1]
    (filtered,) = await cells_of(datasette, "format=PNG")
    assert filtered["count"] == 1
    matching = await cells_of(datasette, "q=white&_min_score=-1&id__lt=3")
    assert [cell["count"] for cell in matching] == [2]


@pytest.mark.parametrize("view", ["1,2,3", "a,b,c,d", "10,0,0,5", "0,0,91,1", "nan,0,1,1"])
async def test_a_view_that_is_none(placed: Path, view: str) -> None:
    answer = await ask(datasette_of(placed), f"{EARTH}.json?_view={view}")
    assert (answer.status_code, "_view must be" in answer.json()["error"]) == (400, True)


async def test_the_search_page_leads_there_if_images_have_a_place(placed: Path) -> None:
    datasette = datasette_of(placed)
    link = re.compile(r'<a href="([^"]*)">Map of the earth</a>')
    page = await ask(datasette, "/-/image-search/photos/images?format=JPEG&_size=7&_pictures=large")
    assert unescape(link.search(page.text)[1]) == f"{EARTH}?format=JPEG"
    nowhere = await ask(datasette, "/-/image-search/photos/images?latitude__isnull=1")
    assert link.search(nowhere.text) is None
    empty = await ask(datasette, f"{EARTH}?latitude__isnull=1")
    assert "No image here has a latitude" in empty.text


async def test_a_part_of_the_earth_without_images(placed: Path) -> None:
    page = (await ask(datasette_of(placed), f"{EARTH}?format=PNG&_view=-10,0,10,10")).text
    assert "No image here has a latitude" not in page
    whole = re.search(r'No image in this part of the earth. <a href="([^"]*)">', page)[1]
    assert whole == f"{EARTH}?format=PNG"


async def test_words_that_only_texts_can_find(placed: Path) -> None:
    """The palette has no vector for them."""
    change(placed, "update images set title = 'harbour' where id = 5")
    (only,) = await cells_of(datasette_of(placed), "q=harbour&_by=text")
    assert only["url"] == "/-/image-search/photos/images/5"


async def test_its_form_keeps_what_it_has_no_field_for(placed: Path) -> None:
    asked = "_search=sea&_by=text&_limit=5&_sort=path&_view=-90,-180,90,180"
    page = (await ask(datasette_of(placed), f"{EARTH}?{asked}")).text
    kept = re.findall(r'<input type="hidden" name="(_\w+)" value="([^"]*)">', page)
    assert dict(kept) == {"_search": "sea", "_by": "text", "_limit": "5", "_sort": "path"}


async def test_a_long_search_is_not_repeated_for_each_place(
    placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(placed, "update images set latitude = id * 10, longitude = id * 20")
    datasette = datasette_of(placed)
    asked = "id__in=" + "%2C".join(map(str, range(1, 2_000)))
    cells = await ask(datasette, f"{EARTH}.json?{asked}")
    assert (len(cells.json()["cells"]), cells.text.count("1999")) == (8, 1)
    assert len(listed(await ask(datasette, f"{EARTH}?{asked}"))) == 8
    monkeypatch.setattr(geographic_map, "MOST_REPEATED", 3 * len(asked) + 100)
    page = await ask(datasette, f"{EARTH}?{asked}")
    assert (len(listed(page)), "These are the fullest places" in page.text) == (3, True)


async def test_tiles_only_if_they_are_configured(placed: Path) -> None:
    plain = (await ask(datasette_of(placed), EARTH)).text
    assert "data-tiles" not in plain
    assert "world-atlas/countries-110m.json" in plain
    tiles = {"url": "https://tiles.example/{z}/{x}/{y}.png", "attribution": "© <me>"}
    page = (await ask(datasette_of(placed, plugin={"tiles": tiles}), EARTH)).text
    assert f'data-tiles="{tiles["url"]}" data-attribution="© &lt;me&gt;"' in page
    assert not re.search(r'(?:src|href)="https?://(?!localhost|127)', plain.split("<footer")[0])


async def test_who_may_not_see_the_table_and_a_table_without_places(placed: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"allow": False}}}}}
    for path in (EARTH, f"{EARTH}.json"):
        assert (await ask(datasette_of(placed, rules=rules), path)).status_code == 404
    change(placed, "create view some as select id, root_id, path, filename from images")
    of_view = await ask(datasette_of(placed), "/-/image-search/photos/some/earth")
    assert (of_view.status_code, "no columns latitude" in of_view.text) == (400, True)
