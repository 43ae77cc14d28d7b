"""Errors of whoever asks are answers; Datasette's own tracebacks are for faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasette import handle_exception, hookimpl
from datasette.app import Datasette
from datasette.plugins import pm

from .serving import ask, datasette_of

pytestmark = pytest.mark.asyncio


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
