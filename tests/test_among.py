"""A set of images in a URL: how it is written, what is refused, and that every page takes it as a filter."""

from __future__ import annotations

import gc
import html
import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode, urljoin

import pytest
from datasette.utils import tilde_encode
from sqlite_utils import Database

from datasette_image_search.web.among import LARGEST, MOST, among_of, among_value
from datasette_image_search.web.urls import RequestError

from .commands import change, command
from .conftest import COLOURS
from .serving import PATIENT_SETTINGS, ask, datasette_of, pictures

pytestmark = pytest.mark.datasette

PAGE = "/-/image-search/photos/images"


@pytest.mark.parametrize(
    "keys",
    [
        [0],
        [1, 2, 3],
        [5, 1, 3, 2, 9],
        [LARGEST - 2, LARGEST - 1],
        list(range(MOST)),
        random.Random(1).sample(range(10**9), 500),
        ["a", "b.jpg", "[1]", "ä,\n"],
        [-3, 7],
        [2**53, 4],
    ],
)
@pytest.mark.parametrize("origin", ["", "map"])
def test_a_set_is_read_as_it_was_written(keys: list[int | str], origin: str) -> None:
    among = among_of(among_value(keys, origin))
    assert set(among.keys) == set(keys)
    assert len(among.keys) == len(keys)
    assert among.origin == origin


def test_a_set_is_short() -> None:
    assert among_value(range(1, 75), "map") == "map.CApC"
    few = random.Random(1).sample(range(100_000), 74)
    assert len(among_value(few)) < 3 * 74
    half = random.Random(1).sample(range(5_000), 2_500)
    assert len(among_value(half)) < 3_500


@pytest.mark.parametrize(
    "value",
    [
        "map.",
        ".",
        "other.B",
        "map.map.B",
        "B B",
        "é",
        "g",  # More of the number should follow.
        "A",  # A row of how many?
        "AA",
        "B" + "_" * 30 + "B",
        "[",
        "[]",
        "[1.5]",
        "[true]",
        "[null]",
        "[[1]]",
        "[9223372036854775808]",
        "[" * 60_000,
    ],
)
def test_what_is_no_set_is_refused(value: str) -> None:
    with pytest.raises(RequestError, match="_among cannot be read"):
        among_of(value)


def test_a_short_text_cannot_name_very_many() -> None:
    assert len(among_value(range(MOST), "map")) < 12
    for value in ("A" + "_" * 9 + "B", among_value(range(MOST)) + "AC"):
        with pytest.raises(RequestError, match="100,000 images"):
            among_of(value)
    with pytest.raises(ValueError, match="100,000 images"):
        among_value(range(MOST + 1))


@pytest.mark.asyncio
async def test_every_page_takes_it_as_a_filter(database: Path) -> None:
    datasette = datasette_of(database)
    among = "_among=" + among_value([2, 3, 5, 99], "map")
    page = await ask(datasette, f"{PAGE}?{among}&id__gt=2")
    assert "2 images from the map where id &gt; 2" in page.text
    assert "one of 4 images from the map" in page.text
    assert f'name="_among" value="{among_value([2, 3, 5, 99], "map")}"' in page.text
    found = (await ask(datasette, f"{PAGE}.json?{among}&q=red&_size=2&_facet=folder")).json()
    assert found["description"].startswith("None of 3 images from the map")
    assert len(found["hits"]) == 2
    rest = (await ask(datasette, f"{PAGE}.json?{among}&q=red&_size=2&_next=2")).json()
    assert sorted(hit["id"] for hit in found["hits"] + rest["hits"]) == [2, 3, 5]
    by_limit = await ask(datasette, f"{PAGE}.json?{among}&q=red&_min_score=-1")
    assert sorted(hit["id"] for hit in by_limit.json()["hits"]) == [2, 3, 5]
    points = (await ask(datasette, f"{PAGE}/map.json?{among}")).json()
    assert sorted(points["images"]["id"]) == [2, 3, 5]
    assert points["description"] == "3 images from the map"
    rows = await ask(datasette, f"/photos/images.json?{among}&_shape=array")
    assert [row["id"] for row in rows.json()] == [2, 3, 5]
    csv = await ask(datasette, f"{PAGE}.csv?{among}")
    assert len(csv.text.splitlines()) == 4
    table = await ask(datasette, f"/photos/images?{among}")
    assert "where id is one of 4 images from the map" in table.text


@pytest.mark.asyncio
async def test_what_cannot_be_read_is_told_on_every_page(database: Path) -> None:
    datasette = datasette_of(database)
    for page in (f"{PAGE}?_among=g", f"{PAGE}.json?_among=g", f"{PAGE}/map?_among=g"):
        answer = await ask(datasette, page)
        assert (answer.status_code, "_among cannot be read" in answer.text) == (400, True), page
    assert (await ask(datasette, "/photos/images?_among=g")).status_code == 400
    assert (await ask(datasette, f"{PAGE}?_among=B&_among=B")).status_code == 400
    assert (await ask(datasette, f"{PAGE}?_amnog=B")).status_code == 400
    roots = await ask(datasette, "/photos/image_search_roots?_among=B")
    assert (roots.status_code, "has no images" in roots.text) == (400, True)


