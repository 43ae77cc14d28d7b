"""?_image_tag=, ?_image_keyword=, ?_image_album= and their facets on the table page, beside every other filter."""

from __future__ import annotations

import html
import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from datasette_image_search.store import find_index
from datasette_image_search.store.albums import add_to_album

from .commands import command
from .serving import datasette_of, get
from .test_xmp import xmp

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

RED, BLUE = "red.jpg", "blue.jpg"


@pytest.fixture
def tagged(database: Path) -> Path:
    labels = ("red", "green", "blue", "--template", "{}", "--top", "1")
    result = command("tag-images", database, "images", *labels)
    assert result.exit_code == 0, result.output
    db = Database(database)
    db["images"].add_column("camera", str)
    db.execute("update images set camera = iif(id % 2, 'Canon', 'Nikon')")
    db["images_tags"].insert_all({"image_id": id, "tag": 'a "b" & ü'} for id in range(1, 5))
    db.conn.commit()
    db.close()
    return database


def expected(database: Path, sql: str) -> list[int]:
    db = Database(database)
    rows = [id for (id,) in db.execute(f"select distinct id from images {sql} order by id")]
    db.close()
    return rows


async def ids(datasette: Datasette, query: str) -> list[int]:
    response = await get(datasette, f"/photos/images.json?_shape=array&{query}")
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()]


async def facet(datasette: Datasette, query: str) -> dict:
    response = await get(datasette, f"/photos/images.json?_extra=facet_results&{query}")
    results = response.json()["facet_results"]
    return results.get("results", results)["images_tags"]


JOIN = "join images_tags on image_id = id and tag = "


async def test_images_with_a_tag(tagged: Path):
    datasette = datasette_of(tagged)
    found = await ids(datasette, "_image_tag=blue")
    assert found == expected(tagged, f"{JOIN} 'blue'")
    assert 2 in found
    assert await ids(datasette, "_image_tag=no+such+tag") == []


async def test_beside_other_filters(tagged: Path):
    datasette = datasette_of(tagged)
    both = await ids(datasette, "_image_tag=blue&camera=Nikon&_where=id+%3C+7")
    assert both == expected(tagged, f"{JOIN} 'blue' where camera = 'Nikon' and id < 7")
    assert both
    either = "_image_tag=blue&_image_tag=a+%22b%22+%26+%C3%BC&_image_tag="
    two = await ids(datasette, f"{either}&camera=Nikon")
    assert two == expected(tagged, f"{JOIN} 'blue' or id < 5 where camera = 'Nikon'")
    assert set(two) > set(await ids(datasette, "_image_tag=blue&camera=Nikon"))
    assert await ids(datasette, "_image_tag=&camera=Nikon") == [2, 4, 6, 8]


async def test_a_search_among_the_images_with_a_tag(tagged: Path):
    datasette = datasette_of(tagged)
    found = await ids(datasette, "_image_search=red&_image_tag=blue&_image_search_k=3")
    assert len(found) == min(3, len(expected(tagged, f"{JOIN} 'blue'")))
    assert set(found) <= set(expected(tagged, f"{JOIN} 'blue'"))


async def test_tags_are_counted_and_a_link_filters_by_one(tagged: Path):
    datasette = datasette_of(tagged)
    counted = await facet(datasette, "_facet_tag=id&camera=Nikon")
    values = {value["value"]: value for value in counted["results"]}
    for tag, value in values.items():
        assert value["count"] == len(expected(tagged, f"""{JOIN} '{tag}' where camera = 'Nikon'"""))
        assert not value["selected"]
    assert [value["count"] for value in counted["results"]] == sorted(
        (value["count"] for value in counted["results"]), reverse=True
    )
    link = values['a "b" & ü']["toggle_url"]
    assert await ids(datasette, link.partition("?")[2]) == [2, 4]

    chosen = await facet(datasette, link.partition("?")[2])
    (selected,) = [value for value in chosen["results"] if value["selected"]]
    assert selected["value"] == 'a "b" & ü'
    assert "_image_tag" not in selected["toggle_url"]


async def test_a_tag_of_two_label_sets_is_one_image(tagged: Path):
    labels = ("blue", "yellow", "--template", "{}")
    assert command("tag-images", tagged, "images", *labels).exit_code == 0
    counted = await facet(datasette_of(tagged), "_facet_tag=id")
    counts = {value["value"]: value["count"] for value in counted["results"]}
    assert counts["blue"] == len(expected(tagged, f"{JOIN} 'blue'"))


