"""What is made of an image table is for those who may see the image table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from datasette import hookimpl
from datasette.app import Datasette
from datasette.plugins import pm
from sqlite_utils import Database

from datasette_image_search.store.side_tables import side_tables
from datasette_image_search.store.tables import SIDE_TABLES

from .commands import change, command, embed_images
from .conftest import copied_database, draw_picture
from .serving import ask, datasette_of, get
from .test_xmp import xmp

pytestmark = pytest.mark.datasette

OF_IMAGES = {
    "_images_vectors",
    "_images_tokens",
    "_images_thumbnails",
    "_images_scenes",
    "_images_failures",
    "_images_beside",
    "_images_places",
    "_images_texts",
    "_images_texts_fts",
    "_images_texts_fts_config",
    "_images_texts_fts_content",
    "_images_texts_fts_data",
    "_images_texts_fts_docsize",
    "_images_texts_fts_idx",
    "_images_readings",
    "images_text",
    "images_keywords",
    "images_tags",
    "images_duplicates",
}
OF_ALL = {
    "image_search_roots",
    "image_search_indexes",
    "image_search_label_sets",
    "image_search_migrations",
    "sqlite_sequence",
}

ANNA = {"allow": {"id": "anna"}}

is_async = pytest.mark.asyncio


@pytest.fixture(scope="module")
def whole_once(drawn_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied for each test: pictures/ and photos.db."""
    place = tmp_path_factory.mktemp("whole")
    folder = shutil.copytree(drawn_once / "pictures", place / "pictures")
    database = copied_database(drawn_once, folder, place)
    draw_picture(folder / "copy" / "red.jpg", "red")
    words = "<dc:subject><rdf:Bag><rdf:li>roses</rdf:li></rdf:Bag></dc:subject>"
    (folder / "copy" / "red.xmp").write_text(xmp(words), encoding="utf-8")
    embed_images(database, "images", folder, "-s")
    embed_images(database, "others", folder, "--model", "palette", "-s")
    for arguments in (
        ("tag-images", database, "images", "red", "blue"),
        ("find-duplicates", database, "images", "--write"),
        ("locate-images", database, "images"),
        ("read-images", database, "images", "--where", "id < 0"),
    ):
        assert command(*arguments).exit_code == 0
    return place


@pytest.fixture
def folder(whole_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole_once / "pictures", tmp_path / "pictures")


@pytest.fixture
def whole(whole_once: Path, folder: Path, tmp_path: Path) -> Path:
    """photos.db with all that can be made of the table images, some of it, and of `others`."""
    return copied_database(whole_once, folder, tmp_path)


def private(database: Path, **tables: Any) -> Datasette:
    return datasette_of(database, rules={"databases": {"photos": {"tables": tables}}})


async def seen(datasette: Datasette, actor: str | None = None) -> set[str]:
    """The tables that the page of the database lists, each of which has to have a page."""
    await datasette.invoke_startup()
    listed = (await ask(datasette, "/photos.json", actor)).json()["tables"]
    names = {table["name"] for table in listed}
    for name in OF_IMAGES | OF_ALL | {"others_tags", "_others_thumbnails"}:
        response = await ask(datasette, f"/photos/{name}.json?_size=0", actor)
        assert (response.status_code == 200) == (name in names), name
    return names


# --- Which tables there are ------------------------------------------------------------------------


def test_all_that_is_made_of_an_image_table(whole: Path):
    made_of = side_tables(Database(whole).conn)
    # The full-text index is made of other side tables too.
    assert {
        side for side, of in made_of.items() if of >= {"images"} and "others" not in of
    } == OF_IMAGES
    assert {side for side, of in made_of.items() if "images_tags" in of} == {
        side for side in OF_IMAGES if "_texts" in side
    }
    assert {side for side, of in made_of.items() if of == {"images", "others"}} == OF_ALL


def test_no_table_is_forgotten_that_a_command_makes(whole: Path):
    """A command that makes a table of another kind has to name it in SIDE_TABLES."""
    db = Database(whole)
    known = {"images", "others", *side_tables(db.conn)}
    assert set(db.table_names()) == known
    assert {kind.format("images") for kind in SIDE_TABLES.values()} >= OF_IMAGES


def test_a_table_of_a_persons_own_is_theirs(database: Path):
    change(database, "create table images_tags (id, tag)", "create table _other_vectors (id)")
    change(database, "create table images_keywords (image_id, keyword)")
    change(database, "create view images_duplicates as select * from images")
    assert not side_tables(Database(database).conn).keys() & {
        "images_tags", "images_duplicates", "images_keywords", "_other_vectors",
    }  # fmt: skip


def test_of_keywords_whose_column_was_renamed(whole: Path):
    change(whole, "alter table images_keywords rename column keyword to word")
    assert side_tables(Database(whole).conn)["images_keywords"] == {"images"}


def test_of_a_table_that_was_renamed(database: Path):
    """Its side tables keep their names; the rules of the old name and of the new one hold."""
    change(database, "alter table images rename to pictures")
    assert side_tables(Database(database).conn)["_images_thumbnails"] == {"images", "pictures"}


def test_of_a_table_that_was_dropped(database: Path):
    change(database, "drop table images")
    assert side_tables(Database(database).conn)["_images_thumbnails"] == {"images"}


def test_of_a_table_whose_indexes_are_forgotten(database: Path):
    change(database, "delete from image_search_indexes")
    assert side_tables(Database(database).conn)["_images_thumbnails"] == {"images"}


