"""A server that is told to end does, whatever its clients and its models are up to."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from datasette.app import Datasette

from ..conftest import copied_database
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

QUERY_PAGE = "/photos/-/query" if hasattr(Datasette, "allowed") else "/photos"

REQUESTS: dict[str, Callable[[], list[bytes]]] = {
    "words": lambda: [
        get("/-/image-search/photos/images.json?q=red"),
        get("/-/image-search/photos/images?q=red"),
        get("/photos/images?_image_search=red"),
        get(f"{QUERY_PAGE}?sql={SQL}"),
    ],
    "an upload in the model": lambda: [post(b"P6 8 8 255 " + bytes(192))],
    "an upload that is decoded": lambda: [post(bmp_of_runs(9_000_000))],
    "what does not go on": lambda: [
        post(bytes(100), length=10_000),
        b"GET / HTTP/1.1\r\nHost: ",
        # Of which nobody reads the answer.
        get("/-/image-search/photos/images/1/image"),
    ],
}
"""What is sent at once to one server: each of these alone would keep it."""


def test_a_server_ends_whatever_it_is_asked(drawn_once: Path, tmp_path: Path) -> None:
    """A server for each of REQUESTS was sent it and is told to end: all in the same seconds."""
    folder = shutil.copytree(drawn_once / "pictures", tmp_path / "pictures")
    with (folder / "black.jpg").open("ab") as file:
        file.truncate(100_000_000)
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "sleeping.py").write_text(SLEEPING)
    database = copied_database(drawn_once, folder, tmp_path)
    settings = {"roots": [str(folder)], "warm_up": False}
    arguments = ["--plugins-dir", str(plugins)]
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(served(database, settings, arguments=arguments))
            for name in REQUESTS
        }
        for name, server in servers.items():
            for request in REQUESTS[name]():
                stack.enter_context(sent(server, request))
        time.sleep(1)
        for server in servers.values():
            os.kill(server.pid, signal.SIGTERM)
        assert [name for name, server in servers.items() if not ends(server)] == []


@contextmanager
def sent(server: Server, request: bytes) -> Iterator[None]:
    """With a client that has sent a request, and waits or not."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        thread = threading.Thread(target=connection.sendall, args=[request], daemon=True)
        thread.start()
        thread.join(10)
        yield
