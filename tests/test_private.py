"""
The matrix of who sees what of a private image table: all that Datasette and this plugin can be asked of
it and of what is made of it, for anonymous, bob, anna and root, where anna and root may see the table,
its database, or anything at all. All that is private says "hush", and so would an answer that tells.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from .commands import command, embed_images, query
from .conftest import draw_picture
from .serving import ask, datasette_of

IS_ONE = hasattr(Datasette, "allowed")

TABLE = "hushpics"
"""The private table. Beside it are `notes`, a table that refers to it, and `open`, an image table for all."""

OURS = f"/-/image-search/photos/{TABLE}"
SQL = f"select id, path from {TABLE}"

RIGHT = {"allow": {"id": ["anna", "root"]}}

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture(scope="module")
def photos_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos.db as after all commands that make tables."""
    folder = tmp_path_factory.mktemp("private")
    for name in ("1", "2"):
        for colour in ("red", "blue"):
            draw_picture(folder / "hushroot" / f"hush-{colour}-{name}.jpg", colour)
    (folder / "hushroot" / "hush-damaged.jpg").write_bytes(b"no picture")
    draw_picture(folder / "public" / "tree.jpg", "green")
    database = folder / "photos.db"
    embed_images(database, TABLE, folder / "hushroot", "--model", "palette", "-s")
    embed_images(database, "open", folder / "public", "--model", "palette", "-s")
    labels = folder / "labels.txt"
    labels.write_text("red\nblue\n")
    for arguments in (
        ("tag-images", database, TABLE, "red", "blue", "--template", "{}"),
        ("find-duplicates", database, TABLE, "--write"),
    ):
        assert command(*arguments).exit_code == 0
    db = Database(database)
    db.execute(f"update {TABLE}_tags set tag = 'hush ' || tag")
    db["notes"].insert({"id": 1, "note": "nothing", "picture": 1}, pk="id")
    db["notes"].add_foreign_key("picture", TABLE, "id")
    db.conn.commit()
    db.close()
    return database


def restricted(database: Path, level: str) -> Datasette:
    rules = {
        "table": {"databases": {"photos": {"tables": {TABLE: RIGHT}}}},
        "database": {"databases": {"photos": RIGHT}},
        "instance": RIGHT,
    }[level]
    # SQL reads everything, and so is only for those who may.
    if IS_ONE:
        rules = {**rules, "permissions": {"execute-sql": RIGHT["allow"]}}
    else:
        rules = {**rules, "allow_sql": RIGHT["allow"]}
    saved = {"peek": {"sql": f"select id, width from {TABLE}"}}
    photos = {"tables": {}, **rules.get("databases", {}).get("photos", {}), "queries": saved}
    named = {TABLE: {**photos["tables"].get(TABLE, {}), "label_column": "filename"}}
    photos["tables"] = {**photos["tables"], **named}
    rules = {**rules, "databases": {"photos": photos}}
    root = database.parent / "hushroot"
    plugin = {"roots": [str(root)], "weights": {"ViT-B-32/mine": str(root / "mine.pt")}}
    return datasette_of(database, rules=rules, plugin=plugin)


def paths(database: Path) -> Iterator[str]:
    """Whatever can be asked with GET."""
    for page in (
        "/-/databases",
        "/-/metadata",
        "/-/config",
        "/-/plugins",
        "/-/settings",
        "/photos",
    ):
        yield from (page, f"{page}.json")
    yield from ("/", "/.json", "/-/image-search", "/-/image-search/photos")
    yield from (
        "/-/schema.json", "/photos/-/schema.json", f"/photos/{TABLE}/-/schema.json", "/-/jump.json?q=",
        "/-/tables.json", "/-/allowed.json?action=view-table", "/photos.db",
    )  # fmt: skip
    yield from of_tables(database)
    yield from of_others()
    yield from of_queries()
    yield from of_this_plugin()


def of_tables(database: Path) -> Iterator[str]:
    """The image table, and all that is made of it or of all image tables."""
    db = Database(database)
    made = [
        name
        for name in db.table_names()
        if TABLE in name or name.startswith(("image_search_", "sqlite_"))
    ]
    assert len(made) >= 10
    for name in made:
        page = f"/photos/{name}"
        columns = [column.name for column in db.table(name).columns]
        yield from (page, f"{page}.json", f"{page}.csv", f"{page}.images", f"{page}.json?_size=0")
        yield f"{page}.json?_shape=array&_labels=on&_nl=on"
        yield f"{page}.json?_extra=facet_results,columns,count,suggested_facets"
        for facet in ("_facet", "_facet_array"):
            asked = "&".join(f"{facet}={quote(column)}" for column in columns)
            yield f"{page}.json?_size=0&{asked}"
        yield f"{page}?_facet_tag=id&_facet_year=taken_at"
        # Without a rowid: names, and the tables of FTS5 that have several columns for a key.
        keys = {"image_search_migrations": "name", "_fts_idx": "segid", "_fts_config": "k"}
        key = next((keys[end] for end in keys if name.endswith(end)), "rowid")
        for row in query(database, f'select {key} from "{name}" limit 1'):
            yield from (f"{page}/{row[0]}", f"{page}/{row[0]}.json")
            yield f"{page}/{row[0]}.json?_extras=foreign_key_tables&_extra=foreign_key_tables"
            for column in ("webp", "vector"):
                if column in columns:
                    yield f"{page}/{row[0]}.blob?_blob_column={column}"
        through = json.dumps({"table": name, "column": columns[0], "value": "1"})
        yield f"/photos/open.json?_through={quote(through)}"
    db.close()