def test_in_any_spelling_of_the_name(database: Path):
    change(database, "update image_search_indexes set image_table = 'IMAGES'")
    assert side_tables(Database(database).conn)["_images_thumbnails"] >= {"IMAGES"}


# --- Who sees them ---------------------------------------------------------------------------------


@is_async
async def test_who_may_not_see_the_image_table(whole: Path):
    datasette = private(whole, images=ANNA)
    for stranger in (None, "bob"):
        assert not await seen(datasette, stranger) & (OF_IMAGES | OF_ALL | {"images"})
        assert "_others_thumbnails" in await seen(datasette, stranger)
    assert await seen(datasette, "anna") >= OF_IMAGES | OF_ALL | {"images"}


@is_async
async def test_what_is_made_of_all_wants_all(whole: Path):
    """Anna may see the images, and not the others: no folder of the others either."""
    datasette = private(whole, images=ANNA, others={"allow": {"id": ["bob", "carol"]}})
    assert await seen(datasette, "anna") >= OF_IMAGES
    for actor in ("anna", "bob"):
        assert not await seen(datasette, actor) & OF_ALL


@is_async
async def test_no_rule_opens_what_is_made_of_a_private_table(whole: Path):
    opened = {side: {"allow": True} for side in OF_IMAGES | OF_ALL}
    assert not await seen(private(whole, images=ANNA, **opened)) & (OF_IMAGES | OF_ALL)


@is_async
async def test_a_rule_of_their_own_still_holds(whole: Path):
    """A side table may be more private than its image table, and so by the rule of the database."""
    assert "images_tags" not in await seen(private(whole, images_tags=ANNA))
    closed = {"allow": {"id": "anna"}, "tables": {"images": {"allow": True}}}
    datasette = datasette_of(whole, rules={"databases": {"photos": closed}})
    await datasette.invoke_startup()
    assert (await ask(datasette, "/photos/images.json")).status_code == 200
    assert (await ask(datasette, "/photos/images_tags.json")).status_code == 403
    assert (await ask(datasette, "/photos/images_tags.json", "anna")).status_code == 200


@is_async
async def test_an_open_database_is_as_it_was(whole: Path):
    assert await seen(private(whole)) >= OF_IMAGES | OF_ALL


class _Plugin:
    """Another plugin's rule: nobody but anna sees images. Each Datasette calls the hook that it knows."""

    __name__ = "of_others"

    @hookimpl(trylast=True)
    def permission_allowed(self, actor: Any, action: str, resource: Any) -> bool | None:
        if action == "view-table":
            return resource[1] != "images" or bool(actor and actor["id"] == "anna")
        return None

    @hookimpl
    def permission_resources_sql(self, actor: Any, action: str) -> Any:
        if action != "view-table" or (actor and actor["id"] == "anna"):
            return None
        from datasette.permissions import PermissionSQL

        return PermissionSQL(
            "select 'photos' as parent, 'images' as child, 0 as allow, 'secret' as reason"
        )


@pytest.fixture
def other_plugin() -> Any:
    plugin = _Plugin()
    pm.register(plugin, name="of_others")
    yield
    pm.unregister(plugin)


@is_async
@pytest.mark.usefixtures("other_plugin")
async def test_the_rule_of_another_plugin(whole: Path):
    datasette = datasette_of(whole)
    assert not await seen(datasette) & (OF_IMAGES | OF_ALL | {"images"})
    assert await seen(datasette, "anna") >= OF_IMAGES | OF_ALL | {"images"}


@is_async
async def test_a_table_made_while_datasette_runs(whole: Path, folder: Path):
    """At once: not a second long is anything of it seen."""
    datasette = private(whole, later=ANNA)
    assert await seen(datasette) >= OF_ALL
    embed_images(whole, "later", folder, "--model", "palette", "-s")
    for path in ("_later_thumbnails", "_later_thumbnails/1.blob?_blob_column=webp"):
        assert (await ask(datasette, f"/photos/{path}")).status_code == 403
    assert not await seen(datasette) & OF_ALL


@is_async
async def test_tables_that_cannot_be_read_are_shown_to_nobody(database: Path):
    change(database, "alter table image_search_indexes rename column image_table to other")
    datasette = datasette_of(database)
    await datasette.invoke_startup()
    for side in ("_images_thumbnails", "image_search_roots"):
        assert (await ask(datasette, f"/photos/{side}")).status_code == 403
    assert (await ask(datasette, "/photos.json")).status_code == 200


# --- Where Datasette lists them --------------------------------------------------------------------


@is_async
async def test_what_is_for_programs_is_hidden(whole: Path):
    """Without a line of configuration, and on the first page; tags and duplicates are for people."""
    response = await get(datasette_of(whole), "/photos.json")
    hidden = {table["name"] for table in response.json()["tables"] if table["hidden"]}
    assert hidden >= {side for side in OF_IMAGES | OF_ALL if side.startswith(("_", "image_search"))}
    assert not hidden & {"images", "images_text", "images_tags", "images_duplicates"}


@is_async
async def test_the_configuration_may_show_them(database: Path):
    datasette = private(database, image_search_roots={"hidden": False})
    response = await get(datasette, "/photos.json")
    hidden = {table["name"]: table["hidden"] for table in response.json()["tables"]}
    assert not hidden["image_search_roots"]
    assert hidden["image_search_indexes"]
