"""
Errors are answers, and only faults have tracebacks. If another program writes for longer than SQLite waits,
the answer says to come again.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from datasette import handle_exception, hookimpl
from datasette.app import Datasette
from datasette.plugins import pm

from datasette_image_search.web.access import image_tables
from datasette_image_search.web.errors import LOCKED

from .serving import ask, datasette_of

MENU = 'href="/-/image-search"'
PAGE = "/-/image-search/photos/images"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def datasette(database: Path, monkeypatch: pytest.MonkeyPatch) -> Datasette:
    """It does not wait the usual 5 s for other programs."""
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, **{"timeout": 0, **options})
    )
    return datasette_of(database)


@asynccontextmanager
async def locked(datasette: Datasette) -> AsyncIterator[None]:
    """Since Datasette was started."""
    await datasette.invoke_startup()
    path = datasette.get_database("photos").path
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        yield


@pytest.mark.parametrize(
    "path", [PAGE, f"{PAGE}?q=red", f"{PAGE}?width__gt=1", f"{PAGE}/map", f"{PAGE}/1/thumbnail"]
)
async def test_a_page_says_so_and_nothing_is_wrong(
    datasette: Datasette, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with locked(datasette):
        response = await ask(datasette, path)
    assert response.status_code == 503
    assert LOCKED in response.text
    assert "Traceback (most recent call last):" not in capsys.readouterr().err


@pytest.mark.parametrize("path", [f"{PAGE}.json?q=red", f"{PAGE}/map.json", f"{PAGE}/upload"])
async def test_so_does_json(datasette: Datasette, path: str) -> None:
    async with locked(datasette):
        response = await ask(datasette, path)
    assert response.status_code == 503
    assert response.json()["error"] == LOCKED


@pytest.mark.skipif(
    hasattr(Datasette, "allowed"), reason="1.0 reads the schemas of all databases for each page"
)
async def test_other_databases_are_shown_meanwhile(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if this server has seen a moment ago that there are image tables, and asks who may see them."""
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, **{"timeout": 0, **options})
    )
    other = Path(shutil.copy(database, tmp_path / "other.db"))
    datasette = datasette_of(database, other)
    async with locked(datasette):
        pass
    monkeypatch.setattr(image_tables, "FRESH", 1e9)
    path = "/-/image-search/other/images?q=red"
    assert MENU in (await ask(datasette, path)).text
    async with locked(datasette):
        assert (await ask(datasette, path)).status_code == 200


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}?q=red", f"{PAGE}.json?q=red", f"{PAGE}/map"])
async def test_a_page_that_takes_too_long_says_so(
    database: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Datasette's own queries on its way, of who may see the table, end at the time limit, too."""
    datasette = datasette_of(database)
    await ask(datasette, path)
    datasette._settings["sql_time_limit_ms"] = datasette.sql_time_limit_ms = 0
    response = await ask(datasette, path)
    assert response.status_code == 503
    assert "Traceback (most recent call last):" not in capsys.readouterr().err


async def test_then_it_answers_again(datasette: Datasette) -> None:
    async with locked(datasette):
        assert (await ask(datasette, f"{PAGE}?q=red")).status_code == 503
    assert (await ask(datasette, f"{PAGE}?q=red")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/photos/images.json",
        "/photos/images.json?_image_search=red",
        f"{PAGE}.json?q=red",
        f"{PAGE}/map.json",
        f"{PAGE}/1/thumbnail",
    ],
)
async def test_without_locks_a_search_reads_what_the_table_page_does(
    database: Path, path: str
) -> None:
    """`datasette --nolock`: for a database that a browser, say, has locked for as long as it runs."""
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        response = await ask(datasette_of(database, nolock=True), path)
    assert response.status_code == 200


class Console:
    """Stands where the package rich would be, and counts what it would print."""

    printed = 0

    def get_console(self) -> Console:
        return self

    def print_exception(self, **options: Any) -> None:
        self.printed += 1


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console()
    monkeypatch.setattr(handle_exception, "rich", console)
    return console


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/-/image-search/photos/images/999/thumbnail", 404, "There is no picture"),
        ("/-/image-search/photos/images/999/image", 404, "There is no picture"),
        ("/-/image-search/photos/nothing", 404, "There is no image table"),
        ("/-/image-search/photos/nothing.json", 404, "There is no image table"),
        ("/-/image-search/photos/nothing/map", 404, "There is no image table"),
        ("/photos/images?_image_search=sports+car", 400, "palette does not know"),
        ("/photos/images.json?_image_search=sports+car", 400, "palette does not know"),
        ("/photos/images?_image_search=red&_image_search_k=x", 400, "whole number"),
        ("/photos/images?_image_tag=cat", 400, "has no tags"),
        ("/photos/images.images?_image_search=%23999", 400, "999"),
        ("/photos/images?_sort=" + 20_000 * "x", None, "Cannot sort table by"),
        ("/photos/nothing", 404, "not found"),
        ("/nothing", 404, ""),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_somebody_asked_wrongly_is_only_answered(
    database: Path, console: Console, path: str, status: int | None, sentence: str
) -> None:
    response = await ask(datasette_of(database), path)
    # 0.65 says 500 where 1.0 says 400.
    assert response.status_code == status or status is None
    assert sentence.lower() in response.text.lower()
    assert console.printed == 0


async def test_a_missing_picture_is_a_sentence_and_no_page(database: Path) -> None:
    response = await ask(datasette_of(database), "/-/image-search/photos/images/999/thumbnail")
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text == "There is no picture '999'"


class Broken:
    __name__ = "Broken"

    @hookimpl
    def register_routes(self) -> list[tuple[str, Any]]:
        def stumble(datasette: Datasette) -> None:
            raise RuntimeError("a fault")

        return [("^/-/broken$", stumble)]


async def test_faults_are_told_as_ever(database: Path, console: Console) -> None:
    pm.register(Broken(), name="broken")
    try:
        datasette = datasette_of(database)
        response = await ask(datasette, "/-/broken")
        assert response.status_code == 500
        assert "a fault" in response.text
        assert console.printed == 1
        await ask(datasette, "/photos/nothing")
        assert handle_exception.rich is console
    finally:
        pm.unregister(name="broken")


async def test_who_debugs_is_shown_everything(
    database: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle_exception.pdb, "post_mortem", lambda traceback: None)
    datasette = datasette_of(database, pdb=True)
    assert (await ask(datasette, "/photos/nothing")).status_code == 404
    assert console.printed == 1


@pytest.mark.parametrize("path", [f"{PAGE}/nope.json", f"{PAGE}/duplicates.json"])
async def test_json_has_no_html_in_its_errors(datasette: Datasette, path: str) -> None:
    response = await ask(datasette, path)
    name = path.rpartition("/")[2]
    assert response.status_code == 404
    assert response.json()["error"] == f"There is no image '{name}' in 'images'"


async def test_so_does_a_path_below_no_table(datasette: Datasette) -> None:
    response = await ask(datasette, "/-/image-search/photos/nope/1.json")
    assert response.json()["error"] == "There is no image table 'nope' in 'photos'"
