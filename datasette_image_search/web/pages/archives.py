"""
Originals with their companions, or previews, as a ZIP of all images that a search finds: for whoever may see each of them,
streamed, and never in memory as a whole. What is missing is named in a text file in it.
"""

from __future__ import annotations

import asyncio
import io
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError

from ...errors import ImageSearchError, counted, printable
from ...quantities import bytes_in_words
from ...store import Key, reads
from ...store.companions import companions_of
from ...store.tables import Location
from ..access.requested_table import RequestedTable, requested_table
from ..configuration import max_zip_bytes
from ..media.making import Original
from ..media.pictures import NoPicture, picture_to_save
from ..media.remote_originals import read_some
from ..media.streaming import CHUNK
from ..reading import read_bounded
from ..server.threads import RETRY_AFTER, Busy
from ..urls import check_url
from .result_set import found_ids
from .search_page import shows_originals

T = TypeVar("T")

LEFT_OUT = "left out.txt"
"""The file in a ZIP that names what is not in it."""

LONGEST_NAME = 150
"""Characters of the name of a file, of 255 bytes that file systems allow."""

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""A ZIP knows no time before."""

LATEST = 2**32
"""Seconds from 1970 to 2106: a ZIP knows no year after 2107, and cameras and copies write such times."""

LARGE = 2**31 - 1
"""Bytes from which the entry of a file needs 64 bits for its size."""


TRIES = 6
"""Of a server that is too busy, RETRY_AFTER seconds apart."""


class _File(NamedTuple):
    """What goes into a ZIP: the picture of an image, or the companion at a path."""

    id: Key
    companion: str | None = None


async def archive(datasette: Datasette, request: Request) -> Response:
    """
    /-/image-search/DATABASE/TABLE/originals.zip and /previews.zip, with the query string of a search.

    Raises DatasetteError with a sentence, also for more bytes than max_zip_bytes, and for no images.
    """
    check_url(request)
    requested = await requested_table(datasette, request)
    is_preview = request.url_vars["kind"] == "previews"
    try:
        limit = max_zip_bytes(datasette, requested.database.name, requested.table.name)
        if not limit or not shows_originals(requested):
            raise _refused("there are no ZIPs of these images here; open one after the other", 404)
        ids = await found_ids(requested)
        if not ids:
            raise _refused(
                "no images were found, so there is nothing for a ZIP; search for others", 404
            )
        known = 0 if is_preview else await _known_bytes(requested, ids)
        files = [_File(id) for id in ids] if is_preview else await _with_companions(requested, ids)
    except ImageSearchError as error:
        raise _refused(str(error), 400) from error
    if known > limit:
        images = counted(len(ids), "image")
        raise _refused(
            f"{images} of {bytes_in_words(known)} are more than the {bytes_in_words(limit)} of a ZIP here; "
            "choose fewer, or their previews",
            413,
        )
    name = "previews" if is_preview else requested.name
    return _Archive(request, _zipped(requested, files, limit, is_preview=is_preview), name)


def _refused(sentence: str, status: int) -> DatasetteError:
    return DatasetteError(sentence, title="Image search", status=status)


async def _known_bytes(requested: RequestedTable, ids: Sequence[Key]) -> int:
    """Of the originals, as they were when they were embedded."""

    def read(conn: sqlite3.Connection) -> int:
        return reads.bytes_of(conn, requested.table, ids)

    return await read_bounded(requested.database, read)


async def _with_companions(requested: RequestedTable, ids: Sequence[Key]) -> list[_File]:
    def read(conn: sqlite3.Connection) -> dict[Key, list[str]]:
        return companions_of(conn, requested.table, ids)

    companions = await read_bounded(requested.database, read)
    return [_File(id, path) for id in ids for path in (None, *companions.get(id, ()))]


async def _zipped(
    requested: RequestedTable, files: Sequence[_File], limit: int, *, is_preview: bool
) -> AsyncGenerator[bytes, None]:
    """The bytes of the ZIP, in parts. What would be more than `limit` bytes of pictures is left out."""
    outgoing, left_out, taken = _Outgoing(), dict[_File, str](), {LEFT_OUT: 1}
    tries = TRIES
    # Pictures are compressed already.
    with ZipFile(outgoing, "w", ZIP_STORED) as archived:
        for file in files:
            # Also while nothing is sent, so that a client that left is noticed.
            yield b""
            save = partial(picture_to_save, requested, *file, is_preview=is_preview)
            try:
                picture = await _patiently(save, tries)
            except NoPicture as reason:
                left_out[file] = str(reason)
                continue
            except Busy:
                left_out[file] = "the server was too busy; download it again"
                # The wait for this one was the wait for all.
                tries = 1
                continue
            tries = TRIES
            with picture.file:
                if picture.size > limit:
                    left_out[file] = "the ZIP would be too large"
                    continue
                limit -= picture.size
                name = _unique(picture.name or f"{requested.table.name}-{file.id}", taken)
                entry = ZipInfo(name, _time_of(picture))
                with archived.open(entry, "w", force_zip64=picture.size > LARGE) as written:
                    left = picture.size
                    # A file that grows meanwhile is cut.
                    while left and (chunk := await _read(picture, min(CHUNK, left))):
                        written.write(chunk)
                        left -= len(chunk)
                        yield outgoing.taken()
                if left:
                    left_out[file] = "only its beginning could be read"
        if left_out:
            lines = await _named(requested, left_out)
            archived.writestr(LEFT_OUT, "".join(lines).encode(errors="replace"))
    yield outgoing.taken()


async def _patiently(ask: Callable[[], Awaitable[T]], tries: int = TRIES) -> T:
    """What `ask` gives. Raises Busy if each of the tries did."""
    for _ in range(tries - 1):
        with suppress(Busy):
            return await ask()
        await asyncio.sleep(RETRY_AFTER)
    return await ask()


def _time_of(picture: Original) -> tuple[int, int, int, int, int, int]:
    """The local time of its file, as near as a ZIP can say it; of a BLOB, now."""
    modified = time.time() if picture.modified is None else picture.modified
    return max(time.localtime(min(max(modified, 0), LATEST))[:6], EARLIEST)


async def _read(picture: Original, most: int) -> bytes:
    """The next bytes of a picture; none at its end, and if no more of it can be read."""
    try:
        return await _patiently(partial(read_some, picture.file, most))
    except (Busy, OSError):
        return b""


async def _named(requested: RequestedTable, left_out: Mapping[_File, str]) -> list[str]:
    """A line for each file: its path if it has one, else its id, and why it is not there."""

    def read(conn: sqlite3.Connection) -> dict[Key, Location]:
        return reads.locations(conn, requested.index, [file.id for file in left_out])

    try:
        places = await read_bounded(requested.database, read)
    except sqlite3.Error:
        # The ZIP is half sent.
        places = {}
    return [
        f"{printable(path or (places[id].path if id in places else f'#{id}'))}: {reason}\n"
        for (id, path), reason in left_out.items()
    ]


def _unique(name: str, taken: dict[str, int]) -> str:
    """
    The name, with a number if a file has it already; for file systems that ignore case, too. `taken` has the names in
    lower case, and the last number that was tried for each.
    """
    written = printable(name).replace("/", "_").replace("\\", "_")
    path = PurePath(written or "_")
    stem, suffix = path.stem[:LONGEST_NAME], path.suffix[:LONGEST_NAME]
    unique = f"{stem}{suffix}"
    first = unique.casefold()
    # A telephone may have called thousands of pictures image.jpg.
    number = taken.get(first, 1)
    while unique.casefold() in taken:
        number += 1
        unique = f"{stem} ({number}){suffix}"
    taken[unique.casefold()] = 1
    taken[first] = number
    return unique


class _Outgoing(io.RawIOBase):
    """A file that only grows, whose beginning is taken away and sent: a ZIP is written without going back."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self._waiting += part
        return len(part)

    def taken(self) -> bytes:
        """What was written since the last time."""
        part = bytes(self._waiting)
        self._waiting.clear()
        return part


class _Archive(Response):
    """A ZIP of unknown length, made as fast as the client takes it; it ends when the client leaves."""

    def __init__(self, request: Request, parts: AsyncGenerator[bytes, None], name: str) -> None:
        headers = {
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "content-disposition": f"attachment; filename*=UTF-8''{quote(f'{name}.zip', safe='')}",
        }
        super().__init__("", 200, headers, "application/zip")
        self._request, self._parts = request, parts

    async def asgi_send(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        if self._request.method == "HEAD":
            await super().asgi_send(send)
            return
        named = {**self.headers, "content-type": self.content_type}
        await send(
            {
                "type": "http.response.start",
                "status": self.status,
                "headers": [
                    (name.encode("latin-1"), value.encode("latin-1"))
                    for name, value in named.items()
                ],
            }
        )
        gone = asyncio.ensure_future(_left(self._request))
        try:
            async with aclosing(self._parts):
                async for part in self._parts:
                    if gone.done():
                        return
                    if part:
                        await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()


async def _left(request: Request) -> None:
    """Ends when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
