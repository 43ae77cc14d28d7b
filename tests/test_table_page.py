"""?_image_search= on the table page: filter first, then rank; HTML shows the closest first."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from datasette import hookimpl
from datasette.app import Datasette
from datasette.filters import FilterArguments
from datasette.plugins import pm
from sqlite_utils import Database

from .conftest import COLOURS, draw_picture, embed_into
from .serving import datasette_of, get, pictures

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

ROWS = "/photos/images.json"


def words(page: httpx.Response) -> str:
    """The text of a page, without tags."""
    return " ".join(re.sub("<[^>]*>", "", page.text).split())


async def ids(datasette, **params) -> list[int]:
    response = await get(datasette, ROWS, _shape="array", **params)
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()]


@pytest.fixture(scope="module")
def many_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied for each test: photos.db and its sidecar."""
    place = tmp_path_factory.mktemp("many")
    for number in range(40):
        draw_picture(place / "many" / "near" / f"{number:02}.png", f"rgb({255 - number},0,0)")
        draw_picture(place / "many" / "far" / f"{number:02}.png", f"rgb(0,0,{255 - number})")
    path = embed_into(place / "photos.db", "images", place / "many")
    db = Database(path)
    with db.conn:
        db["images"].add_column("number", int)
        db["images"].add_column("note", str)
        db["images"].add_column("tags", str)
        db.execute("update images set number = cast(filename as integer)")
        db.execute("update images set note = 'seen ' || folder, tags = json_array(folder)")
    db["images"].enable_fts(["note"])
    db["albums"].insert_all(
        [{"album": "holiday", "image_id": i} for i in range(1, 6)],
        foreign_keys=[("image_id", "images", "id")],
    )
    db.close()
    return place


@pytest.fixture
def many(many_once: Path, tmp_path: Path) -> Path:
    """80 pictures: 40 shades of red in `near`, and in `far` 40 of blue, each with a number and a note."""
    for file in many_once.glob("photos.db*"):
        shutil.copy2(file, tmp_path)
    return tmp_path / "photos.db"


@pytest.mark.asyncio(loop_scope="module")
async def test_html_shows_the_closest_first_with_pictures_and_scores(of_colours: Datasette) -> None:
    page = await get(of_colours, "/photos/images", _image_search="red")
    assert page.status_code == 200
    assert len(pictures(page)) == 8
    assert pictures(page)[0] == "red.jpg"
    scores = [float(text) for text in re.findall(r'similarity">(-?[\d.]+)<', page.text)]
    assert len(scores) == 8
    assert scores == sorted(scores, reverse=True)
    assert "8 rows closest to &#34;red&#34;" in words(page)
    page = await get(of_colours, "/photos/images", _image_search="red", id__gt=3)
    assert "5 rows where id &gt; 3, closest to &#34;red&#34;" in words(page)
    page = await get(of_colours, "/photos/images", _image_search="red", id__gt=3, _sort="path")
    described = "5 rows where image is among the 5 closest to &#34;red&#34; and id &gt; 3 sorted by"
    assert described in words(page)


@pytest.mark.asyncio(loop_scope="module")
async def test_json_and_csv_have_the_same_rows_in_the_order_of_the_key(
    of_colours: Datasette,
) -> None:
    closest = await ids(of_colours, _image_search="red", _image_search_k=3)
    assert len(closest) == 3
    assert closest == sorted(closest)
    rows = await get(
        of_colours, "/photos/images.csv", _image_search="red", _image_search_k=3, _size="max"
    )
    assert [int(row["id"]) for row in csv.DictReader(io.StringIO(rows.text))] == closest
    page = await get(of_colours, "/photos/images", _image_search="red", _image_search_k=3)
    assert set(pictures(page)) == {f"{sorted(COLOURS)[id - 1]}.jpg" for id in closest}


@pytest.mark.parametrize(
    "filters",
    [
        {"folder": "far"},
        {"folder__contains": "fa", "number__lt": "35"},
        {"_where": "folder = 'far'"},
        {"_where": "folder = 'none' or folder = 'far'"},
        {"_where": "folder = 'far' -- and nothing else"},
        {"_search": "far"},
        {"_search_note": "far"},
        {"tags__arraycontains": "far"},
    ],
    ids=str,
)
async def test_filter_first_then_rank_never_comes_back_short(many: Path, filters) -> None:
    """The 30 best of the whole table are all in `near`."""
    datasette = datasette_of(many)
    found = await ids(datasette, _image_search="red", _image_search_k=30, **filters)
    assert len(found) == 30
    assert set(found) <= set(await ids(datasette, **filters, _size="max"))


async def test_through_another_table(many: Path) -> None:
    through = json.dumps({"table": "albums", "column": "album", "value": "holiday"})
    found = await ids(datasette_of(many), _image_search="red", _through=through)
    assert found == [1, 2, 3, 4, 5]


