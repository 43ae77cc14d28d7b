"""A web server cannot have this one ask another host for a visitor, or read more than it wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from datasette_image_search.files import remote
from datasette_image_search.files.remote import RemoteFile, entry_of, read_remote
from datasette_image_search.files.visiting import visiting
from datasette_image_search.web.media.remote_originals import find_original

CONTENT = bytes(range(250)) * 4


class _Server(ThreadingHTTPServer):
    """`asked` has the paths that it was asked for; "far.jpg" sends the reader to `other`."""

    asked: list[str]
    other: str


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        name = self.path.rpartition("/")[2]
        if name in ("near.jpg", "far.jpg"):
            host = self.server.other if name == "far.jpg" else ""
            self.send_response(302)
            self.send_header("Location", f"{host}/photos/whole.jpg")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        is_part = name == "parts.jpg" and bool(first)
        content = CONTENT[int(first) : int(last) + 1] if is_part else CONTENT
        self.send_response(206 if is_part else 200)
        if name != "untold.jpg":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[_Server]]:
    """Two, of which the first sends its reader to the second."""
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    running = [_Server(("127.0.0.1", 0), _Handler) for _ in range(2)]
    for server in running:
        server.asked = []
        server.other = f"http://127.0.0.1:{running[1].server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def root(servers: list[_Server]) -> str:
    return f"http://127.0.0.1:{servers[0].server_port}/photos"


def test_no_other_host_is_asked_for_a_visitor(servers: list[_Server], root: str):
    with pytest.raises(FileNotFoundError):
        visiting(lambda: entry_of(root, "far.jpg"))
    with pytest.raises(OSError, match="another host"):
        visiting(lambda: RemoteFile(root, "far.jpg", 1000, block=1000, kept=1).read(10))
    assert servers[1].asked == []
    assert servers[0].asked


def test_another_place_on_the_same_host_is(root: str):
    near = visiting(lambda: RemoteFile(root, "near.jpg", 1000, block=1000, kept=1).read(10))
    assert near == CONTENT[:10]


def test_a_run_goes_where_it_is_sent(servers: list[_Server], root: str):
    assert read_remote(root, "far.jpg", 1000) == CONTENT
    assert servers[1].asked == ["/photos/whole.jpg"]


@pytest.mark.parametrize("name", ["whole.jpg", "untold.jpg"])
def test_a_whole_file_instead_of_a_part_is_not_read(root: str, name: str):
    with pytest.raises(OSError, match="no parts of files"):
        visiting(lambda: RemoteFile(root, name, 1000, block=100, kept=1).read(10))


def test_parts_are_read(root: str):
    file = RemoteFile(root, "parts.jpg", 1000, block=100, kept=1)
    assert visiting(lambda: [file.read(200) for _ in range(2)]) == [CONTENT[:100], CONTENT[100:200]]


@pytest.mark.asyncio
async def test_an_original_whose_size_is_not_told_is_not_served(root: str):
    assert await find_original(root, "untold.jpg") is None
    found = await find_original(root, "parts.jpg")
    assert found is not None
    assert found.size == 1000
