"""
Datasette started with the example configurations, by the command that each has at its top. What the
lines say is what happens.
"""

from __future__ import annotations

import re
import shlex
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasette import cli
from datasette.app import Datasette

from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.search import query
from datasette_image_search.store import find_index
from datasette_image_search.web import configuration

from .commands import change, command
from .conftest import draw_picture
from .serving import PLUGIN, ask, get, query_page

PROJECT = Path(__file__).parent.parent
WEB = PROJECT / "datasette_image_search" / "web"

IS_ONE = hasattr(Datasette, "allowed")
"""Whether this is Datasette 1.0, which has examples of its own."""

EXAMPLE = PROJECT / ("datasette.example.yml" if IS_ONE else "metadata.example.yml")
TITLES = PROJECT / ("metadata.example-1.0.yml" if IS_ONE else "metadata.example.yml")

PAGE = "/-/image-search/photos/images"
PLACEHOLDER = "/home/me/Pictures"

# What Datasette reads, by where it reads it.
KNOWN = {
    "instance": {"title", "allow_sql", "settings", "permissions", "databases", "plugins"},
    "permissions": {"execute-sql"},
    "database": {"title", "tables"},
    "table": {
        *("title", "description", "allow"),
        *("facets", "hidden", "label_column", "size", "sort_desc"),
    },
}