@pytest.fixture
def only_odd() -> Iterator[None]:
    """Another plugin, with a filter of its own that needs to be awaited."""

    class OnlyOdd:
        __name__ = "OnlyOdd"

        @hookimpl
        def filters_from_request(self, request, table):
            async def inner():
                return FilterArguments(
                    ["number % :odd_two = 1 or number = -1"], {"odd_two": 2}, ["odd numbers"]
                )

            return inner if "_odd" in request.args else None

    plugin = OnlyOdd()
    pm.register(plugin)
    yield
    pm.unregister(plugin)


@pytest.mark.usefixtures("only_odd")
async def test_filters_of_other_plugins_come_first_too(many: Path) -> None:
    datasette = datasette_of(many)
    found = await ids(datasette, _image_search="red", _image_search_k=20, folder="far", _odd=1)
    assert len(found) == 20
    page = await get(datasette, "/photos/images", _image_search="red", _odd=1)
    assert "where odd numbers, closest to &#34;red&#34;" in page.text


async def test_facets_count_the_hits(many: Path) -> None:
    response = await get(
        datasette_of(many), ROWS, _image_search="red", _image_search_k=50, _facet="folder"
    )
    facets = response.json()["facet_results"]
    results = facets.get("results", facets)["folder"]["results"]
    assert [(result["value"], result["count"]) for result in results] == [("near", 40), ("far", 10)]


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({}, 80),
        ({"_size": "7"}, 7),
        ({"_size": "max"}, 80),
        ({"_image_search_k": "12"}, 12),
        ({"_image_search_k": "12", "_size": "5"}, 5),
        ({"_image_search_k": "500", "_size": "max"}, 80),
    ],
    ids=str,
)
async def test_hits_never_need_a_second_page(many: Path, params, count: int) -> None:
    response = await get(datasette_of(many), ROWS, _image_search="red", **params)
    assert len(response.json()["rows"]) == count
    assert response.json()["next"] is None


async def test_the_default_is_the_page_size_of_the_table(many: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"size": 9}}}}}
    assert len(await ids(datasette_of(many, rules=rules), _image_search="red")) == 9


async def test_no_rows_but_their_number(many: Path) -> None:
    response = await get(
        datasette_of(many), ROWS, _image_search="red", _size=0, _extra="count", folder="far"
    )
    data = response.json()
    assert data.get("count", data.get("filtered_table_rows_count")) == 40


@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_that_is_asked_for_is_kept(of_colours: Datasette) -> None:
    page = await get(of_colours, "/photos/images", _image_search="red", _sort_desc="path")
    assert pictures(page) == sorted((f"{colour}.jpg" for colour in COLOURS), reverse=True)
    assert "sorted by path descending" in page.text


async def test_an_order_that_is_only_configured_gives_way(database: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"sort_desc": "path"}}}}}
    datasette = datasette_of(database, rules=rules)
    page = await get(datasette, "/photos/images", _image_search="red")
    assert pictures(page)[0] == "red.jpg"
    assert "sorted by" not in page.text
    assert pictures(await get(datasette, "/photos/images"))[0] == "yellow.jpg"


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"_image_search": "sports car"}, "palette does not know 'sports car'"),
        ({"_image_search": "#99"}, "there is no image #99"),
        ({"_image_search": "red", "_image_search_k": "many"}, "must be a whole number above 0"),
        ({"_image_search": "red", "_image_search_k": "0"}, "must be a whole number above 0"),
        ({"_image_search": "red", "_where": "nope = 1"}, "no such column: nope"),
        ({"_image_search": "red", "_size": "-1"}, "_size must be a positive integer"),
        ({"_image_search": "red", "_through": '{"table": "x", "column": "y", "value": 1}'}, ""),
    ],
    ids=str,
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_wrong_is_one_sentence(of_colours: Datasette, params, sentence) -> None:
    for extension in ("", ".json", ".csv"):
        response = await get(of_colours, "/photos/images" + extension, **params)
        if "_through" in params:
            # As core answers it without a search.
            asked = {name: value for name, value in params.items() if name != "_image_search"}
            core = await get(of_colours, "/photos/images" + extension, **asked)
            assert response.status_code == core.status_code
        else:
            assert response.status_code == 400
            assert sentence in response.text.replace("&#39;", "'")


async def test_a_table_without_images_says_so(database: Path) -> None:
    Database(database)["plain"].insert({"id": 1}, pk="id")
    response = await get(datasette_of(database), "/photos/plain.json", _image_search="red")
    assert response.status_code == 400
    assert "'plain' is not an image table" in response.text


async def test_where_is_as_forbidden_as_without_a_search(database: Path) -> None:
    rules = {"databases": {"photos": {"allow_sql": {"id": "anna"}}}}
    path = "/photos/images?_image_search=red&_where=id=1"
    assert (await get(datasette_of(database, rules=rules), path)).status_code == 403
    assert (await get(datasette_of(database, rules=rules), path, actor="anna")).status_code == 200


