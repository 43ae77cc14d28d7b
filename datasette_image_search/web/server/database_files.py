"""
Checks the file of each database before each request: another file may have taken its place, or a program
may have been killed while it wrote.

Datasette keeps a connection per thread for as long as it runs, to the file that was there when the thread
first asked. If another file takes its place, old threads read the old file and new threads the new one: a
page could have rows of one file, ranked by the other. So all threads open their connections before the
first request, and again between two requests after the file was replaced.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from datasette.app import Datasette
from datasette.database import Database

from ...search.sidecar import FileState, file_state
from ...store.connections import is_left_half_written, journal_is_left, open_at_once, recover
from ..access.image_tables import image_tables
from ..compat import reopen_connections
from ..reading import forget_schema

PATIENCE = 1.0
"""Seconds that requests wait for earlier ones, which may be downloads of gigabytes without a connection."""

STEP = 0.01

TRIES = 3

App = Callable[..., Any]

logger = logging.getLogger(__name__)

_is_within: ContextVar[bool] = ContextVar("datasette-image-search-within-a-request", default=False)
"""A page may request others from its own server, which must not wait for its end."""


@dataclass(frozen=True)
class _File:
    """
    The state of a file at the path of a database, and as `schema` SQLite's version of its schema with a hash
    of the schema. If two schemas have the same version, they are of two files.
    """

    state: FileState
    schema: tuple[int, int] | None

    def is_same(self, other: _File) -> bool:
        if self.state[:2] != other.state[:2]:
            return False
        if self.schema is None or other.schema is None:
            return True
        (version, content), (other_version, other_content) = self.schema, other.schema
        return version != other_version or content == other_content


@dataclass
class _Watched:
    """The files that the connections of a Datasette read, and how many requests are at work."""

    files: dict[str, _File] = field(default_factory=dict)
    at_work: int = 0
    is_reopening: bool = False


_watched: WeakKeyDictionary[Datasette, _Watched] = WeakKeyDictionary()


def put_right(datasette: Datasette, name: str) -> None:
    """Repairs a half-written database before a new connection reads it, as the start of Datasette 1.0 does."""
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
            # Await nothing between the check and the count.
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
    files = _mutable_files(datasette)
    for _, path in files:
        if journal_is_left(path):
            await asyncio.to_thread(_recover, path)
    while watched.is_reopening:
        await asyncio.sleep(STEP)
    touched = [
        (datasette.databases[name], path)
        for name, path in files
        if not _is_untouched(path, watched.files.get(name))
    ]
    if not touched:
        return
    watched.is_reopening = True
    try:
        for database, path in touched:
            await _look_at(datasette, watched, database, path)
    finally:
        watched.is_reopening = False


async def _look_at(datasette: Datasette, watched: _Watched, database: Database, path: Path) -> None:
    before = watched.files.get(database.name)
    # Yet another file may take its place meanwhile.
    for _ in range(TRIES):
        file = await asyncio.to_thread(_file, path, before)
        if file is None:
            return
        if before is not None and file.is_same(before):
            is_read = True
        elif before is None and not await image_tables(database):
            # Databases without images are left to Datasette.
            is_read = True
        else:
            is_read = await _reopen(datasette, watched, database)
        # Else the next request tries it again.
        if is_read and _is_untouched(path, file):
            watched.files[database.name] = file
            return


async def _reopen(datasette: Datasette, watched: _Watched, database: Database) -> bool:
    deadline = time.monotonic() + PATIENCE
    while watched.at_work and time.monotonic() < deadline:
        await asyncio.sleep(STEP)
    is_reopened = await reopen_connections(datasette, database)
    forget_schema(database)
    return is_reopened


def _recover(path: Path) -> None:
    if is_left_half_written(path) and recover(path):
        logger.info(
            "%s was left half written by a program that was killed, and has been repaired", path
        )


def _mutable_files(datasette: Datasette) -> list[tuple[str, Path]]:
    return [
        (name, Path(database.path))
        for name, database in datasette.databases.items()
        if database.path is not None and database.is_mutable and not database.is_memory
    ]


def _is_untouched(path: Path, before: _File | None) -> bool:
    state = file_state(path)
    return state is None or (before is not None and before.state == state)


def _file(path: Path, before: _File | None) -> _File | None:
    """The file at the path of a database now, None if there is none. An unreadable schema is that of before."""
    state = file_state(path)
    if state is None:
        return None
    schema = before.schema if before is not None else None
    with suppress(sqlite3.Error), closing(open_at_once(path, "ro")) as conn:
        (version,) = conn.execute("pragma schema_version").fetchone()
        rows = conn.execute("select type, name, rootpage, sql from sqlite_master").fetchall()
        schema = version, hash(tuple(rows))
    return _File(state, schema)
