"""What a search needs first: who waits for it together, and what is forgotten when they leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from datasette.app import Datasette

from datasette_image_search.web.server import preparing
from datasette_image_search.web.server.preparing import MOST_RUNNING, THREADS

from .serving import HANGS, datasette_of

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


class Visitor:
    """Somebody who asks for a page, waits for it, and may leave before it comes."""

    def __init__(self, datasette: Datasette, path: str, **params: str) -> None:
        self.status: int | None = None
        self.left = asyncio.Event()
        self.sent: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]
        query = "&".join(f"{name}={quote(value)}" for name, value in params.items())
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost")],
        }
        self.asking = asyncio.ensure_future(datasette.app()(scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        if self.sent:
            return self.sent.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)


@pytest.fixture
def datasette(database: Path) -> Datasette:
    return datasette_of(database, plugin={"warm_up": False})


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, opened: threading.Event) -> Iterator[list[str]]:
    """The queries that were begun with, none of which is done before `opened` is set."""
    begun: list[str] = []
    prepare = preparing.prepare_words

    def slowly(index: Any, query: str, weights_of: Any) -> None:
        begun.append(query)
        assert opened.wait(HANGS)
        prepare(index, query, weights_of)

    monkeypatch.setattr(preparing, "prepare_words", slowly)
    yield begun
    opened.set()


@pytest.fixture
def opened() -> threading.Event:
    return threading.Event()


async def until_begun(prepared: list[str], number: int = THREADS) -> None:
    while len(prepared) < number:
        await asyncio.sleep(0.01)


JSON_PAGE = "/-/image-search/photos/images.json"
PLACES = [
    (JSON_PAGE, "q"),
    ("/photos/images.json", "_image_search"),
    ("/-/image-search/photos/images/map.json", "q"),
]


@pytest.mark.parametrize(("path", "parameter"), PLACES, ids=["search", "table", "map"])
async def test_what_has_not_begun_is_forgotten_when_those_who_asked_have_left(
    datasette: Datasette,
    prepared: list[str],
    opened: threading.Event,
    path: str,
    parameter: str,
) -> None:
    await datasette.invoke_startup()
    first = [Visitor(datasette, JSON_PAGE, q=query) for query in ("dark red", "dark blue")]
    await until_begun(prepared)
    crowd = [
        Visitor(datasette, path, **{parameter: f"{number} red"})
        for number in range(MOST_RUNNING - 2)
    ]
    while len(preparing._running) < MOST_RUNNING:
        await asyncio.sleep(0.01)
    late = Visitor(datasette, JSON_PAGE, q="green")
    await late.asking
    assert late.status != 200
    for visitor in crowd:
        visitor.left.set()
    await asyncio.gather(*(visitor.asking for visitor in crowd))
    again = Visitor(datasette, JSON_PAGE, q="green")
    await asyncio.sleep(0)
    opened.set()
    await asyncio.gather(again.asking, *(visitor.asking for visitor in first))
    assert [again.status, *(visitor.status for visitor in first)] == [200] * 3
    assert sorted(prepared) == ["dark blue", "dark red", "green"]
    assert not preparing._waiting


async def test_what_another_waits_for_goes_on_when_one_of_them_leaves(
    datasette: Datasette, prepared: list[str], opened: threading.Event
) -> None:
    await datasette.invoke_startup()
    first = [Visitor(datasette, JSON_PAGE, q=query) for query in ("dark red", "dark blue")]
    await until_begun(prepared)
    one, other = (Visitor(datasette, JSON_PAGE, q="dark green") for _ in range(2))
    while len(preparing._running) < 3 or sum(preparing._waiting.values()) < 4:
        await asyncio.sleep(0.01)
    for leaving in (one, first[0]):
        leaving.left.set()
        await leaving.asking
    opened.set()
    await asyncio.gather(other.asking, first[1].asking)
    assert (other.status, first[1].status) == (200, 200)
    assert "dark green" in prepared
    assert not preparing._waiting
