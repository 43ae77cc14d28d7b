"""What is wrong with the configuration of this plugin is said when Datasette starts, a line for each."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from .serving import PLUGIN, datasette_of, get

PAGE = "/-/image-search/photos/images"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


async def said_at_start(
    database: Path, caplog: pytest.LogCaptureFixture, configuration: dict[str, Any]
) -> list[str]:
    with caplog.at_level(logging.WARNING):
        await datasette_of(database, rules=configuration).invoke_startup()
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"root": ["/"]}, "root: there is no such option; did you mean 'roots'?"),
        (
            {"Max_Upload": 1},
            "Max_Upload: there is no such option; did you mean 'max_upload_bytes'?",
        ),
        (
            {"x": 1},
            "x: there is no such option; the options are roots, max_upload_bytes, max_zip_bytes, warm_up, weights, rank, tiles, engines",
        ),
        ({"roots": ["Pictures"]}, "roots must be absolute paths, such as /home/me/Pictures"),
        (
            {"engines": "s3://bucket/photos.lance"},
            "engines must be a list of folders or URLs, such as [s3://bucket/photos.lance]",
        ),
        (
            {"engines": ["s3://key:secret@bucket/photos.lance"]},
            "engines: --uri has @, ?, # or ; in it, after which there may be a password or a signature, and the database would keep it; give these to the "
            "engine in the environment, such as AWS_ACCESS_KEY_ID",
        ),
        ({"roots": [1]}, "roots must be a list of folders, such as [/home/me/Pictures]"),
        (
            {"roots": ["/", "/not/there"]},
            "roots: there is no folder '/not/there'; its originals are not shown",
        ),
        ({"max_upload_bytes": "10MB"}, "max_upload_bytes must be a whole number of bytes"),
        ({"max_upload_bytes": -1}, "max_upload_bytes must be a whole number of bytes"),
        (
            {"warm_up": "dogs"},
            "warm_up must be a list of queries, such as [dogs, a red car], or false",
        ),
        (
            {"warm_up": [1]},
            "warm_up must be a list of queries, such as [dogs, a red car], or false",
        ),
        (
            {"weights": "/some/file"},
            "weights must have a line with a file for each model, such as "
            "ViT-B-32/mine: /home/me/mine.safetensors",
        ),
        (
            {"tiles": "https://tiles.example/"},
            "tiles must have a line url, with {z}, {x} and {y} in it, and may have a line attribution",
        ),
        ({"weights": {"a/b": "/not/there"}}, "weights, a/b: there is no file '/not/there'"),
    ],
)
async def test_what_is_wrong_is_one_line_when_datasette_starts(
    database: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], sentence: str
) -> None:
    written = {"plugins": {PLUGIN: settings}}
    assert await said_at_start(database, caplog, written) == [f"plugins, {PLUGIN}, {sentence}"]


async def test_a_database_and_a_table_have_options_too(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {"plugins": {PLUGIN: {"root": []}}}
    tables = {"images": {"plugins": {PLUGIN: {"weights": {}}}}}
    written = {"databases": {"photos": {**wrong, "tables": tables}}}
    assert await said_at_start(database, caplog, written) == [
        f"databases, photos, plugins, {PLUGIN}, root: there is no such option; did you mean 'roots'?",
        f"databases, photos, tables, images, plugins, {PLUGIN}, weights applies to all databases; "
        "move it to plugins at the top level",
    ]


@pytest.mark.parametrize(
    "name", ["datasette_image_search", "image-search", "datasette-images-search"]
)
async def test_a_name_that_is_almost_that_of_this_plugin(
    database: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    written = {"plugins": {name: {"roots": []}, "datasette-search-all": {"template": "x"}}}
    assert await said_at_start(database, caplog, written) == [
        f"plugins, {name}: no plugin has this name; it must be {PLUGIN!r}"
    ]


async def test_no_options_where_there_must_be_some(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await said_at_start(database, caplog, {"plugins": {PLUGIN: ["roots"]}}) == [
        f"plugins, {PLUGIN} must have options such as roots below it"
    ]


async def test_nothing_is_said_of_what_is_right(
    database: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PICTURES", str(tmp_path))
    settings = {
        "roots": [{"$env": "PICTURES"}],
        "max_upload_bytes": 10,
        "warm_up": False,
        "weights": {"a/b": str(database)},
    }
    table = {"plugins": {PLUGIN: {"roots": []}}}
    written = {
        "plugins": {PLUGIN: settings},
        "databases": {"photos": {"tables": {"images": table}}},
    }
    assert await said_at_start(database, caplog, written) == []


@pytest.mark.parametrize(
    "settings",
    [{"roots": ["Pictures"]}, {"warm_up": "dogs"}, {"max_upload_bytes": "10MB"}, ["roots"]],
)
async def test_the_search_goes_on_without_what_is_wrong(database: Path, settings: Any) -> None:
    datasette = datasette_of(database, rules={"plugins": {PLUGIN: settings}})
    assert (await get(datasette, PAGE, q="red")).status_code == 200
