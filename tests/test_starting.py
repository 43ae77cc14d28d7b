from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from datasette.app import Datasette
from datasette.utils import StartupError
from sqlite_utils import Database

from datasette_image_search import store
from datasette_image_search.embedders.protocol import EmbedderError
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.search import checking, freshness, sidecar
from datasette_image_search.search.indexing import refresh_sidecars
from datasette_image_search.web.server import starting

from .conftest import sidecar_of
from .serving import HANGS, datasette_of, get
from .tiny_clip import make_tiny_clip

pytestmark = [pytest.mark.datasette, pytest.mark.usefixtures("warming_up")]

MODEL = "tiny-test/warm"

ENCODE_TEXTS = "datasette_image_search.embedders.torch_embedder.TorchEmbedder.encode_texts"
"""By its name: imported here, torch would be loaded by all that collect this module."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return make_tiny_clip(tmp_path / "weights")


@pytest.fixture
def database(tmp_path: Path, folder: Path, weights: Path) -> Path:
    path = tmp_path / "photos.db"
    embed_images(EmbedRequest(path, "images", [folder], MODEL, weights))
    return path


@pytest.fixture
def served(database: Path, weights: Path) -> Callable[..., Datasette]:
    """
    served(...) is a Datasette with weights of its own, so that nothing of them is loaded before, and
    with the settings of this plugin that are given.
    """

    def served(**plugin) -> Datasette:
        copy = weights.with_name(f"{time.monotonic_ns()}.safetensors")
        copy.write_bytes(weights.read_bytes())
        return datasette_of(database, plugin={"weights": {MODEL: str(copy)}, **plugin})

    return served


async def start(datasette: Datasette) -> None:
    """As when it is served, and wait for what nobody else waits for."""
    await datasette.invoke_startup()
    for thread in threading.enumerate():
        if thread.name == "image-search-warm-up":
            thread.join()


async def finds(datasette: Datasette, query: str) -> bool:
    response = await get(datasette, "/-/image-search/photos/images", q=query)
    return response.status_code == 200


def remove_weights(datasette: Datasette) -> None:
    settings = datasette.plugin_config("datasette-image-search")
    Path(settings["weights"][MODEL]).unlink()


@pytest.mark.asyncio
async def test_words_are_searched_with_what_was_loaded_at_the_start(
    served: Callable[..., Datasette],
):
    datasette = served()
    await start(datasette)
    remove_weights(datasette)
    assert await finds(datasette, "a red car")


@pytest.mark.asyncio
async def test_false_leaves_everything_for_the_first_search(served: Callable[..., Datasette]):
    datasette = served(warm_up=False)
    await start(datasette)
    remove_weights(datasette)
    assert not await finds(datasette, "a red car")


@pytest.mark.asyncio
async def test_vectors_of_the_named_queries_are_ready(
    served: Callable[..., Datasette], monkeypatch: pytest.MonkeyPatch
):
    datasette = served(warm_up=["a red car", "#3 + two dogs"])
    await start(datasette)

    def refuse(*args):
        raise EmbedderError("the model was asked")

    monkeypatch.setattr(ENCODE_TEXTS, refuse)
    assert await finds(datasette, "a red car")
    assert await finds(datasette, "two dogs - #5")
    assert not await finds(datasette, "a cat")


@pytest.mark.asyncio
async def test_queries_may_be_named_for_one_table(
    served: Callable[..., Datasette], database: Path, weights: Path
):
    plugins = {"plugins": {"datasette-image-search": {"warm_up": False}}}
    rules = {"databases": {"photos": {"tables": {"images": plugins}}}}
    copy = weights.with_name("table.safetensors")
    copy.write_bytes(weights.read_bytes())
    datasette = datasette_of(database, plugin={"weights": {MODEL: str(copy)}}, rules=rules)
    await start(datasette)
    remove_weights(datasette)
    assert not await finds(datasette, "a red car")


@pytest.mark.asyncio
async def test_the_index_is_open(served: Callable[..., Datasette], database: Path):
    freshness._open.clear()
    await start(served())
    assert [path for path, _ in freshness._open] == [str(database.resolve())]


@pytest.mark.asyncio
async def test_a_large_sidecar_is_checked_and_left_where_it_is_damaged(
    served: Callable[..., Datasette],
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    with closing(Database(database, execute_plugins=False)) as db:
        refresh_sidecars(db, "images")
    for module in (sidecar, checking):
        monkeypatch.setattr(module, "CHECKED_WHEN_OPENED", 0)
    monkeypatch.setattr(starting, "CHECKED_AFTER", 0.0)
    file = sidecar_of(database)
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 4)
        opened.write(bytes(8))
    freshness._open.clear()
    datasette = served()
    with caplog.at_level(logging.WARNING):
        await start(datasette)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file.name} is damaged, and is no longer searched"
    ]
    (opened_index,) = freshness._open.values()
    assert not opened_index.from_sidecar
    assert await finds(datasette, "#3")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"warm_up": ["#99"]}, "there is no image #99"),
        (
            {"weights": {}},
            "was embedded with weights of tiny-test/warm from a file; name that file",
        ),
    ],
)
@pytest.mark.asyncio
async def test_what_is_wrong_is_logged_and_no_more(
    served: Callable[..., Datasette], caplog: pytest.LogCaptureFixture, setting: dict, sentence: str
):
    datasette = served(**setting)
    with caplog.at_level(logging.WARNING):
        await start(datasette)
    (record,) = caplog.records
    assert record.getMessage().startswith("photos/images is not warmed up: ")
    assert sentence in record.getMessage()
    assert await finds(datasette, "#3")


@pytest.mark.asyncio
async def test_a_database_of_other_things_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "other.db").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        await start(datasette_of(tmp_path / "other.db", memory=True))
    assert caplog.records == []


def test_nobody_waits_for_it_in_the_end(database: Path):
    """Datasette ends while the model is loaded, and says nothing of it."""
    code = """