async def test_a_slow_filter_ends_at_the_time_limit(many: Path) -> None:
    slow = "(with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n)"
    datasette = datasette_of(many, settings={"sql_time_limit_ms": 500})
    response = await get(datasette, ROWS, _image_search="red", _where=slow)
    assert response.status_code == 400
    assert "took more than the 500 ms that sql_time_limit_ms allows" in response.text


@pytest.mark.asyncio(loop_scope="module")
async def test_warnings_stand_above_the_rows(of_colours: Datasette) -> None:
    page = await get(of_colours, "/photos/images", _image_search="red sports car")
    assert re.search(r'role="status">[^<]*sports car', page.text)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_search_box_keeps_filters_and_leaves_order_and_page(
    of_colours: Datasette,
) -> None:
    page = await get(
        of_colours,
        "/photos/images?format=JPEG&_facet=format&_sort=path&_next=red.jpg,1",
    )
    box = re.search(r'<form class="core image-search-box".*?</form>', page.text, re.DOTALL)[0]
    hidden = re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', box)
    assert hidden == [("format", "JPEG"), ("_facet", "format")]
    assert 'action="/photos/images"' in box


async def test_other_tables_have_no_search_box(database: Path) -> None:
    Database(database)["plain"].insert({"id": 1, "path": "red.jpg"}, pk="id")
    page = await get(datasette_of(database), "/photos/plain")
    assert "image-search-box" not in page.text
    assert "image-search-tables.css" not in page.text


async def test_a_table_template_of_ones_own_still_shows_the_rows(tmp_path, database) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "_table-photos-images.html").write_text(
        "{% for row in display_rows %}[{{ row.display('path') }}]{% endfor %}"
    )
    datasette = datasette_of(database, template_dir=str(templates))
    page = await get(datasette, "/photos/images", _image_search="red", _image_search_k=2)
    assert re.search(r"\[<a [^\]]*red\.jpg", page.text)


async def test_a_person_s_own_table_with_text_keys(tmp_path: Path) -> None:
    from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

    path = tmp_path / "photos.db"
    for colour in COLOURS:
        draw_picture(tmp_path / f"{colour}.png", colour)
    db = Database(path)
    db["things"].insert_all(
        ({"code": f"{colour}/1 a", "file": f"{colour}.png"} for colour in COLOURS), pk="code"
    )
    db.close()
    embed_images(EmbedRequest(path, "things", (), model="palette", path_column="file"))
    page = await get(datasette_of(path), "/photos/things", _image_search="red", _image_search_k=3)
    assert pictures(page)[0] == "red.png"
    assert len(pictures(page)) == 3


@pytest.mark.asyncio(loop_scope="module")
async def test_the_sql_of_a_search_can_be_run_as_it_is(of_colours: Datasette) -> None:
    page = await get(of_colours, "/photos/images", _image_search="red", _image_search_k=3)
    link = html.unescape(re.search(r'title="select [^>]*href="([^"]*)"', page.text)[1])
    response = await get(of_colours, link)
    while response.status_code == 302:
        response = await get(of_colours, response.headers["location"])
    assert response.status_code == 200
    assert set(pictures(response)) == set(pictures(page))


@pytest.mark.parametrize("kept", [True, False], ids=["kept by the proxy", "taken off by it"])
async def test_a_base_url_is_before_each_of_our_links_once(database: Path, kept: bool) -> None:
    """Some proxies pass the prefix on with the path, others do not."""
    datasette = datasette_of(database, settings={"base_url": "/prefix/"})
    await datasette.invoke_startup()
    for path, ours in {
        "/photos/images?_image_search=red&_size=3": r'href="([^"]*)">(?:Clear|Search page)',
        "/photos/images.images?_image_search=red&_size=3": r'href="([^"]*)">as a table',
        "/photos/images.json?_facet_year=mtime&_extra=facet_results": r'"toggle_url": ?"([^"]*mtime__gte[^"]*)"',
        "/-/image-search/photos/images?q=red&_facet=format": r'(?:href|src|action)="(/[^"]*)"',
        "/-/image-search/photos/images/map?q=red": r'(?:href|src|action|data-\w+)="(/[^"]*)"',
    }.items():
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=datasette.app()), base_url="http://localhost"
        )
        async with client:
            response = await client.get(f"/prefix{path}" if kept else path)
        assert response.status_code == 200
        links = [link.removeprefix("http://localhost") for link in re.findall(ours, response.text)]
        assert links
        for link in links:
            assert link.startswith("/prefix/")
            assert "/prefix/prefix/" not in link


async def test_the_box_stands_once_above_the_facets(database: Path, tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    box, facets = 'id="image-search-box"', 'class="facet-results"'
    for own in (
        "",
        '{% extends "default:table.html" %}{% block description_source_license %}{% endblock %}',
    ):
        if own:
            (templates / "table-photos-images.html").write_text(own)
        datasette = datasette_of(database, template_dir=str(templates))
        page = await get(datasette, "/photos/images", _facet="filename", _image_search="red")
        assert page.text.count(box) == 1
        if not own:
            assert page.text.index(box) < page.text.index(facets)
    assert box not in (await get(datasette, "/photos/image_search_roots")).text