async def test_the_page_suggests_shows_and_describes_it(tagged: Path):
    datasette = datasette_of(tagged)
    page = await get(datasette, "/photos/images")
    assert "_facet_tag=id" in page.text
    page = await get(datasette, "/photos/images?_facet_tag=id&_image_tag=blue")
    text = html.unescape(page.text)
    assert 'tagged "blue"' in text
    assert re.search(r"<strong>images_tags \(tag\)", text)
    # What the page itself adds by a form keeps the tag.
    assert '<input type="hidden" name="_image_tag" value="blue">' in text


async def test_facets_that_the_configuration_names(tagged: Path):
    tables = {"images": {"facets": [{"tag": "id"}]}}
    datasette = datasette_of(tagged, rules={"databases": {"photos": {"tables": tables}}})
    counted = await facet(datasette, "_size=1")
    assert counted["results"]
    assert not counted["hideable"]


async def test_the_table_of_tags_links_to_images_and_counts(tagged: Path):
    datasette = datasette_of(tagged)
    page = await get(datasette, "/photos/images_tags?_facet=tag&tag=blue")
    assert page.status_code == 200
    assert 'href="/-/image-search/photos/images/2"' in page.text


async def test_datasettes_own_filter_through_the_table(tagged: Path):
    through = json.dumps({"table": "images_tags", "column": "tag", "value": "blue"})
    datasette = datasette_of(tagged)
    response = await get(datasette, "/photos/images.json", _shape="array", _through=through)
    found = [row["id"] for row in response.json()]
    assert found == expected(tagged, f"{JOIN} 'blue'")


async def test_no_tags_is_a_sentence(database: Path):
    datasette = datasette_of(database)
    response = await get(datasette, "/photos/images.json?_image_tag=red")
    assert response.status_code == 400
    assert "'images' has no tags to filter by" in response.text
    response = await get(datasette, "/photos/image_search_roots?_image_tag=red")
    assert response.status_code == 400
    page = await get(datasette, "/photos/images?_facet_tag=id")
    assert page.status_code == 200
    assert "images_tags" not in page.text


async def test_who_may_not_see_the_tags_gets_none(tagged: Path):
    tables = {"images_tags": {"allow": {"id": "anna"}}}
    datasette = datasette_of(tagged, rules={"databases": {"photos": {"tables": tables}}})
    # As a table without tags answers.
    for actor, status in ((None, 400), ("bob", 400), ("anna", 200)):
        response = await get(datasette, "/photos/images.json?_image_tag=blue", actor)
        assert response.status_code == status
        page = await get(datasette, "/photos/images?_facet_tag=id", actor)
        assert page.status_code == 200
        assert ("images_tags (tag)" in page.text) == (actor == "anna")


# --- Keywords ------------------------------------------------------------------------------------