import asyncio, os, sys, time
from datasette.app import Datasette
from datasette_image_search.embedders import registry

def load_for_ever(request):
    # At once: print() writes the end of a line by itself, and another thread what comes before it.
    os.write(1, b"loading\\n")
    time.sleep(600)

registry._open_clip = load_for_ever
datasette = Datasette([sys.argv[1]], **{sys.argv[2]: {"plugins": {"datasette-image-search": {
    "weights": {"tiny-test/warm": sys.argv[1]}}}}})
status = asyncio.run(datasette.client.get("/photos.json")).status_code
os.write(1, f"{status}\\n".encode())
while "image-search-warm-up" not in [t.name for t in __import__("threading").enumerate()]:
    time.sleep(0.01)
time.sleep(1)
"""
    from .serving import CONFIGURATION

    done = subprocess.run(
        [sys.executable, "-c", code, str(database), CONFIGURATION],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == ["200", "loading"]


@pytest.mark.asyncio
async def test_a_line_of_the_log_is_a_line_whatever_a_table_is_called(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever made the database named it. The weights of its model are not configured here."""
    name = "x\nWARNING: all is lost \x1b[2J \u202e"
    with closing(Database(database, execute_plugins=False)) as db:
        vectors = store.ImageTable(name, "id", key_is_integer=True).vectors
        for old, new in (("images", name), ("_images_vectors", vectors)):
            db.execute(f'alter table "{old}" rename to "{new}"')
        db.execute("update image_search_indexes set image_table = ?", [name])
        db.conn.commit()
    with caplog.at_level(logging.WARNING):
        await start(datasette_of(database))
    (record,) = caplog.records
    assert r"x\nWARNING: all is lost \x1b[2J \u202e is not warmed up" in record.getMessage()
    assert record.getMessage().isprintable()


def test_a_server_does_not_start_with_an_old_sqlite(monkeypatch: pytest.MonkeyPatch):
    def too_old() -> None:
        raise ImageSearchError("this Python has SQLite 3.34")

    monkeypatch.setattr(starting, "check_sqlite", too_old)
    with pytest.raises(StartupError, match=r"this Python has SQLite 3\.34"):
        asyncio.run(Datasette(memory=True).invoke_startup())
