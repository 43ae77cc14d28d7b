"""
Search by a picture that is uploaded: it becomes a `vec:` term, and is kept nowhere.

The body of the POST is the picture itself. (Datasette 0.65 cannot take a form with a file in it when
there is a cookie, and a page can send the bytes just as well.)
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
from datasette.app import Datasette
from datasette.utils.asgi import NotFound, Request, Response

from ..errors import ImageSearchError
from ..ingest.decode import (
    DecodeError,
    DecodeSettings,
    TooLarge,
    decode_bytes,
    reduction,
    stored_size,
)
from ..search.query import WeightsOf, embedder_of, vector_to_term
from ..store import Index
from .access import viewed_table
from .compat import csrf_token
from .configuration import ConfigurationError, configured_weights, max_upload_bytes
from .decoding import RETRY_AFTER, Busy, DecodingQueue
from .locked import why_not_now

SECONDS = 120
"""That an upload may take to arrive."""

AT_ONCE = 16
"""Uploads that arrive, or wait for their turn, in this process. They wait on the disk."""

IN_MEMORY = 1_000_000
"""Bytes of an upload that arrive without touching the disk."""

MEMORY = 100_000_000
"""Bytes, at most, for an upload and its pixels while it is decoded: one at a time."""

BYTES_PER_PIXEL = {"WEBP": 16, "AVIF": 10, "JPEG2000": 20}
"""Of memory while a picture is decoded, as measured; by format, where it is more than USUAL_BYTES."""

USUAL_BYTES = 8

BYTES_UNREDUCED = 20
"""The same of a picture that is too narrow to be made smaller right after it is decoded."""

_queue = DecodingQueue("image-search-uploads", longest=AT_ONCE)
_places = threading.BoundedSemaphore(AT_ONCE)
"""Of this process."""


class UploadRefused(ImageSearchError):
    """An upload that is not looked at, or is no picture; `status` is that of the answer."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


async def upload(datasette: Datasette, request: Request) -> Response:
    """
    POST: the vector of a picture as {"query": "vec:..."}, or what is wrong as {"error": ...}.
    GET: what a page needs to know first: the token to send as x-csrftoken, and how large a picture
    may be. Nothing is written, so whoever may see the table may do it.
    """
    try:
        viewed = await viewed_table(datasette, request)
        limit = max_upload_bytes(datasette, viewed.database.name, viewed.table.name)
        if request.method in ("GET", "HEAD"):
            return _json({"csrftoken": csrf_token(request), "max_bytes": limit})
        if request.method != "POST":
            return _json(
                {"error": "POST a picture to search with it"}, 405, {"allow": "GET, HEAD, POST"}
            )
        async with _received(request, limit) as file:
            vector = await _queue.run(_vector_of, file, viewed.index, configured_weights(datasette))
    except NotFound as error:
        return _json({"error": str(error)}, 404)
    except UploadRefused as error:
        return _json({"error": str(error)}, error.status)
    except ConfigurationError as error:
        return _json({"error": str(error)}, 500)
    except ImageSearchError as error:
        return _json({"error": str(error)}, 400)
    except sqlite3.OperationalError as error:
        sentence = why_not_now(error)
        if sentence is None:
            raise
        return _json({"error": sentence}, 503, {"retry-after": str(RETRY_AFTER)})
    except Busy:
        return _json(
            {"error": "too many pictures are being uploaded; try again in some seconds"},
            503,
            {"retry-after": str(RETRY_AFTER)},
        )
    return _json({"query": vector_to_term(vector)})


def _json(
    content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    safe = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response.json(content, status=status, headers={**safe, **(headers or {})})


@asynccontextmanager
async def _received(request: Request, limit: int) -> AsyncIterator[IO[bytes]]:
    """
    What was uploaded, once all of it is there. Raises UploadRefused, before anything is read where
    that can be known, and Busy where there are too many others.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"(image/.*|application/octet-stream)?", content_type):
        raise UploadRefused(
            f"the upload is {content_type!r}; send the bytes of a picture as image/jpeg, or another "
            "image type, or application/octet-stream",
            415,
        )
    if _said_length(request) > limit:
        raise _too_large(limit)
    if not _places.acquire(blocking=False):
        raise Busy
    try:
        with SpooledTemporaryFile(max_size=IN_MEMORY) as file:
            try:
                await asyncio.wait_for(_receive(request, file, limit), SECONDS)
            except asyncio.TimeoutError:
                raise UploadRefused(
                    f"the upload took more than {SECONDS} seconds; try a smaller picture", 408
                ) from None
            yield file
    finally:
        _places.release()


def _said_length(request: Request) -> int:
    """What the client says that it sends, 0 where it says nothing of sense; enough to refuse it."""
    said = request.headers.get("content-length", "")
    return int(said[:18]) if re.fullmatch("[0-9]+", said) else 0


def _too_large(limit: int) -> UploadRefused:
    return UploadRefused(f"the picture has more than {limit:,} bytes; make it smaller first", 413)


async def _receive(request: Request, file: IO[bytes], limit: int) -> None:
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise UploadRefused("the upload was broken off", 400)  # Nobody will read it.
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        try:
            await asyncio.to_thread(file.write, chunk)
        except OSError as error:
            raise UploadRefused(
                "the server has no room for the upload; try again later", 507
            ) from error


def _vector_of(file: IO[bytes], index: Index, weights_of: WeightsOf) -> np.ndarray:
    """Shape (dimensions,). The model is loaded when the first picture comes, not for what is none."""
    file.seek(0)
    data = file.read()
    try:
        format, size = stored_size(data)
        embedder = embedder_of(index, weights_of)
        settings = DecodeSettings(embedder.preprocess, embedder.image_size, thumbnail_size=None)
        pixels = (MEMORY - len(data)) // _bytes_per_pixel(format, size, settings)
        settings = replace(settings, max_pixels=max(pixels, 0))
        decoded = decode_bytes(data, "", settings)
    except TooLarge as error:
        raise UploadRefused(
            "the picture has too many pixels; make it smaller first", 413
        ) from error
    except DecodeError as error:
        raise UploadRefused(str(error), 415) from error
    return embedder.encode_images(decoded.model_input[None])[0]


def _bytes_per_pixel(format: str, size: tuple[int, int], settings: DecodeSettings) -> int:
    if reduction(size, settings) == 1:
        return BYTES_UNREDUCED
    return BYTES_PER_PIXEL.get(format, USUAL_BYTES)
