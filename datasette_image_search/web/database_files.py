"""
What befell the file of a database, looked at before each request: another took its place, or a program was
killed while it wrote.

Datasette keeps a connection per thread for as long as it runs, to the file that was there when the thread
first asked. Moved away, that file is answered for ever, and by threads that come later not: the rows of a
page would be of one file, and what ranks them of another. So all threads open their connections before the
first request, and anew between two requests where another file is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from datasette.app import Datasette
from datasette.database import Database

from ..search.connections import is_left_half_written, recover
from .compat import reopen_connections
from .image_tables import forget_image_tables, image_tables

PATIENCE = 5.0
"""Seconds for which requests wait for those before them, as for a download of gigabytes."""

STEP = 0.01

TRIES = 3

App = Callable[..., Any]

logger = logging.getLogger(__name__)

_is_within: ContextVar[bool] = ContextVar("datasette-image-search-within-a-request", default=False)
"""A page may ask for others of its own server, which must not wait for it to end."""


@dataclass
class _Watched:
    """
    The files of a Datasette as its connections read them, which databases have images, and how many
    requests are at work.
    """

    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    with_images: set[str] = field(default_factory=set)
    at_work: int = 0
    is_reopening: bool = False


_watched: WeakKeyDictionary[Datasette, _Watched] = WeakKeyDictionary()


def put_right(datasette: Datasette, name: str) -> None:
    """A database that was left half written, before a new connection reads it: Datasette 1.0 has to, to start."""
    path = dict(_mutable_files(datasette)).get(name)
    if path is not None:
        _recover(path)


def between_requests(datasette: Datasette) -> Callable[[App], App]:
    def wrap(app: App) -> App:
        async def looked_after(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or _is_within.get():
                await app(scope, receive, send)
                return
            watched = _watched.setdefault(datasette, _Watched())
            await _look(datasette, watched)
            # Nothing is awaited from here on until it is counted.
            watched.at_work += 1
            token = _is_within.set(True)
            try:
                await app(scope, receive, send)
            finally:
                _is_within.reset(token)
                watched.at_work -= 1

        return looked_after

    return wrap


async def _look(datasette: Datasette, watched: _Watched) -> None:
    for _, path in _mutable_files(datasette):
        if path.with_name(f"{path.name}-journal").exists():
            await asyncio.to_thread(_recover, path)
    while watched.is_reopening:
        await asyncio.sleep(STEP)
    replaced = [
        (datasette.databases[name], path)
        for name, path in _mutable_files(datasette)
        if _identity(path) not in (None, watched.files.get(name))
    ]
    if not replaced:
        return
    watched.is_reopening = True
    try:
        for database, path in replaced:
            await _reopen(datasette, watched, database, path)
    finally:
        watched.is_reopening = False


async def _reopen(datasette: Datasette, watched: _Watched, database: Database, path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while watched.at_work and time.monotonic() < deadline:
        await asyncio.sleep(STEP)
    # Meanwhile yet another may take its place.
    for _ in range(TRIES):
        file = _identity(path)
        forget_image_tables(database)
        if await image_tables(database) or database.name in watched.with_images:
            watched.with_images.add(database.name)
            await reopen_connections(datasette, database)
            forget_image_tables(database)
        # Of a database without images Datasette makes what it likes.
        if file is not None and file == _identity(path):
            watched.files[database.name] = file
            return


def _recover(path: Path) -> None:
    if is_left_half_written(path) and recover(path):
        logger.info("%s was left half written by a program that was killed, and is put right", path)


def _mutable_files(datasette: Datasette) -> list[tuple[str, Path]]:
    return [
        (name, Path(database.path))
        for name, database in datasette.databases.items()
        if database.path is not None and database.is_mutable and not database.is_memory
    ]


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
