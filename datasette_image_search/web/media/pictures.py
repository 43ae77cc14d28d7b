"""Thumbnails and originals over HTTP, for those who may see the table."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, TypeVar, cast

from datasette.app import Datasette
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request, Response
from datasette.views.base import DatasetteError

from ... import store
from ...ingest.decode import DecodeError
from ...ingest.decoding_process import DecodingProcess, Limits, Stopped
from ...ingest.formats import THUMBNAIL_SIZE
from ...store import Key
from ..access.requested_table import ViewedTable, is_public, viewed_table
from ..configuration import ConfigurationError, configured_roots
from ..errors import why_not_now
from ..reading import read_bounded
from ..server.threads import RETRY_AFTER, Busy, DecodingQueue
from ..urls import VERSION
from .originals import HEAD, open_below, shown_type
from .streaming import Picture, is_known, not_modified, picture_response

T = TypeVar("T")

JPEG_SIZE = 4096
"""Pixels of the longer side, at most, of a JPEG that is made of what browsers do not show."""

JPEG_QUALITY = 90

MAX_PIXELS = 50_000_000
"""Of an original that is decoded here; telephones make 48 million. Takes 400 MB as HEIC."""

MAX_DECODED_BYTES = 128_000_000
"""Of an original that is decoded here. What browsers show is only passed on, and may have any size."""

MAX_BLOB_BYTES = 64_000_000
"""Of an original in a BLOB."""

IN_MEMORY = 64_000
"""Bytes of it while it is shown; the others wait on the disk for a client that may be slow."""

MEMORY = 400_000_000
"""Bytes, at most, while one is decoded."""

DECODING_SECONDS = 20
"""A camera RAW without a preview takes some."""

_queue = DecodingQueue("image-search-media", longest=200)
"""Of this process. A page of thumbnails that have to be made asks for all of them at once."""

_decoder = DecodingProcess(Limits(MEMORY, DECODING_SECONDS, MAX_DECODED_BYTES))


@dataclass(frozen=True)
class Asked:
    """What a request is about. `not_found` is the one answer, whatever is missing or wrong."""

    viewed: ViewedTable
    image_id: Key
    not_found: NotFound
    is_public: bool


@dataclass(frozen=True)
class Original:
    """
    An original that is open. `name` is that of its file, "" for a BLOB; `version` changes when the
    bytes do.
    """

    file: BinaryIO
    name: str
    size: int
    version: str


async def thumbnail(datasette: Datasette, request: Request) -> Response:
    """
    The stored WebP of an image; where none was stored, one that is made of the original. Whichever
    version the URL has, it is the picture of now, but only of its own version is it kept for long.
    """
    if request.method not in ("GET", "HEAD"):
        return _only_get()
    asked = await _asked(datasette, request)
    stored = await _read(
        asked, lambda conn: store.thumbnail(conn, asked.viewed.table, asked.image_id)
    )
    webp = stored.webp if stored else None
    # Others can write to the table.
    if stored and isinstance(webp, bytes) and shown_type(webp[:HEAD]) == "image/webp":
        is_lasting = stored.version is not None and stored.version == request.args.get(VERSION)
        return _answer(request, asked, webp, "image/webp", _version_of(webp), is_lasting)
    original = await _original(datasette, asked)
    return await _made(request, asked, original, _webp, "image/webp")


async def image(datasette: Datasette, request: Request) -> Response:
    """
    The original: as it is where browsers show such a picture, else as a JPEG. The same 404 for no
    row, no file, a file that no configured root allows, and a file that is no picture.
    """
    if request.method not in ("GET", "HEAD"):
        return _only_get()
    asked = await _asked(datasette, request)
    original = await _original(datasette, asked)
    content_type = shown_type(await asyncio.to_thread(original.file.read, HEAD))
    if content_type is None:
        return await _made(request, asked, original, _jpeg, "image/jpeg")
    picture = Picture(original.file, original.size, content_type, original.version, asked.is_public)
    return picture_response(request, picture)


async def _asked(datasette: Datasette, request: Request) -> Asked:
    viewed = await viewed_table(datasette, request)
    text = tilde_decode(request.url_vars["id"])
    not_found = NotFound(f"There is no picture {text!r}")
    image_id = viewed.table.parse_key(text)
    # A view has the pictures of its image table, at the URLs of that.
    if image_id is None or viewed.view is not None:
        raise not_found
    return Asked(viewed, image_id, not_found, await is_public(datasette, viewed))


async def _original(datasette: Datasette, asked: Asked) -> Original:
    """Open; raises the NotFound where there is none that may be opened."""
    viewed, image_id = asked.viewed, asked.image_id
    column = viewed.index.content_column
    if column is not None and not viewed.table.is_ours:
        return await _content(asked, column)
    try:
        roots = configured_roots(datasette, viewed.database.name, viewed.table.name)
    except ConfigurationError as error:
        raise DatasetteError(str(error), status=500) from error
    if not roots:
        raise asked.not_found
    places = await _read(asked, lambda conn: store.locations(conn, viewed.index, [image_id]))
    if image_id not in places:
        raise asked.not_found
    place = places[image_id]
    # A path of a person's own table is relative to the folder of the database.
    folder = Path(viewed.database.path or os.devnull).resolve().parent
    path = folder / place.root / place.path
    file = await asyncio.to_thread(open_below, path, roots)
    if file is None:
        raise asked.not_found
    status = os.fstat(file.fileno())
    version = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
    return Original(file, path.name, status.st_size, version)


async def _content(asked: Asked, column: str) -> Original:
    """The BLOB of an image, on the disk if it is large; empty if there is none."""
    viewed = asked.viewed
    with ExitStack() as closing:
        spooled = closing.enter_context(SpooledTemporaryFile(max_size=IN_MEMORY))
        content = cast(BinaryIO, spooled)
        size, digest = await _read(
            asked,
            lambda conn: store.copy_content(
                conn, viewed.table, column, asked.image_id, content, at_most=MAX_BLOB_BYTES
            ),
        )
        content.seek(0)
        closing.pop_all()
    # Nothing shorter than a hash tells that a BLOB has changed.
    return Original(content, "", size, digest[:32])


def _version_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


async def _read(asked: Asked, read: Callable[[sqlite3.Connection], T]) -> T:
    """What `read` reads; the NotFound where the tables are not as they were embedded any more."""
    try:
        return await read_bounded(asked.viewed.database, read)
    except sqlite3.Error as error:
        if why_not_now(error):
            raise
        raise asked.not_found from error


async def _made(
    request: Request,
    asked: Asked,
    original: Original,
    make: Callable[[Original], bytes],
    content_type: str,
) -> Response:
    """What `make` makes of the original; not made again for a browser that has it."""
    etag = f"{original.version}-{make.__name__.strip('_')}"
    with original.file:
        if is_known(request, etag):
            return not_modified(etag, asked.is_public)
        try:
            made = await _queue.run(make, original)
        except (Busy, Stopped):
            return Response.text(
                "Too many pictures are being made; ask again in some seconds",
                status=503,
                headers={"retry-after": str(RETRY_AFTER), "cache-control": "no-store"},
            )
        except DecodeError as error:
            raise asked.not_found from error
    return _answer(request, asked, made, content_type, etag)


def _webp(original: Original) -> bytes:
    return _decoder.thumbnail(
        original.file, original.name, size=THUMBNAIL_SIZE, max_pixels=MAX_PIXELS
    )


def _jpeg(original: Original) -> bytes:
    return _decoder.jpeg(
        original.file, original.name, size=JPEG_SIZE, max_pixels=MAX_PIXELS, quality=JPEG_QUALITY
    )


def _answer(
    request: Request,
    asked: Asked,
    content: bytes,
    content_type: str,
    etag: str,
    is_lasting: bool = False,
) -> Response:
    file = io.BytesIO(content)
    picture = Picture(file, len(content), content_type, etag, asked.is_public, is_lasting)
    return picture_response(request, picture)


def _only_get() -> Response:
    return Response.text(
        "Pictures can only be looked at", status=405, headers={"allow": "GET, HEAD"}
    )
