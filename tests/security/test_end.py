"""A server that is told to end does, whatever its clients and its models are up to."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from ..hostile_files import bmp_of_runs
from ..serving import Server, ends, served

pytestmark = [
    pytest.mark.datasette,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="looks at processes in /proc"
    ),
]

SLEEPING = """
import time
from datasette_image_search.embedders.palette import PaletteEmbedder

def sleep(*args, **options):
    time.sleep(120)

PaletteEmbedder.encode_texts = sleep
PaletteEmbedder.encode_images = sleep
"""
"""A plugin that makes the model as slow as the largest is to load, in which nothing interrupts it."""

UPLOAD = "/-/image-search/photos/images/upload"


def post(content: bytes, length: int | None = None) -> bytes:
    length = len(content) if length is None else length
    return (
        f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + content
    )


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


SQL = quote("select image_search('red', 3)")

REQUESTS: dict[str, Callable[[], bytes]] = {
    "words, in JSON": lambda: get("/-/image-search/photos/images.json?q=red"),
    "words, on a page": lambda: get("/-/image-search/photos/images?q=red"),
    "words, on the table page": lambda: get("/photos/images?_image_search=red"),
    "words, in SQL of 0.65": lambda: get(f"/photos?sql={SQL}"),
    "words, in SQL of 1.0": lambda: get(f"/photos/-/query?sql={SQL}"),
    "an upload in the model": lambda: post(b"P6 8 8 255 " + bytes(192)),
    "an upload that is decoded": lambda: post(bmp_of_runs(9_000_000)),
    "an upload that does not go on": lambda: post(bytes(100), length=10_000),
    "a request that does not go on": lambda: b"GET / HTTP/1.1\r\nHost: ",
    "an original that is not read": lambda: get("/-/image-search/photos/images/1/image"),
}


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=list(REQUESTS))
def test_the_server_ends_all_the_same(
    request_of: Callable[[], bytes], database: Path, folder: Path, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "sleeping.py").write_text(SLEEPING)
    with (folder / "black.jpg").open("ab") as file:
        file.truncate(100_000_000)
    settings = {"roots": [str(folder)], "warm_up": False}
    serving = served(database, settings, arguments=["--plugins-dir", str(plugins)])
    with serving as server, waiting(server, request_of()):
        os.kill(server.pid, signal.SIGTERM)
        assert ends(server)


@contextmanager
def waiting(server: Server, request: bytes) -> Iterator[None]:
    """With a client that has sent a request, and waits or not."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        thread = threading.Thread(target=connection.sendall, args=[request], daemon=True)
        thread.start()
        thread.join(10)
        time.sleep(1)
        yield
