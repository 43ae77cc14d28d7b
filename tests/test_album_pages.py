"""The page of albums and the changes of them, for those who may make them, on both versions of Datasette."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from datasette_image_search.search import plan
from datasette_image_search.store import Key, find_index
from datasette_image_search.store.albums import add_to_album
from datasette_image_search.web.access.requested_table import RequestedTable
from datasette_image_search.web.pages import album_changes

from .commands import change, query
from .serving import ask, datasette_of, get

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

PAGE = "/-/image-search/photos/images"
ALBUMS = f"{PAGE}/albums"
WRITES = ("insert-row", "update-row", "delete-row", "create-table")


def served(
    *databases: Path, allowed: Sequence[str] = WRITES, tables: dict | None = None, **options
) -> Datasette:
    """Root may do what is allowed; 0.65 has one permission for all of it."""
    permissions = {action: {"id": "root"} for action in allowed}
    rules = {"databases": {"photos": {"permissions": permissions, "tables": tables or {}}}}
    return datasette_of(*databases, rules=rules, **options)


async def post(
    datasette: Datasette, search: str = "", actor: str | None = "root", **form: str
) -> httpx.Response:
    await datasette.invoke_startup()
    return await ask(
        datasette,
        f"{ALBUMS}?{search}" if search else ALBUMS,
        actor,
        "POST",
        urlencode(form),
        content_type="application/x-www-form-urlencoded",
        accept="application/json",
    )


def members(database: Path) -> dict[str, list[int]]:
    sql = (
        "select name, image_id from images_albums left join images_album_members on album_id = id "
        "order by name, image_id"
    )
    found: dict[str, list[int]] = {}
    for name, id in query(database, sql):
        found.setdefault(name, []).extend([] if id is None else [id])
    return found


@pytest.fixture
def albums(database: Path) -> Path:
    with closing(Database(database)) as db:
        add_to_album(db, find_index(db.conn, "images"), "Beach & sea", [3, 4])
    return database


async def test_an_album_from_the_first_image_to_its_end(database: Path):
    datasette = served(database)
    added = (await post(datasette, "id__lte=3", action="add", album=" Beach ")).json()
    url = f"{PAGE}?_image_album=Beach"
    undo = {"action": "remove", "album": "Beach", "search": "_among=CAC", "undo": "new"}
    assert added == {
        "ok": True, "album": "Beach", "images": 3, "changed": 3, "undo": undo, "url": url
    }  # fmt: skip
    assert (await get(datasette, url)).status_code == 200
    more = (await post(datasette, "id__in=3,4&_sort=id", action="add", album="Beach")).json()
    assert (more["images"], more["changed"]) == (4, 1)
    less = (await post(datasette, "_among=[1,2]", action="remove", album="Beach")).json()
    assert (less["images"], less["changed"]) == (2, 2)
    assert members(database) == {"Beach": [3, 4]}
    renamed = (await post(datasette, action="rename", album="Beach", name=" Sea ")).json()
    assert renamed["album"] == "Sea"
    assert (await post(datasette, action="create", album="Empty")).json()["images"] == 0
    assert members(database) == {"Empty": [], "Sea": [3, 4]}
    deleted = (await post(datasette, action="delete", album="Sea")).json()
    assert (deleted["images"], deleted["changed"]) == (None, 2)
    assert members(database) == {"Empty": []}


async def test_images_are_those_of_the_whole_search_not_of_a_page(database: Path):
    datasette = served(database)
    for search, count in (
        ("id__gt=1&_size=2", 7),
        ("q=red&_limit=3", 3),
        ("q=red&_min_score=-1", 8),
        ("q=red&_sort=id", 1),
        ("_limit=2", 2),
    ):
        answer = (await post(datasette, search, action="add", album=search)).json()
        assert answer.get("changed") == count, (search, answer)


@pytest.mark.parametrize(
    ("search", "form", "sentence"),
    [
        ("q=red", {"action": "add", "album": "A"}, "puts all images in an order"),
        ("", {"action": "add", "album": "A"}, "the URL names no images"),
        ("id=1", {"action": "add", "album": " "}, "the name of an album is empty"),
        ("id=1", {"action": "remove", "album": "A"}, "has no album 'A'"),
        ("", {"action": "rename", "album": "Beach & sea", "name": ""}, "is empty"),
        ("", {"action": "create", "album": "Beach & sea"}, "an album 'Beach & sea' already"),
        ("", {"action": "drop", "album": "Beach & sea"}, "action must be one of"),
        ("nix=1", {"action": "add", "album": "A"}, "no column 'nix'"),
    ],
)
async def test_mistakes_are_one_sentence_and_change_nothing(
    albums: Path, search: str, form: dict, sentence: str
):
    answer = await post(served(albums), search, **form)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert members(albums) == {"Beach & sea": [3, 4]}


@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        ("application/x-www-form-urlencoded", b"action=add&album=\xff", "not in UTF-8"),
        ("application/json", b'{"action": "add", "album": "A"}', "send it as a form"),
        ("multipart/form-data; boundary=x", b"--x--", "send it as a form"),
        ("application/x-www-form-urlencoded", b"action=add&album=A&search=%C3%A9", "no query"),
    ],
)
async def test_a_body_that_is_no_form_is_a_sentence(
    albums: Path, kind: str, body: bytes, sentence: str
):
    datasette = served(albums)
    await datasette.invoke_startup()
    sent = (datasette, f"{ALBUMS}?id=1", "root", "POST", body)
    answer = await ask(*sent, content_type=kind, accept="application/json")
    assert (answer.status_code, answer.json()["ok"]) == (400, False)
    assert sentence in answer.json()["error"]
    assert members(albums) == {"Beach & sea": [3, 4]}


async def test_a_set_may_be_longer_than_a_url(albums: Path):
    datasette = served(albums)
    await datasette.invoke_startup()
    long = f"_among={json.dumps([1, 2, *['x' * 100] * 1_000])}"
    for search, status, there in ((long, 200, [1, 2, 3, 4]), ("", 400, [1, 2, 3, 4])):
        form = urlencode({"action": "add", "album": "Beach & sea", "search": search})
        kinds = {"content_type": "application/x-www-form-urlencoded", "accept": "application/json"}
        answer = await ask(datasette, ALBUMS, "root", "POST", form, **kinds)
        assert answer.status_code == status, answer.text
        assert members(albums) == {"Beach & sea": there}


async def test_a_program_gets_errors_in_json(albums: Path, monkeypatch: pytest.MonkeyPatch):
    def locked(*_, **__):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(album_changes, "add_to_album", locked)
    datasette = served(albums, tables={"images": {"allow": {"id": ["root", "anna"]}}})
    for actor, status, sentence in (
        ("root", 503, "another program is writing"),
        ("bert", 404, "There is no image table"),
    ):
        answer = await post(datasette, "id=1", actor, action="add", album="Beach & sea")
        assert (answer.status_code, answer.json()["ok"]) == (status, False)
        assert sentence in answer.json()["error"]


async def test_three_actors(albums: Path):
    datasette = served(albums, tables={"images": {"allow": {"id": ["root", "anna"]}}})
    for actor, status, may in ((None, 404, False), ("anna", 200, False), ("root", 200, True)):
        page = await get(datasette, ALBUMS, actor)
        assert page.status_code == status
        assert ("Beach" in page.text) == (status == 200)
        assert ("<form" in page.text.partition("<main>")[2]) == may
        data = await get(datasette, f"{ALBUMS}.json", actor)
        assert data.status_code == status
        if status == 200:
            assert data.json()["may"] == dict.fromkeys(("add", "create", "remove"), may)
            assert [album["name"] for album in data.json()["albums"]] == ["Beach & sea"]
        short = await get(datasette, f"{PAGE}/album/1", actor)
        assert short.status_code == (302 if status == 200 else 404)
        for form in (
            {"action": "add", "album": "Beach & sea"},
            {"action": "delete", "album": "Beach & sea"},
            {"action": "rename", "album": "Nobody has this", "name": "x"},
        ):
            if not may:
                answer = await post(datasette, "id=1", actor, **form)
                assert answer.status_code == (403 if status == 200 else 404)
                assert "Beach" not in answer.text
    assert members(albums) == {"Beach & sea": [3, 4]}
    assert (await post(datasette, "id=1", action="add", album="Beach & sea")).json()["images"] == 3


async def test_each_change_needs_its_own_permission_in_1_0(albums: Path):
    datasette = served(albums, allowed=["insert-row"])
    if not hasattr(datasette, "allowed"):
        pytest.skip("0.65 has one permission for all")
    assert (await post(datasette, "id=1", action="add", album="Beach & sea")).status_code == 200
    for form in ({"action": "remove"}, {"action": "rename", "name": "x"}, {"action": "delete"}):
        answer = await post(datasette, "id=1", album="Beach & sea", **form)
        assert answer.status_code == 403
        assert re.match(r"you may not \w+ (images|albums) here; sign in", answer.json()["error"])
    change(albums, "drop table images_album_members", "drop table images_albums")
    assert (await post(datasette, "id=1", action="add", album="New")).status_code == 403


async def test_nobody_changes_an_immutable_database(albums: Path):
    datasette = served(immutables=[str(albums)])
    for actor in (None, "root"):
        page = await get(datasette, ALBUMS, actor)
        assert "Beach &amp; sea" in page.text
        assert "<form" not in page.text.partition("<main>")[2]
        assert (await post(datasette, "id=1", actor, action="add", album="A")).status_code == 403


@pytest.mark.parametrize("hidden", ["images_albums", "images_album_members"])
async def test_an_actor_who_may_not_see_the_albums_learns_nothing(albums: Path, hidden: str):
    datasette = served(albums, tables={hidden: {"allow": {"id": "anna"}}})
    for path in (ALBUMS, f"{ALBUMS}.json", PAGE):
        assert "Beach" not in (await get(datasette, path, "bert")).text
    assert (await get(datasette, f"{PAGE}/album/1", "bert")).status_code == 404
    through = {"table": "images_album_members", "column": "album_id", "value": "1"}
    for path in (
        "/photos/images_albums",
        "/photos/images_albums.json",
        "/photos/images_albums/1",
        "/photos/images_album_members",
        "/photos/images_album_members/1,3.json",
        f"/photos/images.json?{urlencode({'_through': json.dumps(through)})}",
    ):
        assert (await get(datasette, path, "bert")).status_code in (400, 403), path
        assert (await get(datasette, path, "anna")).status_code == 200, path
    for path in ("/", "/photos"):
        assert "/photos/images_album" not in (await get(datasette, path, "bert")).text


async def test_a_post_from_another_site_is_refused(albums: Path):
    datasette = served(albums)
    await datasette.invoke_startup()
    cookies = {
        "ds_actor": datasette.sign({"a": {"id": "root"}}, "actor"),
        "ds_csrftoken": datasette.sign("any secret", "csrftoken"),
    }
    headers = {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"}
    form = {"action": "delete", "album": "Beach & sea"}
    answer = await datasette.client.post(ALBUMS, data=form, cookies=cookies, headers=headers)
    assert answer.status_code == 403
    assert members(albums) == {"Beach & sea": [3, 4]}


async def test_the_page_works_without_javascript(albums: Path):
    datasette = served(albums, settings={"base_url": "/photos-of-mine/"})
    path = f"/photos-of-mine{ALBUMS}"
    page = html.unescape((await get(datasette, ALBUMS, "root")).text)
    assert re.search(
        r'<a class="image-albums-cover" href="/photos-of-mine/-/image-search/photos/images\?_image_album=Beach\+%26\+sea"><img src="/photos-of-mine/',
        page,
    )
    assert f'action="{path}" method="post"' in page
    token = re.search(r'name="csrftoken" value="(.+?)"', page)[1]
    cookies = {
        "ds_actor": datasette.sign({"a": {"id": "root"}}, "actor"),
        "ds_csrftoken": token,
    }
    form = {"csrftoken": token, "action": "rename", "album": "Beach & sea", "name": "Sea"}
    answer = await datasette.client.post(ALBUMS, data=form, cookies=cookies)
    assert (answer.status_code, answer.headers["location"]) == (302, path)
    assert members(albums) == {"Sea": [3, 4]}
    wrong = await datasette.client.post(ALBUMS, data={**form, "album": "nix"}, cookies=cookies)
    assert wrong.status_code == 400
    assert "has no album &#39;nix&#39;" in wrong.text


async def test_a_person_without_albums_is_told_how_to_make_some(database: Path):
    page = (await get(served(database), ALBUMS)).text
    assert "There are no albums yet" in page
    assert "sqlite-utils album-images" in page
    missing = await get(served(database), f"{PAGE}/album/1")
    assert missing.status_code == 404
    assert f'There is no album 1. <a href="{ALBUMS}">All albums</a>' in missing.text


@pytest.mark.parametrize("taken", ["images_albums", "images_album_members"])
async def test_a_table_that_is_in_the_way_is_named(database: Path, taken: str):
    change(database, f"create table {taken} (mine)")
    page = (await get(served(database), ALBUMS, "root")).text
    assert f"a table <code>{taken}</code> that holds something else is here: rename it" in page
    assert "sqlite-utils album-images" not in page
    assert "<form" not in page.partition("<main>")[2]


async def test_an_album_that_is_renamed_meanwhile_is_not_made_again(
    albums: Path, monkeypatch: pytest.MonkeyPatch
):
    async def slowly(requested: RequestedTable) -> list[Key]:
        change(albums, "update images_albums set name = 'Other'")
        return [1]

    monkeypatch.setattr(album_changes, "found_ids", slowly)
    tables = {"images_album_members": {"permissions": {"insert-row": {"id": "root"}}}}
    datasette = served(albums, allowed=[], tables=tables)
    if not hasattr(datasette, "allowed"):
        pytest.skip("0.65 has one permission for all")
    answer = await post(datasette, "id=1", action="add", album="Beach & sea")
    assert answer.status_code == 400
    assert "has no album 'Beach & sea'" in answer.json()["error"]
    assert members(albums) == {"Other": [3, 4]}


async def test_a_view_has_the_albums_of_its_images(albums: Path):
    change(albums, "create view few as select * from images where id < 4")
    datasette = served(albums)
    page = html.unescape((await get(datasette, "/-/image-search/photos/few/albums")).text)
    assert "/-/image-search/photos/few?_image_album=Beach" in page
    of_view = "/-/image-search/photos/few/albums?_matches_only=0"
    form = urlencode({"action": "add", "album": "All of the view"})
    kind = "application/x-www-form-urlencoded"
    added = await ask(datasette, of_view, "root", "POST", form, content_type=kind)
    assert added.status_code == 200
    assert members(albums)["All of the view"] == [1, 2, 3]
    shown = html.unescape((await get(datasette, "/-/image-search/photos/few/albums")).text)
    assert re.findall(r"<span>(\d) image", shown) == ["3", "1"]
    assert re.findall(r'<img src="[^"]*/(\d)/thumbnail', shown) == ["3", "3"]
    search = "/-/image-search/photos/few.json?_image_album=Beach+%26+sea"
    assert [hit["id"] for hit in (await get(datasette, search)).json()["hits"]] == [3]


async def submit(datasette: Datasette, form: dict[str, str], actor: str = "root") -> httpx.Response:
    """As a browser without scripts does."""
    kind = "application/x-www-form-urlencoded"
    return await ask(datasette, ALBUMS, actor, "POST", urlencode(form), content_type=kind)


def form_on(page: httpx.Response, having: str) -> dict[str, str]:
    """The fields of the first form with a button or a field of this name and value."""
    for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
        fields = re.findall(r'<(?:input|button)[^>]* name="([^"]*)" value="([^"]*)"', form)
        pairs = {name: html.unescape(value) for name, value in fields}
        if re.search(having, form):
            return {name: value for name, value in pairs.items() if name != "csrftoken"}
    raise AssertionError(f"no form with {having}")


async def test_a_page_of_results_puts_all_it_finds_into_an_album_and_undoes_exactly_that(
    albums: Path,
):
    datasette = served(albums)
    page = await get(datasette, f"{PAGE}?id__lte=4&_size=2", "root")
    form = form_on(page, "Album for these 4 images")
    assert form["search"] == "id__lte=4&_size=2"
    # A browser sends the value of the button that was pressed.
    added = await submit(datasette, {**form, "action": "add", "album": "Beach & sea"})
    assert added.status_code == 200
    assert "2 images added to <a" in added.text
    assert members(albums) == {"Beach & sea": [1, 2, 3, 4]}
    undone = await submit(datasette, form_on(added, ">Undo<"))
    assert "2 images taken out of <a" in undone.text
    assert members(albums) == {"Beach & sea": [3, 4]}
    again = await submit(datasette, form_on(undone, ">Undo<"))
    assert "2 images added to <a" in again.text
    assert members(albums) == {"Beach & sea": [1, 2, 3, 4]}


async def test_undo_takes_back_the_album_that_a_mistyped_name_made(albums: Path):
    datasette = served(albums)
    form = {"action": "add", "album": "Beech", "search": "id=5"}
    added = await submit(datasette, form)
    assert members(albums) == {"Beach & sea": [3, 4], "Beech": [5]}
    await submit(datasette, form_on(added, ">Undo<"))
    assert members(albums) == {"Beach & sea": [3, 4]}


async def test_undo_does_not_make_an_album_again_that_somebody_deleted(albums: Path):
    datasette = served(albums)
    taken = await submit(datasette, {"action": "remove", "album": "Beach & sea", "search": "id=3"})
    await submit(datasette, {"action": "delete", "album": "Beach & sea"})
    undone = await submit(datasette, form_on(taken, ">Undo<"))
    assert undone.status_code == 400
    assert "no album" in undone.text
    assert members(albums) == {}


async def test_a_search_in_an_album_looks_at_no_image_before_it_is_ranked(
    albums: Path, monkeypatch: pytest.MonkeyPatch
):
    """One that is gone without our triggers counts among those that are ranked, and is not shown."""
    monkeypatch.setattr(plan, "NARROW", 1)
    change(albums, "insert into images_album_members values (1, 1000000, '2020-01-01')")
    url = f"{PAGE}.json?q=red&_by=likeness&_image_album=Beach+%26+sea"
    answer = (await get(served(albums), url)).json()
    assert {hit["id"] for hit in answer["hits"]} == {3, 4}
    assert answer["count"] == 2
    assert (answer["plan"][0]["step"], answer["plan"][0]["looked_at"]) == ("list", 3)


async def test_a_form_of_an_image_that_is_gone_changes_nothing(albums: Path):
    form = {"action": "remove", "album": "Beach & sea", "search": "id=3", "image": "nope"}
    refused = await submit(served(albums), form)
    assert refused.status_code == 400
    assert members(albums) == {"Beach & sea": [3, 4]}


async def test_a_page_of_an_image_puts_it_into_an_album_and_takes_it_out(database: Path):
    datasette = served(database)
    place = f"{PAGE}/2?id__lte=4&_position=2"
    form = form_on(await get(datasette, place, "root"), "Album for this image")
    added = await submit(datasette, {**form, "action": "add", "album": "Sea"})
    assert (added.status_code, added.headers["location"]) == (302, place)
    assert members(database) == {"Sea": [2]}
    page = await get(datasette, place, "root")
    assert "Take out of Sea" in page.text
    out = await submit(datasette, form_on(page, "Take out of Sea"))
    assert (out.status_code, out.headers["location"]) == (302, place)
    assert members(database) == {"Sea": []}


async def test_pages_have_no_form_for_who_may_not_use_it(albums: Path):
    datasette = served(albums)
    for path in (PAGE, f"{PAGE}/2"):
        assert "Album for" in (await get(datasette, path, "root")).text
        for actor in (None, "anna"):
            assert "Album for" not in (await get(datasette, path, actor)).text


@pytest.mark.parametrize(
    ("fields", "typed", "sentence"),
    [
        ({"action": "add", "album": "a\u202eb", "image": "2", "came_from": "q=red"}, "a\u202eb", "cannot be seen"),
        ({"action": "remove", "album": "Beech", "search": "id=3"}, "Beech", "no album"),
        ({"action": "create", "album": "Beach & sea"}, "Beach & sea", "already"),
        ({"action": "rename", "album": "Beach & sea", "name": "x" * 300}, "x" * 300, "at most 200"),
    ],
    ids=["add", "remove", "create", "rename"],
)  # fmt: skip
async def test_a_name_that_is_refused_stays_in_its_form_beside_the_reason(
    albums: Path, fields: dict[str, str], typed: str, sentence: str
):
    answer = await submit(served(albums), {"search": "id=2", **fields})
    assert answer.status_code == 400
    assert members(albums) == {"Beach & sea": [3, 4]}
    form = form_on(answer, 'role="alert"')
    assert typed in (form.get("album"), form.get("name"))
    for name in {*fields} - {"action", "album", "name"}:
        assert form[name] == fields[name]
    assert re.search(f'role="alert">[^<]*{sentence}', answer.text)
    assert answer.text.count('role="alert"') == 1


async def test_an_album_begins_with_its_oldest_and_can_be_sorted(albums: Path):
    change(albums, "update images set taken_at = (2030 - id) || '-01-01' where id != 3")
    datasette = served(albums)
    await post(datasette, "id__in=5,6", action="add", album="Beach & sea")
    for more, ids in (
        ("", [6, 5, 4, 3]),
        ("&_sort_desc=taken_at", [4, 5, 6, 3]),
        ("&_sort_desc=id", [6, 5, 4, 3]),
        ("&_sort=id", [3, 4, 5, 6]),
    ):
        answer = (await get(datasette, f"{PAGE}.json?_image_album=Beach+%26+sea{more}")).json()
        assert [hit["id"] for hit in answer["hits"]] == ids, more
    page = (await get(datasette, f"{PAGE}?_image_album=Beach+%26+sea")).text
    assert "oldest first</summary>" in page
    assert re.findall(r"<option [^>]*>(\w+est first)<", page) == ["oldest first", "newest first"]