@pytest.fixture
def described(tagged: Path, folder: Path) -> Path:
    """Beside the tags, blue and red have the keyword "sea", and blue "a & b" too."""
    for name, keywords in (("blue", ("sea", "a &amp; b")), ("red", ("sea",))):
        items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
        text = xmp(f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>")
        (folder / f"{name}.xmp").write_text(text, encoding="utf-8")
    result = command("embed-images", tagged, "images", folder)
    assert result.exit_code == 0, result.output
    return tagged


async def test_images_with_a_keyword(described: Path):
    datasette = datasette_of(described)
    both = expected(described, "where path in ('blue.jpg', 'red.jpg')")
    assert await ids(datasette, "_image_keyword=sea") == both
    blue = expected(described, "where path = 'blue.jpg'")
    assert await ids(datasette, "_image_keyword=a+%26+b") == blue
    assert await ids(datasette, "_image_keyword=sea&_image_keyword=a+%26+b") == both
    assert await ids(datasette, "_image_keyword=sea&_image_tag=blue") == blue
    assert await ids(datasette, "_image_keyword=mountain") == []


async def test_several_are_chosen_together_and_the_others_keep_their_counts(described: Path):
    datasette, search = datasette_of(described), "/-/image-search/photos/images"
    query = "q=red&_image_keyword=a+%26+b&_facet_keyword=id&_facet_tag=id"
    answer = (await get(datasette, f"{search}.json?{query}")).json()
    facets = answer["facet_results"]["results"]
    counted = facets["images_keywords"]["results"]
    assert [(each["value"], each["count"], each["selected"]) for each in counted] == [
        ("sea", 2, False),
        ("a & b", 1, True),
    ]
    # What is chosen in one facet narrows down the others.
    assert sum(each["count"] for each in facets["images_tags"]["results"]) < 8
    page = html.unescape((await get(datasette, counted[0]["toggle_url"])).text)
    assert '2 images where with the keyword "a & b" or "sea"' in page
    assert page.count('aria-label="Remove the filter Keyword: a & b or sea"') == 1


async def test_keywords_are_counted_and_a_link_filters_by_one(described: Path):
    datasette = datasette_of(described)
    page = await get(datasette, "/photos/images")
    assert "_facet_keyword=id" in page.text
    query = "_facet_keyword=id&_facet_tag=id"
    response = await get(datasette, f"/photos/images.json?_extra=facet_results&{query}")
    results = response.json()["facet_results"]
    counted = results.get("results", results)["images_keywords"]
    assert [(value["value"], value["count"]) for value in counted["results"]] == [
        ("sea", 2),
        ("a & b", 1),
    ]
    link = counted["results"][1]["toggle_url"].partition("?")[2]
    assert await ids(datasette, link) == expected(described, "where path = 'blue.jpg'")


async def test_a_search_among_the_images_with_a_keyword(described: Path):
    datasette = datasette_of(described)
    page = "/-/image-search/photos/images.json"
    response = await get(datasette, f"{page}?q=red&_image_keyword=sea&_facet_keyword=id")
    assert len(response.json()["hits"]) == 2


async def test_a_table_without_keywords_says_where_they_come_from(tagged: Path):
    response = await get(datasette_of(tagged), "/photos/images.json?_image_keyword=sea")
    assert response.status_code == 400
    assert "has no keywords to filter by" in response.text


@pytest.fixture
def albums(database: Path) -> Path:
    with closing(Database(database)) as db:
        index = find_index(db.conn, "images")
        add_to_album(db, index, 'Best, of "all"', [1, 2, 3])
        add_to_album(db, index, "Beach", [3, 4])
    return database


async def test_an_album_is_a_filter_and_a_facet_on_both_pages(albums: Path):
    datasette = datasette_of(albums)
    assert await ids(datasette, "_image_album=Beach") == [3, 4]
    assert await ids(datasette, "_image_album=Beach&_image_album=Best%2C+of+%22all%22") == [
        1,
        2,
        3,
        4,
    ]
    assert await ids(datasette, "_image_album=none") == []
    extra = "/photos/images.json?_extra=facet_results&_facet_album=id&id__lt=4"
    results = (await get(datasette, extra)).json()["facet_results"]
    counted = results.get("results", results)["images_albums"]["results"]
    assert [(value["value"], value["count"]) for value in counted] == [
        ('Best, of "all"', 3), ("Beach", 1),
    ]  # fmt: skip
    page = html.unescape((await get(datasette, "/-/image-search/photos/images")).text)
    assert "<h3>Albums</h3>" in page
    (link,) = re.findall(r'href="([^"]*_image_album=Beach[^"]*)"', page)
    page = html.unescape((await get(datasette, link)).text)
    assert '2 images where album = "Beach"' in page
    assert 'aria-label="Remove the filter Album: Beach"' in page
    image = html.unescape((await get(datasette, "/-/image-search/photos/images/3")).text)
    assert re.search(r'Albums.*_image_album=Beach".*_image_album=Best', image, re.DOTALL)


@pytest.mark.parametrize("hidden", ["images_albums", "images_album_members", "images"])
async def test_albums_are_for_those_who_may_see_both_tables(albums: Path, hidden: str):
    tables = {hidden: {"allow": {"id": "anna"}}}
    datasette = datasette_of(albums, rules={"databases": {"photos": {"tables": tables}}})
    for actor, status in ((None, 404 if hidden == "images" else 400), ("anna", 200)):
        answer = await get(
            datasette, "/-/image-search/photos/images?_image_album=Beach", actor=actor
        )
        assert answer.status_code == status
        page = await get(datasette, "/-/image-search/photos/images", actor=actor)
        assert ("Beach" in page.text) == (actor == "anna")
        for table in ("images_albums", "images_album_members"):
            rows = await get(datasette, f"/photos/{table}", actor=actor)
            assert rows.status_code in ((403, 404) if actor is None else (200,))