@pytest.fixture(scope="module")
def photos_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos.db as after all commands that make tables, of photos beside it, one twice, one damaged."""
    folder = tmp_path_factory.mktemp("configured")
    pictures = folder / "Pictures"
    for number, colour in enumerate(("red", "orange", "yellow", "green", "blue", "purple")):
        draw_picture(pictures / f"{colour}.jpg", colour, size=(80 + number, 60))
    (pictures / "blue again.jpg").write_bytes((pictures / "blue.jpg").read_bytes())
    (pictures / "damaged.jpg").write_bytes(b"no picture")
    for arguments in (
        (
            "embed-images",
            folder / "photos.db",
            "images",
            pictures,
            "--model",
            "palette",
            "--silent",
        ),
        ("find-duplicates", folder / "photos.db", "images", "--write", "--silent"),
        ("tag-images", folder / "photos.db", "images", "red", "blue", "--template", "{}"),
    ):
        result = command(*arguments)
        assert result.exit_code == 0, result.output
    exif = "taken_at = '2021-06-18T10:31:00', camera_model = 'Canon EOS 40D'"
    change(folder / "photos.db", f"update images set {exif}")
    return folder / "photos.db"


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """
    All texts that the model is asked for, in the course of the test, but for the usual words, which a process asks for once, all
    together.
    """
    asked: list[str] = []
    encode_texts = PaletteEmbedder.encode_texts

    def recorded(self, texts):
        if texts != list(self.usual_words):
            asked.extend(texts)
        return encode_texts(self, texts)

    monkeypatch.setattr(PaletteEmbedder, "encode_texts", recorded)
    query._text_vector.cache_clear()
    return asked


@pytest.fixture
def datasette(
    photos_db: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Datasette:
    """What the command of the example starts. Only the folder of the photos is put in its place."""
    for example in {EXAMPLE, TITLES}:
        text = example.read_text(encoding="utf-8")
        text = text.replace(PLACEHOLDER, str(photos_db.parent / "Pictures"))
        (tmp_path / example.name).write_text(text, encoding="utf-8")
    for file in photos_db.parent.glob("photos.db*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(shown_command())
    assert program == "datasette"
    context = cli.serve.make_context("serve", arguments)
    return cli.serve.callback(**context.params, return_instance=True)


def shown_command() -> str:
    """The indented lines of the comment at the top of the example."""
    head = EXAMPLE.read_text(encoding="utf-8").partition("\n\n")[0]
    lines = re.findall(r"^#   (.*?) *\\?$", head, flags=re.MULTILINE)
    return " ".join(lines)


def example() -> dict[str, Any]:
    return yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))


def facets_of(page: str) -> list[str]:
    return re.findall(r'<div class="facet-info [^"]*" id="facet-([^"]+)"', page)


pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


# --- Nothing is left out, and nothing is made up -----------------------------------------------------


async def test_every_option_of_this_plugin_is_in_it_and_no_other() -> None:
    source = Path(configuration.__file__).read_text(encoding="utf-8")
    options = set(re.findall(r'_setting\(datasette, "(\w+)"', source))
    options |= set(re.findall(r'settings\.get\("(\w+)"\)', source))
    assert len(options) >= 4
    assert set(configuration.OPTIONS) == options
    assert set(example()["plugins"][PLUGIN]) == options
    for module in WEB.glob("*.py"):
        reads = "plugin_config(" in module.read_text(encoding="utf-8")
        assert reads == (module.name == "configuration.py"), module


@pytest.mark.parametrize("file", [EXAMPLE, TITLES], ids=lambda file: file.name)
async def test_every_key_is_one_that_is_read(file: Path, datasette: Datasette) -> None:
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(written) <= KNOWN["instance"]
    assert set(written.get("permissions", {})) <= KNOWN["permissions"]
    assert set(written.get("settings", {})) <= set(datasette.settings_dict())
    for database in written["databases"].values():
        assert set(database) <= KNOWN["database"]
        for table in database["tables"].values():
            assert set(table) <= KNOWN["table"]


@pytest.mark.parametrize("file", [EXAMPLE, TITLES], ids=lambda file: file.name)
async def test_every_table_is_one_that_there_is(file: Path, datasette: Datasette) -> None:
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    tables = await datasette.get_database("photos").table_names()
    assert set(written["databases"]["photos"]["tables"]) <= {*tables, "sqlite_sequence"}


async def test_the_examples_of_both_versions_say_the_same() -> None:
    """But for limits and permissions, which have other forms."""
    old = yaml.safe_load((PROJECT / "metadata.example.yml").read_text(encoding="utf-8"))
    new = yaml.safe_load((PROJECT / "datasette.example.yml").read_text(encoding="utf-8"))
    titles = yaml.safe_load((PROJECT / "metadata.example-1.0.yml").read_text(encoding="utf-8"))
    assert old["plugins"] == new["plugins"]
    assert old["title"] == titles["title"]
    assert old["databases"]["photos"]["title"] == titles["databases"]["photos"]["title"]
    configured = new["databases"]["photos"]["tables"]
    titled = titles["databases"]["photos"]["tables"]
    for name, table in old["databases"]["photos"]["tables"].items():
        assert table == {**titled.get(name, {}), **configured.get(name, {})}, name
    assert old["allow_sql"] == new["permissions"]["execute-sql"]


# --- What the lines do -------------------------------------------------------------------------------


async def test_titles(datasette: Datasette) -> None:
    assert "My photos" in (await get(datasette, "/")).text
    assert "The family&#39;s photos" in (await get(datasette, "/photos")).text
    table = (await get(datasette, "/photos/images")).text
    assert re.search(r"<h1[^>]*>\s*Photos", table)
    assert "Everything since 2001, from all cameras" in table
    assert "Image search: Photos" in (await get(datasette, PAGE)).text
    for name, title in (
        ("_images_failures", "Photos that could not be embedded"),
        ("image_search_roots", "Embedded folders"),
        ("images_duplicates", "Near-duplicates"),
        ("images_tags", "Tags"),
        ("image_search_label_sets", "Labels that photos were tagged with"),
    ):
        page = await get(datasette, f"/photos/{name}", actor="root")
        assert re.search(rf"<h1[^>]*>\s*{title}", page.text), name


async def test_tables_of_the_machinery_are_hidden(datasette: Datasette) -> None:
    response = await get(datasette, "/photos.json", actor="root")
    shown = {table["name"] for table in response.json()["tables"] if not table["hidden"]}
    assert {"images", "images_duplicates", "images_tags"} <= shown
    hidden = {table["name"] for table in response.json()["tables"] if table["hidden"]}
    assert hidden >= {
        "_images_vectors",
        "_images_thumbnails",
        "image_search_indexes",
        "image_search_label_sets",
        "image_search_roots",
        "sqlite_sequence",
    }


@pytest.mark.parametrize("path", ["/photos/images.json", f"{PAGE}.json"])
async def test_facets_of_the_image_table(datasette: Datasette, path: str) -> None:
    answer = (await get(datasette, path, _extra="facet_results")).json()["facet_results"]
    facets = {facet["name"]: facet for facet in answer.get("results", answer).values()}
    values = {
        name: {found["value"]: found["count"] for found in facet["results"]}
        for name, facet in facets.items()
    }
    assert values["taken_at"] == {"2021": 7}
    assert values["camera_model"] == {"Canon EOS 40D": 7}
    assert values["folder"] == {"": 7}
    assert set(values["images_tags"]) == {"red", "blue"}


@pytest.mark.parametrize(
    ("table", "columns"), [("images_duplicates", ["keep", "exact"]), ("images_tags", ["tag"])]
)
async def test_facets_of_other_tables(datasette: Datasette, table: str, columns: list[str]) -> None:
    path = f"/photos/{table}.json"
    answer = (await get(datasette, path, _extra="facet_results")).json()["facet_results"]
    assert list(answer.get("results", answer)) == columns


async def test_the_order_the_size_of_a_page_and_labels(datasette: Datasette) -> None:
    page = (await get(datasette, "/photos/images")).text
    assert "sorted by taken_at descending" in page
    tags = (await get(datasette, "/photos/images_tags.json", _shape="array")).json()
    probabilities = [row["probability"] for row in tags]
    assert probabilities == sorted(probabilities, reverse=True)
    table = example()["databases"]["photos"]["tables"]["images"]
    # More rows than a page has by this line, and by the limit of all tables.
    db = datasette.get_database("photos")
    copy = (
        "insert into images (root_id, path) with recursive n(i) as "
        "(select 1 union all select i + 1 from n where i < 70) select 1, i from n"
    )
    await db.execute_write(copy)
    rows = (await get(datasette, "/photos/images.json", _shape="array")).json()
    assert len(rows) == table["size"] == 48
    label = (await get(datasette, "/photos/images_duplicates", _labels="on")).text
    assert re.search(r'href="/-/image-search/photos/images/\d+"><img [^>]*> blue\.jpg</a>', label)
    assert ">Pictures</a>" in (await get(datasette, "/photos/images", actor="root")).text


async def test_limits(datasette: Datasette) -> None:
    settings = (await get(datasette, "/-/settings.json")).json()
    expected = {
        "default_page_size": 60,
        "max_returned_rows": 2000,
        "sql_time_limit_ms": 3000,
        "facet_time_limit_ms": 500,
        "allow_download": False,
    }
    assert {name: settings[name] for name in expected} == expected
    assert (await get(datasette, "/photos.db", actor="root")).status_code == 403
    assert (await get(datasette, PAGE, _size=2000)).status_code == 200
    assert (await get(datasette, PAGE, _size=2001)).status_code == 400


async def test_who_may_run_sql_and_see_where_photos_are(datasette: Datasette) -> None:
    for actor, status in ((None, 403), ("bob", 403), ("root", 200)):
        answered = await query_page(datasette, "select 1", ".json", actor)
        assert answered.status_code == status, actor
        for table in ("image_search_roots", "_images_failures"):
            answered = await get(datasette, f"/photos/{table}", actor)
            assert answered.status_code == status, (table, actor)
        for path in ("/photos/images", PAGE, f"{PAGE}/1/thumbnail"):
            assert (await get(datasette, path, actor)).status_code == 200


async def test_only_whom_allow_names_sees_anything_once_its_lines_are_taken_in(
    datasette: Datasette, tmp_path: Path
) -> None:
    text = (tmp_path / EXAMPLE.name).read_text(encoding="utf-8")
    taken_in = text.replace(
        "    # allow:\n    #   id: [root, anna]", "    allow:\n      id: [root, anna]"
    )
    assert taken_in != text
    (tmp_path / EXAMPLE.name).write_text(taken_in, encoding="utf-8")
    context = cli.serve.make_context("serve", shlex.split(shown_command())[1:])
    datasette = cli.serve.callback(**context.params, return_instance=True)
    for actor, status in ((None, 404), ("bob", 404), ("anna", 200), ("root", 200)):
        for path in (PAGE, f"{PAGE}/1/thumbnail", f"{PAGE}/1/image"):
            assert (await get(datasette, path, actor)).status_code == status, (path, actor)


async def test_originals_are_shown_from_the_roots(datasette: Datasette, photos_db: Path) -> None:
    rows = (await get(datasette, "/photos/images.json?_shape=array&path=red.jpg")).json()
    original = await get(datasette, f"{PAGE}/{rows[0]['id']}/image")
    assert original.content == (photos_db.parent / "Pictures" / "red.jpg").read_bytes()


async def test_an_upload_has_a_limit(datasette: Datasette, photos_db: Path) -> None:
    limit = example()["plugins"][PLUGIN]["max_upload_bytes"]
    assert limit != configuration.MAX_UPLOAD_BYTES
    assert (await ask(datasette, f"{PAGE}/upload")).json()["max_bytes"] == limit
    picture = (photos_db.parent / "Pictures" / "red.jpg").read_bytes()
    refused = await ask(datasette, f"{PAGE}/upload", None, "POST", picture + bytes(limit))
    assert refused.status_code == 413
    accepted = await ask(datasette, f"{PAGE}/upload", None, "POST", picture)
    assert accepted.json()["query"].startswith("vec:")


@pytest.mark.usefixtures("warming_up")
async def test_queries_are_warmed_up(datasette: Datasette, texts: list[str]) -> None:
    await datasette.invoke_startup()
    for thread in threading.enumerate():
        if thread.name == "image-search-warm-up":
            thread.join()
    assert texts == example()["plugins"][PLUGIN]["warm_up"]


async def test_weights_in_a_file_are_found(datasette: Datasette, photos_db: Path) -> None:
    """Not loaded: the model is said to be that of an index, as if somebody had embedded with the file."""
    ((model, file),) = example()["plugins"][PLUGIN]["weights"].items()
    with closing(sqlite3.connect(photos_db)) as conn:
        index = replace(
            find_index(conn, "images"), model=model, weights="/elsewhere/mine.safetensors"
        )
    assert configuration.configured_weights(datasette)(index) == Path(file)
