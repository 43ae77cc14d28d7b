"""A Datasette over a database, as tests configure and ask it."""

from __future__ import annotations

import inspect
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from datasette.app import Datasette

PLUGIN = "datasette-image-search"


def datasette_of(
    *databases: Path, plugin: Mapping | None = None, rules: Mapping | None = None, **options: Any
) -> Datasette:
    """
    `plugin` is the configuration of this plugin, `rules` is more configuration, such as who may see
    what. In 0.65 all of it is metadata.
    """
    takes_config = "config" in inspect.signature(Datasette.__init__).parameters
    written = {**(rules or {}), **({"plugins": {PLUGIN: dict(plugin)}} if plugin else {})}
    options["config" if takes_config else "metadata"] = written
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


@contextmanager
def served(database: Path, plugin: Mapping | None = None) -> Iterator[Server]:
    """A Datasette in a process and on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "datasette", "serve", str(database), "--port", str(port)]
    if plugin:
        file = database.with_suffix(".yml")
        file.write_text(yaml.safe_dump({"plugins": {PLUGIN: dict(plugin)}}))
        takes_config = "config" in inspect.signature(Datasette.__init__).parameters
        command += ["--config" if takes_config else "--metadata", str(file)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(url)
            yield Server(url, port, process.pid)
        finally:
            process.terminate()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
