"""Datasettes for tests, what they are asked, and what is read off their pages, in 0.65 and 1.0 alike."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml
from datasette.app import Datasette

from . import only_ours

PLUGIN = "datasette-image-search"

CONFIGURATION = "config" if hasattr(Datasette, "allowed") else "metadata"
"""What 0.65 calls metadata."""


HANGS = 300
"""Seconds after which something counts as hanging, also beside much other work on the machine."""

PATIENT_SETTINGS = {"sql_time_limit_ms": 60_000, "facet_time_limit_ms": 60_000}
"""Settings under which nothing is cut short because the machine is busy with other tests."""

PATIENTLY = [
    part for name, limit in PATIENT_SETTINGS.items() for part in ("--setting", name, str(limit))
]
"""The same on a command line."""


def datasette_of(
    *databases: Path, plugin: Mapping | None = None, rules: Mapping | None = None, **options: Any
) -> Datasette:
    """
    `plugin` is the configuration of this plugin, `rules` is more configuration, such as who may see
    what. In 0.65 all of it is metadata.
    """
    written = {**(rules or {}), **({"plugins": {PLUGIN: dict(plugin)}} if plugin else {})}
    options[CONFIGURATION] = written
    return Datasette([str(path) for path in databases], **options)


async def ask(
    datasette: Datasette,
    path: str,
    actor: str | None = None,
    method: str = "GET",
    content: Any = None,
    **headers: str,
) -> httpx.Response:
    """Headers are written with underscores: if_none_match="..."."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    cookies = {}
    if actor is not None:
        cookies["ds_actor"] = datasette.sign({"a": {"id": actor}}, "actor")
    if actor is not None and method not in ("GET", "HEAD"):
        # What 0.65 gives to a page and wants back.
        cookies["ds_csrftoken"] = datasette.sign("any secret", "csrftoken")
        sent["x-csrftoken"] = cookies["ds_csrftoken"]
    more = {"content": content} if content is not None else {}
    return await datasette.client.request(method, path, cookies=cookies, headers=sent, **more)


@dataclass(frozen=True)
class Server:
    url: str
    port: int
    pid: int

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes; "VmHWM" is the most there ever was."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} in /proc")

    def forget_peak(self) -> None:
        """From now on "VmHWM" is the most since now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def memory_of_all(self) -> int:
        """Bytes of the server and of the processes that it has started."""
        pages = 0
        for pid in (str(self.pid), *self._started()):
            with suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _started(self) -> Iterator[str]:
        """What its threads have started. To look at all processes of the machine takes ten times as long."""
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(OSError):
                yield from (thread / "children").read_text().split()

    @contextmanager
    def watched(self) -> Iterator[Callable[[], int]]:
        """Gives what tells the most memory of all since."""
        most, ended = [self.memory_of_all()], threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                most[0] = max(most[0], self.memory_of_all())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield lambda: most[0]
        finally:
            ended.set()
            thread.join()

    def is_running(self) -> bool:
        return is_running(self.pid)


def ends(server: Server) -> bool:
    """Whether it ends, which takes some seconds; what its requests wait for may take minutes."""
    deadline = time.monotonic() + HANGS
    while server.is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not server.is_running()


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended, whoever waits for it."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@contextmanager
def served(
    database: Path,
    plugin: Mapping | None = None,
    python: Sequence[str] = (sys.executable,),
    arguments: Sequence[str] = (),
    **options: Any,
) -> Iterator[Server]:
    """A Datasette in a process and on a port of its own; the options are those of Popen."""
    command = [*python, only_ours.__file__, "serve", str(database), *PATIENTLY, *arguments]
    if plugin:
        file = database.with_suffix(".yml")
        file.write_text(yaml.safe_dump({"plugins": {PLUGIN: dict(plugin)}}))
        command += [f"--{CONFIGURATION}", str(file)]
    with running(command, **options) as server:
        yield server


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[Server]:
    """What a command serves that is given a port; the options are those of Popen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([*command, "--port", str(port)], **options) as process:
        try:
            # Datasette's first page counts rows, which computes every column that is computed.
            _wait_for(f"{url}/-/versions.json")
            yield Server(url, port, process.pid)
        finally:
            process.terminate()


@contextmanager
def served_here(datasette: Datasette) -> Iterator[str]:
    """
    Its URL, on a port of its own. A thread of this process answers: one of its own would take a second of a processor to import
    what this one has.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(datasette.app(), lifespan="on", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            only_ours.close(datasette)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + HANGS
    while True:
        try:
            urllib.request.urlopen(url, timeout=HANGS).close()
            return
        except (urllib.error.URLError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


async def get(
    datasette: Datasette, path: str, actor: str | None = None, **params: Any
) -> httpx.Response:
    await datasette.invoke_startup()
    cookies = {}
    if actor is not None:
        cookies["ds_actor"] = datasette.sign({"a": {"id": actor}}, "actor")
    return await datasette.client.get(path, params=params or None, cookies=cookies)


async def query_page(
    datasette: Datasette, sql: str, extension: str = "", actor: str | None = None, **params: Any
) -> httpx.Response:
    """The page of a query on the database photos; it moved in 1.0."""
    path = "/photos/-/query" if hasattr(datasette, "allowed") else "/photos"
    return await get(datasette, path + extension, actor, sql=sql, **params)


def pictures(response: httpx.Response) -> list[str]:
    """The names of the pictures on a page, in its order."""
    return re.findall(r'<img [^>]*alt="([^"]*)"', response.text)