def of_others() -> Iterator[str]:
    """Tables that all may see, and what they have to do with the private one."""
    yield "/photos/notes?_facet=picture"
    for format in ("json?_shape=array&", "json?_facet=picture&", "csv?", "images?"):
        yield f"/photos/notes.{format}_labels=on"
    for page in ("/photos/open", "/photos/open.images", "/photos/open.json"):
        yield page
        for asked in (f"_image_table={TABLE}", "_image_search=red", "_image_tag=hush+red"):
            yield f"{page}?{asked}"
    yield from ("/photos/notes.json?_size=0&_facet=note", "/photos/notes/1.json")
    yield "/-/image-search/photos/open?q=red&_facet_tag=id"
    yield "/-/image-search/photos/open.json?q=%231"


def of_queries() -> Iterator[str]:
    for page in ("/photos", "/photos/-/query"):
        for format in ("", ".json", ".csv", ".images"):
            yield f"{page}{format}?sql={quote(SQL)}&_image_table={TABLE}"
    # A saved query is for whom Datasette says, and tells no more than its rows.
    yield from ("/photos/peek", "/photos/peek.json", "/photos/peek.images")
    yield f"/photos/peek.images?_image_table={TABLE}"


def of_this_plugin() -> Iterator[str]:
    for query_string in (
        "",
        "?q=red",
        "?q=%231",
        "?_facet=filename&_facet_year=taken_at",
        "?q=zzz",
    ):
        for format in ("", ".json", ".csv"):
            yield f"{OURS}{format}{query_string}"
    yield from (f"{OURS}/1/thumbnail", f"{OURS}/1/image", f"{OURS}/map", f"{OURS}/upload")
    yield from (f"{OURS}/map.json", f"{OURS}/map.json?q=red", f"{OURS}/map.json?_color=filename")
    yield from (f"{OURS}?_image_tag=hush+red", f"{OURS}.json?_facet_tag=id")


@pytest.fixture(scope="module")
def blobs(photos_db: Path) -> list[bytes]:
    """The pictures and vectors of the private table."""
    return [
        blob
        for sql in (f"select webp from _{TABLE}_thumbnails", f"select vector from _{TABLE}_vectors")
        for (blob,) in query(photos_db, sql)
    ]


def tells(blobs: list[bytes], path: str, response: httpx.Response) -> list[str]:
    """What an answer has of the private table: words, pictures, vectors; from us not even its name."""
    found = [
        "a picture or vector"
        for blob in blobs
        if blob in response.content or base64.b64encode(blob)[:40] in response.content
    ]
    # In the random letters of a token for forms there is any word now and then.
    text = re.sub(r'name="csrftoken" value="[^"]*"', "", response.text)
    words = text.replace(TABLE, "TABLE").lower()
    if "hush" in words.replace("hush+red", "").replace('"hush red"', ""):
        found.append("a word")
    # Datasette itself names it in its configuration, and in what refers to it.
    if TABLE in response.text and TABLE not in path and "image" in path:
        found.append("the name of the table")
    if OURS in path and response.status_code != 404:
        found.append("that it is there")
    return found


# Each level and each actor: all pairs of them would ask everything twice as often.
@pytest.mark.parametrize(
    ("level", "actor"),
    [("table", None), ("table", "bob"), ("database", "bob"), ("instance", None)],
)
async def test_a_stranger_sees_nothing(
    photos_db: Path, blobs: list[bytes], level: str, actor: str | None
):
    datasette = restricted(photos_db, level)
    await datasette.invoke_startup()
    seen = {}
    for path in paths(photos_db):
        response = await ask(datasette, path, actor)
        assert response.status_code < 500, path
        if found := tells(blobs, path, response):
            seen[path] = found
    assert seen == {}


@pytest.mark.parametrize(
    ("level", "actor", "share"),
    [("table", "anna", 0), ("database", "root", 1), ("instance", "anna", 2)],
)
async def test_who_may_see_it_sees_it(photos_db: Path, level: str, actor: str, share: int):
    """So that the test above would notice. Each has a third of the paths: what it may see is asked of Datasette alike."""
    datasette = restricted(photos_db, level)
    await datasette.invoke_startup()
    refused = {}
    for path in [*of_tables(photos_db), *of_this_plugin()][share::3]:
        response = await ask(datasette, path, actor)
        if response.status_code in (401, 403, 404):
            refused[path] = response.status_code
    assert refused == {}
    for page in (f"/photos/{TABLE}", "/photos/notes", "/photos/notes.json?_labels=on"):
        assert "hush-blue-1.jpg" in (await ask(datasette, page, actor)).text
    # But where the files of the server are is nobody's business.
    for name in ("/-/metadata.json", "/-/config.json"):
        assert "hushroot" not in (await ask(datasette, name, actor)).text


@pytest.mark.parametrize(
    "path",
    [
        "/photos/peek.images?_image_table={}",
        "/photos/open.images?_image_table={}",
        "/photos/open?_image_table={}",
        "/-/image-search/photos/{}",
        "/-/image-search/photos/{}/map.json",
        "/-/image-search/photos/{}/1/thumbnail",
    ],
)
async def test_private_is_as_missing(photos_db: Path, path: str):
    datasette = restricted(photos_db, "table")
    await datasette.invoke_startup()
    private = await ask(datasette, path.format(TABLE))
    missing = await ask(datasette, path.format("nowhere"))
    assert private.status_code == missing.status_code
    assert without_times(private.text.replace(TABLE, "nowhere")) == without_times(missing.text)


def without_times(page: str) -> str:
    return re.sub(r"took [0-9.]+ms", "", page)