@pytest.mark.asyncio
async def test_a_view_and_a_table_with_texts_as_keys(
    database: Path, folder: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("create view some as select * from images where id < 5")
    own = Database(tmp_path / "own.db")
    for colour in COLOURS[:3]:
        own["own"].insert({"key": f"{colour}/1", "file": str(folder / f"{colour}.jpg")}, pk="key")
    own.close()
    embedding = ("own", "--path-column", "file", "--model", "palette")
    assert command("embed-images", tmp_path / "own.db", *embedding).exit_code == 0
    datasette = datasette_of(database, tmp_path / "own.db")
    view = await ask(datasette, f"/-/image-search/photos/some.json?_among={among_value([3, 4, 6])}")
    assert sorted(hit["id"] for hit in view.json()["hits"]) == [3, 4]
    keys = [f"{colour}/1" for colour in COLOURS[:2]]
    answer = await ask(datasette, f"/-/image-search/own/own.json?_among={among_value(keys)}")
    assert sorted(hit["id"] for hit in answer.json()["hits"]) == sorted(keys)


@pytest.mark.asyncio
@pytest.mark.parametrize("refused", ["_through=x", "_where=1", "_where=1&_tag=a"])
async def test_a_filter_beside_it_that_is_refused_leaves_nothing_unfinished(
    database: Path, refused: str, recwarn: pytest.WarningsRecorder
) -> None:
    datasette = datasette_of(database, rules={"databases": {"photos": {"allow_sql": False}}})
    assert (await ask(datasette, f"{PAGE}?_among=B&{refused}")).status_code in (400, 403)
    gc.collect()
    assert [str(each.message) for each in recwarn if "never awaited" in str(each.message)] == []


@pytest.fixture
def many(database: Path) -> tuple[Path, str]:
    """A table with more rows, and a set of them that is too long for a query string."""
    change(
        database,
        "with recursive n(i) as (select 10 union all select i + 1 from n where i < 5000) "
        "insert into images (id, root_id, path, folder, filename, taken_at) "
        "select i, 1, i || '.jpg', 'f' || (i % 20), i || '.jpg', '2020-01-01' from n",
    )
    return database, among_value(random.Random(1).sample(range(10, 5000), 1_000), "map")


@pytest.mark.asyncio
@pytest.mark.parametrize("base_url", ["/", "/mine/"])
async def test_pages_of_a_long_set_have_it_in_their_path_and_do_not_repeat_it(
    many: tuple[Path, str], base_url: str
) -> None:
    database, among = many
    datasette = datasette_of(database, settings={**PATIENT_SETTINGS, "base_url": base_url})
    begin = f"{PAGE}?{urlencode({'_among': among, '_sort': 'id'})}"
    moved = await ask(datasette, begin)
    assert moved.status_code == 302
    url = moved.headers["location"]
    assert url == f"{base_url[:-1]}{PAGE}/among/{tilde_encode(among)}/?_sort=id"
    page = await ask(datasette, url.removeprefix(base_url[:-1]))
    assert "1,000 images from the map" in page.text
    assert len(page.text) < 150_000
    assert len(pictures(page)) == 60

    def linked(pattern: str, where: str) -> str:
        return urljoin(where, html.unescape(re.search(f'href="({pattern})"', page.text)[1]))

    place = url.partition("?")[0]
    # A card, "more like this", a facet and the next page: all are of the same set.
    for pattern, follows in (
        (r"\./\d+\?[^\"]*", r"\d+\?_sort=id&_position=1"),
        (r"[^\"]*q=[^\"]*", r"\?q=%23\d+&_sort=id"),
        (r"[^\"]*folder=[^\"]*", r"\?_sort=id&folder=f\d+"),
        (r"[^\"]*_next=60", r"\?_sort=id&_next=60"),
    ):
        found = linked(pattern, url)
        assert re.fullmatch(re.escape(place) + follows, found)
    image = await ask(datasette, linked(r"\./\d+\?[^\"]*", url).removeprefix(base_url[:-1]))
    assert image.status_code == 200
    following, back = (
        urljoin(place, html.unescape(link))
        for link in re.findall(
            r'href="(\./[^"]*(?:_position=2|_sort=id#image-[^"]*))"', image.text
        )[::-1]
    )
    assert following.startswith(place)
    assert back.startswith(f"{place}?_sort=id#image-")
    of_image = f"{PAGE}/10?{urlencode({'_among': among})}"
    assert (await ask(datasette, of_image)).headers["location"] == f"{place}10"
    data = (await ask(datasette, begin.replace("?", ".json?"))).json()
    assert data["count"] == 1_000


@pytest.mark.asyncio
async def test_a_set_in_a_path_that_cannot_be_read_is_told(database: Path) -> None:
    answer = await ask(datasette_of(database), f"{PAGE}/among/{'~21' * 10}/")
    assert answer.status_code == 400
    assert "_among cannot be read" in answer.text
