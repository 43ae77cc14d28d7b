"""Another program writes for longer than SQLite waits: who asks meanwhile is told to come again."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from datasette.app import Datasette

from datasette_image_search.web.locked import LOCKED

from .serving import ask, datasette_of

PAGE = "/-/image-search/photos/images"
pytestmark = pytest.mark.asyncio


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
