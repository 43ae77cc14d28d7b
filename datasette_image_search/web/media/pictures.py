"""Answers with thumbnails and originals, for people who may see the table."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from mimetypes import guess_extension
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, TypeVar, cast
from urllib.parse import quote

from cachetools import LRUCache
from datasette.app import Datasette
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request, Response
from datasette.views.base import DatasetteError

from ...decoding.decoding_process import Stopped
from ...decoding.opening import DecodeError
from ...files.remote_urls import is_url
from ...store import Key, reads
from ...store.companions import companions_of
from ...store.contents import copy_content
from ...store.reads import locations
from ...store.tables import Location
from ..access.requested_table import RequestedTable, is_public, requested_table
from ..configuration import ConfigurationError, configured_roots
from ..errors import why_not_now
from ..reading import read_bounded
from ..server.threads import RETRY_AFTER, Busy
from ..urls import AT, COMPANION, DOWNLOAD, LARGE, VERSION
from . import making
from .making import Original, made_of
from .originals import HEAD, is_film_or_raw, open_below, shown_type
from .remote_originals import find_original, place_below, read_some
from .streaming import ServedPicture, is_known, not_modified, picture_response

T = TypeVar("T")

SMALL_BYTES = 400_000
"""Of an original that is its own preview, if browsers show its format."""

LATELY = 64_000_000
"""Bytes of pictures that were made of originals and are kept for whoever asks for them next."""

MADE = "image/jpeg"
"""The media type of what is made of an original that browsers do not show."""

THUMBNAIL_TYPES = ("image/jpeg", "image/webp")

MAX_BLOB_BYTES = 64_000_000
"""Of an original in a BLOB."""

IN_MEMORY = 64_000
"""Bytes of a BLOB in memory while it is sent. The rest waits on the disk for a client that may be slow."""

ORIGINAL_TYPE_SECONDS = 1.0
"""For storage elsewhere, of which a page only wants to know what it has."""

BUSY = 503
"""The status of an answer without a picture, for want of time."""

NOT_THERE = "there is no picture that may be opened"

_lately: LRUCache[str, bytes] = LRUCache(LATELY, getsizeof=len)
"""Of this process: what was made, by its ETag. It is looked into after the original was opened, as permissions want it."""


class NoPicture(Exception):
    """There is no picture to save, and why, to follow the name of its file."""


@dataclass(frozen=True)
class RequestedImage:
    """
    The image that a request names. `not_found` is the one answer to everything that is missing or wrong. `patience` are
    the seconds that storage elsewhere has for an answer, if they are fewer than usual.
    """

    requested: RequestedTable
    image_id: Key
    not_found: NotFound
    is_public: bool
    patience: float | None = None


async def thumbnail(datasette: Datasette, request: Request) -> Response:
    """
    The stored thumbnail of an image, or one that is made of the original: also a larger one, if the URL asks for it and
    there is an original. It is always the present picture, but caches keep it for long only if the URL has its version.
    """
    if request.method not in ("GET", "HEAD"):
        return _only_get()
    asked = await _asked(datasette, request)
    if request.args.get(LARGE) and (large := await _large_thumbnail(request, asked)) is not None:
        return large
    at = _seconds(request.args.get(AT))
    stored = await _read(
        asked, lambda conn: reads.thumbnail(conn, asked.requested.table, asked.image_id, at)
    )
    # Other programs can write anything to the table.
    picture = stored.picture if stored and isinstance(stored.picture, bytes) else b""
    content_type = shown_type(picture[:HEAD])
    if stored and content_type in THUMBNAIL_TYPES:
        is_lasting = (
            stored.version is not None
            and stored.version == request.args.get(VERSION)
            # The original may be back tomorrow.
            and LARGE not in request.args
        )
        etag = hashlib.sha256(picture).hexdigest()[:32]
        return _answer(request, asked, picture, content_type, etag, is_lasting)
    return await _made(request, asked, await _original(asked), making.thumbnail)


async def _large_thumbnail(request: Request, asked: RequestedImage) -> Response | None:
    """None if there is no original, or no time to make it: the small one is better than none."""
    try:
        response = await _made(request, asked, await _original(asked), making.large_thumbnail)
    except (NotFound, DatasetteError):
        return None
    return None if response.status == BUSY else response


def _seconds(text: str | None) -> float | None:
    """None for other texts, and without one."""
    return float(text) if text and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else None


async def image(datasette: Datasette, request: Request) -> Response:
    """
    The original as it is, or as a JPEG if browsers do not show its format; with _dl as a file to save, as it is. The
    same 404 for a missing row, a missing file, a file that no configured root allows, and a file that is no picture.
    """
    if request.method not in ("GET", "HEAD"):
        return _only_get()
    asked = await _asked(datasette, request)
    original = await _original(asked, request.args.get(COMPANION))
    head = await _head(original)
    content_type = shown_type(head)
    if request.args.get(DOWNLOAD):
        is_known_kind = content_type is not None or is_film_or_raw(head, original.name)
        return await _download(request, asked, original, is_known_kind)
    if content_type is None:
        return await _made(request, asked, original, making.jpeg)
    picture = ServedPicture(
        original.file, original.size, content_type, original.version, asked.is_public
    )
    return picture_response(request, picture)


async def _download(
    request: Request, asked: RequestedImage, original: Original, is_known_kind: bool
) -> Response:
    if not is_known_kind:
        # Whatever has not the header of a picture stays here.
        with ExitStack() as closing:
            closing.push(original.file)
            try:
                await made_of(original, making.header)
            except (Busy, Stopped):
                return _try_again()
            except DecodeError as error:
                raise asked.not_found from error
            closing.pop_all()
    picture = ServedPicture(
        original.file,
        original.size,
        "application/octet-stream",
        original.version,
        asked.is_public,
    )
    response = picture_response(request, picture)
    name = original.name or f"{asked.requested.table.name}-{asked.image_id}"
    response.headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return response


async def original_type(
    requested: RequestedTable, image_id: Key, companion: str | None = None
) -> str | None:
    """
    The media type of the original of an image, or of a companion, if browsers show it, "" if it is made into a JPEG;
    None if there is no original that may be opened, or none that storage elsewhere tells of soon.
    """
    asked = RequestedImage(requested, image_id, NotFound(""), False, ORIGINAL_TYPE_SECONDS)
    try:
        original = await _original(asked, companion)
        with original.file:
            return shown_type(await _head(original, asked.patience)) or ""
    except (NotFound, DatasetteError):
        return None


async def picture_to_save(
    requested: RequestedTable, image_id: Key, companion: str | None = None, *, is_preview: bool
) -> Original:
    """
    The original of an image, or a companion, at its beginning, or its preview as a JPEG unless it is small; with a name
    that ends as its kind does. Raises NoPicture, also for what `image` and `preview` answer with 404, and Busy.
    """
    asked = RequestedImage(requested, image_id, NotFound(""), is_public=False)
    try:
        return await _to_save(asked, companion, is_preview)
    except Stopped as error:
        raise NoPicture("the server was stopping; download it again") from error
    except (NotFound, DecodeError) as error:
        raise NoPicture(NOT_THERE) from error
    except DatasetteError as error:
        reason = "its storage does not answer; download it again"
        raise NoPicture(reason if error.status == BUSY else NOT_THERE) from error
    except sqlite3.Error as error:
        raise NoPicture(why_not_now(error) or NOT_THERE) from error
    except OSError as error:
        # Without the path, which may be of another folder.
        raise NoPicture(f"it could not be read: {error.strerror}") from error


async def _to_save(asked: RequestedImage, companion: str | None, is_preview: bool) -> Original:
    original = await _original(asked, companion)
    with ExitStack() as closing:
        closing.push(original.file)
        head = await _head(original)
        content_type = shown_type(head)
        name = original.name or f"{asked.requested.table.name}-{asked.image_id}"
        if not original.name:
            name += guess_extension(content_type or "") or ""
        if is_preview and _is_made(original, content_type):
            made = await made_of(original, making.preview)
            jpeg = f"{Path(name).stem}.jpg"
            return replace(original, file=io.BytesIO(made), name=jpeg, size=len(made))
        if content_type is None and not is_film_or_raw(head, original.name):
            await made_of(original, making.header)
        original.file.seek(0)
        closing.pop_all()
    return replace(original, name=name)


def _is_made(original: Original, content_type: str | None) -> bool:
    """Whether its preview is another picture than the original."""
    is_film = content_type is not None and content_type.startswith("video/")
    return content_type is None or is_film or original.size > SMALL_BYTES


async def preview(datasette: Datasette, request: Request) -> Response:
    """The original as a JPEG no larger than a screen, or as it is if it is small. 404s as for `image`."""
    if request.method not in ("GET", "HEAD"):
        return _only_get()
    asked = await _asked(datasette, request)
    original = await _original(asked)
    content_type = shown_type(await _head(original))
    if content_type is None or _is_made(original, content_type):
        return await _made(request, asked, original, making.preview)
    picture = ServedPicture(
        original.file, original.size, content_type, original.version, asked.is_public
    )
    return picture_response(request, picture)


async def _asked(datasette: Datasette, request: Request) -> RequestedImage:
    requested = await requested_table(datasette, request)
    text = tilde_decode(request.url_vars["id"])
    not_found = NotFound(f"There is no picture {text!r}")
    image_id = requested.table.parse_key(text)
    # A view has no pictures of its own: their URLs are those of its image table.
    if image_id is None or requested.view is not None:
        raise not_found
    return RequestedImage(requested, image_id, not_found, await is_public(requested))


async def _original(asked: RequestedImage, companion: str | None = None) -> Original:
    """The open original, or a companion that the row names. Raises the NotFound if none may be opened."""
    requested, image_id = asked.requested, asked.image_id
    column = requested.index.content_column
    if companion is not None:
        named = await _read(asked, lambda conn: companions_of(conn, requested.table, [image_id]))
        if companion not in named.get(image_id, ()):
            raise asked.not_found
    if column is not None:
        return await _content(asked, column)
    try:
        names = requested.database.name, requested.table.name
        allowed = configured_roots(requested.datasette, *names)
    except ConfigurationError as error:
        raise DatasetteError(str(error), status=500) from error
    if not allowed:
        raise asked.not_found
    places = await _read(asked, lambda conn: locations(conn, requested.index, [image_id]))
    if image_id not in places:
        raise asked.not_found
    place = places[image_id]
    if is_url(place.root):
        at = replace(place, path=companion or place.path)
        return await _remote_original(asked, at, allowed)
    roots = [each for each in allowed if isinstance(each, Path)]
    # A path of a person's own table is relative to the folder of the database.
    folder = Path(requested.database.path or os.devnull).resolve().parent
    path = folder / place.root / (companion or place.path)
    file = await asyncio.to_thread(open_below, path, roots)
    if file is None:
        raise asked.not_found
    status = os.fstat(file.fileno())
    parts = status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
    version = "-".join(f"{part:x}" for part in parts)
    return Original(file, path.name, status.st_size, version, status.st_mtime)


async def _remote_original(
    asked: RequestedImage, place: Location, allowed: Sequence[Path | str]
) -> Original:
    where = place_below(place, [root for root in allowed if isinstance(root, str)])
    with _answering():
        found = await find_original(*where, asked.patience) if where is not None else None
    if found is None:
        raise asked.not_found
    name = place.path.rpartition("/")[2]
    return Original(found.file, name, found.size, found.version, found.modified)


async def _head(original: Original, patience: float | None = None) -> bytes:
    """The first bytes. Raises DatasetteError if they cannot be had."""
    with _answering():
        return await read_some(original.file, HEAD, patience)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (Busy, OSError) as error:
        message = "The storage of this picture does not answer; try again later"
        raise DatasetteError(message, status=BUSY) from error


async def _content(asked: RequestedImage, column: str) -> Original:
    """The BLOB of an image, on the disk if it is large, empty if there is none."""
    requested = asked.requested
    with ExitStack() as closing:
        spooled = closing.enter_context(SpooledTemporaryFile(max_size=IN_MEMORY))
        content = cast(BinaryIO, spooled)
        size, digest = await _read(
            asked,
            lambda conn: copy_content(
                conn, requested.table, column, asked.image_id, content, at_most=MAX_BLOB_BYTES
            ),
        )
        content.seek(0)
        closing.pop_all()
    # Only a hash tells whether a BLOB has changed.
    return Original(content, "", size, digest[:32])


async def _read(asked: RequestedImage, read: Callable[[sqlite3.Connection], T]) -> T:
    """The result of `read`. Raises the NotFound if the tables are no longer as they were embedded."""
    try:
        return await read_bounded(asked.requested.database, read)
    except sqlite3.Error as error:
        if why_not_now(error):
            raise
        raise asked.not_found from error


async def _made(
    request: Request,
    asked: RequestedImage,
    original: Original,
    make: Callable[[Original], bytes],
) -> Response:
    """The picture that `make` makes of the original, or a 304 for a browser that has it."""
    etag = f"{original.version}-{make.__name__}"
    with original.file:
        if is_known(request, etag):
            return not_modified(etag, asked.is_public)
        try:
            made = _lately.get(etag)
            if made is None:
                made = _lately[etag] = await made_of(original, make)
        except (Busy, Stopped):
            return _try_again()
        except DecodeError as error:
            raise asked.not_found from error
    return _answer(request, asked, made, shown_type(made[:HEAD]) or MADE, etag)


def _try_again() -> Response:
    return Response.text(
        "Too many pictures are being made; try again in a few seconds",
        status=BUSY,
        headers={"retry-after": str(RETRY_AFTER), "cache-control": "no-store"},
    )


def _answer(
    request: Request,
    asked: RequestedImage,
    content: bytes,
    content_type: str,
    etag: str,
    is_lasting: bool = False,
) -> Response:
    file = io.BytesIO(content)
    picture = ServedPicture(file, len(content), content_type, etag, asked.is_public, is_lasting)
    return picture_response(request, picture)


def _only_get() -> Response:
    return Response.text(
        "Pictures can only be read, with GET or HEAD", status=405, headers={"allow": "GET, HEAD"}
    )
