"""
Originals in storage elsewhere, for a server: only below URLs in its configuration, in few threads of each root
and for a limited time, so that slow storage stops nobody who wants something else.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote

from ...files.remote import RemoteFile, entry_of
from ...files.remote_urls import below, joined
from ...files.visiting import visiting
from ...store.tables import Location
from ..server.threads import Busy, DaemonThreads

T = TypeVar("T")

READS = 4
"""Requests to the storage of a root at a time, of the whole process. Other roots have threads of their own."""

WAITING = 200
"""The most that wait for their turn at a root."""

SECONDS = 20.0
"""For one request, with the wait for its turn."""

SILENT = 10.0
"""Seconds for which a root is not asked again after a request in whose time it answered none."""

FETCH_SECONDS = 60.0
"""For all of an original that is decoded."""

BLOCK = 1024 * 1024
"""Bytes in memory of each original that is sent."""

IN_MEMORY = 64_000
"""Bytes in memory of an original that waits to be decoded; the rest is on the disk."""

QUOTED = 5
"""How often a path may be quoted: to find out takes time."""


class _Storage:
    """The threads of a root. `answered` is when it last did, `silent_until` how long it is taken not to."""

    def __init__(self) -> None:
        self.threads = DaemonThreads(READS, "image-search-storage")
        self.places = threading.BoundedSemaphore(READS + WAITING)
        self.answered = self.silent_until = -math.inf

    def finished(self, future: Future[Any]) -> None:
        self.places.release()
        if not future.cancelled():
            self.answered = time.monotonic()
            self.silent_until = -math.inf


_storage_of = cache(lambda root: _Storage())  # Few: they are named by the configuration.


@dataclass(frozen=True)
class FoundOriginal:
    """An original that is there. `version` changes with its bytes; `modified` is in seconds since 1970, None if not told."""

    file: BinaryIO
    size: int
    version: str
    modified: float | None


def place_below(place: Location, roots: Sequence[str]) -> tuple[str, str] | None:
    """
    The URL in the configuration that an image is below, and its path there; None if there is none. Root and path are
    from the database: they are only compared, and nothing of them leads out, or means something else to storage.
    """
    url = joined(place.root, place.path)
    for root in roots:
        path = below(url, root)
        if path and _stays_below(path):
            return root, path
    return None


def _stays_below(path: str) -> bool:
    """Whether a path is one to every server, also to several in a row that each resolve what is quoted."""
    for _ in range(QUOTED):
        for part in path.split("/"):
            if part.partition(";")[0].strip() in ("", ".", ".."):
                return False
        # Libraries leave out tabs and ends of lines: ".\t." becomes "..".
        if "::" in path or re.search(r"[\\?#\x00-\x1f\x7f]", path):
            return False
        quoted, path = path, unquote(path)
        if path == quoted:
            return True
    return False


async def find_original(
    root: str, path: str, patience: float | None = None
) -> FoundOriginal | None:
    """
    None if there is none of a known size. Raises OSError if storage does not answer, within `patience` seconds if it is given; Busy if
    too many wait for it.
    """
    try:
        found = await _in_time(root, lambda: entry_of(root, path), patience)
    except FileNotFoundError:
        return None
    if found is None or found.size is None:
        return None
    known = f"{root}\n{path}\n{found.size}\n{found.state}" if found.state else secrets.token_hex()
    file = cast(BinaryIO, RemoteFile(root, path, found.size, block=BLOCK, kept=1))
    version = hashlib.sha256(known.encode()).hexdigest()[:32]
    return FoundOriginal(file, found.size, version, _seconds(found.state))


def _seconds(state: str) -> float | None:
    try:
        return datetime.fromisoformat(state).timestamp()
    except ValueError:
        return None


async def read_some(file: BinaryIO, size: int, patience: float | None = None) -> bytes:
    """The next bytes of an open file, at most `size`. Raises as find_original() does if it is in storage elsewhere."""
    if isinstance(file, RemoteFile):
        return await _in_time(file.root, lambda: file.read(size) or b"", patience)
    return await asyncio.to_thread(file.read, size)


async def fetched(file: BinaryIO, size: int) -> BinaryIO:
    """A copy of a remote file on this machine, at its beginning. Raises OSError, Busy."""
    copy = cast(BinaryIO, SpooledTemporaryFile(max_size=IN_MEMORY))  # noqa: SIM115
    try:
        file.seek(0)
        deadline = time.monotonic() + FETCH_SECONDS
        while size and (piece := await read_some(file, BLOCK)):
            await asyncio.to_thread(copy.write, piece)
            size -= len(piece)
            if time.monotonic() > deadline:
                raise OSError("storage is too slow")
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


async def _in_time(root: str, work: Callable[[], T], patience: float | None = None) -> T:
    storage, asked = _storage_of(root), time.monotonic()
    if asked < storage.silent_until:
        raise OSError("storage does not answer")
    if not storage.places.acquire(blocking=False):
        raise Busy
    future = storage.threads.submit(partial(visiting, work))
    future.add_done_callback(storage.finished)
    try:
        return await asyncio.wait_for(
            asyncio.wrap_future(future), SECONDS if patience is None else patience
        )
    except asyncio.TimeoutError as error:
        if patience is None and storage.answered < asked:
            storage.silent_until = time.monotonic() + SILENT
        # A TimeoutError of asyncio is no OSError before Python 3.11.
        raise OSError("storage does not answer") from error
