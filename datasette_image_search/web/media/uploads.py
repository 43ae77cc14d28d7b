"""
Search by an uploaded picture: it becomes a `vec:` term, and is not kept.

The body of the POST is the picture itself. (Datasette 0.65 cannot receive a form with a file if there is a
cookie, and a page can send the bytes as well.)
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any, BinaryIO

import numpy as np
from datasette.app import Datasette
from datasette.utils.asgi import NotFound, Request, Response

from ...decoding.decode import reduction
from ...decoding.decoding_process import DecodingProcess, Limits, Stopped, StoredPicture
from ...decoding.formats import FILM_FORMATS
from ...decoding.opening import DecodeError, DecodeSettings, TooLarge
from ...errors import ImageSearchError
from ...search.query import embedder_of, vector_to_term
from ...store import Index
from ...store.indexes import WeightsOf
from ..access.requested_table import requested_table
from ..compat import csrf_token
from ..configuration import ConfigurationError, configured_weights, max_upload_bytes
from ..errors import why_not_now
from ..server.threads import RETRY_AFTER, Busy, DecodingQueue
from .receiving import UploadRefused, received

AT_ONCE = 16
"""Uploads in this process that wait for their turn. They wait on the disk."""

MEMORY = 100_000_000
"""The most bytes for an upload and its pixels while it is decoded, one upload at a time. The decoding process
ends if it takes more than twice that."""

DECODING_SECONDS = 10

BYTES_OF_FILM = 30
"""The same for a film, of which several frames are in memory."""

BYTES_PER_PIXEL = {
    "WEBP": 16,
    "AVIF": 10,
    "JPEG2000": 20,
    **dict.fromkeys(FILM_FORMATS, BYTES_OF_FILM),
}
"""Memory while a picture is decoded, as measured, for formats that need more than USUAL_BYTES."""

USUAL_BYTES = 8

BYTES_UNREDUCED = 20
"""The same for a picture that is too narrow to be reduced right after it is decoded."""

_queue = DecodingQueue("image-search-uploads", longest=AT_ONCE)
_decoder = DecodingProcess(Limits(2 * MEMORY, DECODING_SECONDS, MEMORY))


async def upload(datasette: Datasette, request: Request) -> Response:
    """
    POST answers with the vector of a picture as {"query": "vec:..."}, or with {"error": ...}.
    GET answers with what a page needs first: the token to send as x-csrftoken, and the most bytes of a
    picture. Nothing is written, so everybody who may see the table may do this.
    """
    try:
        requested = await requested_table(datasette, request)
        limit = max_upload_bytes(datasette, requested.database.name, requested.table.name)
        if request.method in ("GET", "HEAD"):
            return _json({"csrftoken": csrf_token(request), "max_bytes": limit})
        if request.method != "POST":
            return _json(
                {"error": "POST a picture to search with it"}, 405, {"allow": "GET, HEAD, POST"}
            )
        async with received(request, limit) as file:
            vector = await _queue.run(
                _vector_of, file, requested.index, configured_weights(datasette)
            )
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
            {"error": "too many pictures are being uploaded; try again in a few seconds"},
            503,
            {"retry-after": str(RETRY_AFTER)},
        )
    return _json({"query": vector_to_term(vector)})


def _json(
    content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    safe = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response.json(content, status=status, headers={**safe, **(headers or {})})


def _vector_of(file: BinaryIO, index: Index, weights_of: WeightsOf) -> np.ndarray:
    """
    Shape (dimensions,); of a film that of its longest scene. Checks that the file is a picture or film before it loads
    the model.
    """
    try:
        file.seek(0, os.SEEK_END)
        left = max(MEMORY - file.tell(), 0)
        stored = _decoder.stored_picture(file, "", max_pixels=left // USUAL_BYTES)
        embedder = embedder_of(index, weights_of)
        settings = DecodeSettings(embedder.preprocess, embedder.image_size, thumbnail_size=None)
        picture = _decoder.model_picture(
            file,
            "",
            image_size=embedder.image_size,
            max_pixels=left // _bytes_per_pixel(stored, settings),
        )
    except TooLarge as error:
        raise UploadRefused(
            "the picture has too many pixels, or takes too long to decode; make it smaller first",
            413,
        ) from error
    except Stopped as error:
        raise Busy from error
    except DecodeError as error:
        raise UploadRefused(str(error), 415) from error
    return embedder.encode_images(embedder.preprocess(picture)[None])[0]


def _bytes_per_pixel(stored: StoredPicture, settings: DecodeSettings) -> int:
    if stored.format not in FILM_FORMATS and reduction(stored.size, settings) == 1:
        return BYTES_UNREDUCED
    return BYTES_PER_PIXEL.get(stored.format, USUAL_BYTES)
