"""Photos behind a web server that lists names only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .commands import command, query

ASKED: list[str] = []


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        ASKED.append(f"{self.command} {self.path}")


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """Of `folder`, with two of the pictures in a folder with a space in its name."""
    (folder / "last summer").mkdir()
    for name in ("red.jpg", "blue.jpg"):
        (folder / name).rename(folder / "last summer" / name)
    handler = partial(_Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_folders_of_a_web_server(url: str, path: Path, folder: Path):
    def embed(place: str) -> str:
        ASKED.clear()
        result = command("embed-images", path, "images", place, "--model", "palette", "-s")
        return result.output.splitlines()[-1].partition(" in ")[0]

    assert embed(url) == "8 embedded, 0 unchanged, 0 failed"
    assert query(path, "select path from images where path like '%red.jpg'") == [
        ("last%20summer/red.jpg",)
    ]
    assert embed(f"{url}/") == "0 embedded, 8 unchanged, 0 failed"
    # For each picture one look, which is not to read it.
    assert sum(asked.startswith("HEAD") for asked in ASKED) == 8
    assert not any(asked.startswith("GET") and asked.endswith(".jpg") for asked in ASKED)

    (folder / "last summer" / "red.jpg").unlink()
    assert embed(url) == "0 embedded, 1 gone, 7 unchanged, 0 failed"
    assert embed(f"{url}/white.jpg") == "0 embedded, 1 unchanged, 0 failed"
    assert sum(asked.startswith("HEAD") for asked in ASKED) == 2
    assert "there is nothing at" in embed(f"{url}/nowhere")
