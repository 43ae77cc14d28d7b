"""Makes pictures of originals: one after the other, in a process beside the server. Each function raises DecodeError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from ...decoding.decoding_process import DecodingProcess, Limits
from ...decoding.formats import THUMBNAIL_SIZE
from ...decoding.opening import DecodeError
from ...files.remote import RemoteFile
from ..server.threads import Busy, DecodingQueue
from .remote_originals import fetched

JPEG_SIZE = 4096
"""The most pixels of the longer side of a JPEG that is made of a format that browsers do not show."""

JPEG_QUALITY = 90

LARGE_THUMBNAIL_SIZE = 800
"""Pixels of the longer side of a thumbnail for a screen with small pixels."""

PREVIEW_SIZE = 1600
"""Pixels of the longer side."""

PREVIEW_QUALITY = 85

MAX_PIXELS = 50_000_000
"""Of an original that is decoded here. Telephones make 48 million. As HEIC these take 400 MB."""

MAX_DECODED_BYTES = 128_000_000
"""Of an original that is decoded here. Formats that browsers show are passed on, and may have any size."""

MEMORY = 400_000_000
"""The most bytes of memory while an original is decoded."""

DECODING_SECONDS = 20
"""A camera RAW without a preview takes several."""

_queue = DecodingQueue("image-search-media", longest=200)
"""Of this process. A page may ask for many thumbnails that have to be made, all at once."""

_decoder = DecodingProcess(Limits(MEMORY, DECODING_SECONDS, MAX_DECODED_BYTES))


@dataclass(frozen=True)
class Original:
    """
    An open original. `name` is the name of its file, "" for a BLOB. `version` changes with the bytes. `modified` is the
    time of a file, in seconds since 1970.
    """

    file: BinaryIO
    name: str
    size: int
    version: str
    modified: float | None = None


async def made_of(original: Original, make: Callable[[Original], bytes]) -> bytes:
    """What `make` makes of an original. Raises Busy, Stopped and DecodeError."""
    at_hand = await _at_hand(original)
    try:
        return await _queue.run(make, at_hand)
    finally:
        if at_hand is not original:
            at_hand.file.close()


async def _at_hand(original: Original) -> Original:
    """
    The original on this machine, so that nobody who waits for a picture waits for storage. Raises Busy if that takes too
    long, DecodeError if it is too large to be decoded.
    """
    if not isinstance(original.file, RemoteFile):
        return original
    if original.size > MAX_DECODED_BYTES:
        raise DecodeError("the file is too large to be decoded here")
    try:
        return replace(original, file=await fetched(original.file, original.size))
    except OSError as error:
        raise Busy from error


def header(original: Original) -> bytes:
    """Nothing, if it begins like a picture."""
    _decoder.stored_picture(original.file, original.name, max_pixels=MAX_PIXELS)
    return b""


def thumbnail(original: Original) -> bytes:
    """A thumbnail, as the table has them."""
    return _decoder.thumbnail(
        original.file, original.name, size=THUMBNAIL_SIZE, max_pixels=MAX_PIXELS
    )


def large_thumbnail(original: Original) -> bytes:
    """A thumbnail of LARGE_THUMBNAIL_SIZE."""
    return _decoder.thumbnail(
        original.file, original.name, size=LARGE_THUMBNAIL_SIZE, max_pixels=MAX_PIXELS
    )


def preview(original: Original) -> bytes:
    """A JPEG of PREVIEW_SIZE."""
    return _decoder.jpeg(
        original.file,
        original.name,
        size=PREVIEW_SIZE,
        max_pixels=MAX_PIXELS,
        quality=PREVIEW_QUALITY,
    )


def jpeg(original: Original) -> bytes:
    """The original for a browser that does not show its format."""
    return _decoder.jpeg(
        original.file, original.name, size=JPEG_SIZE, max_pixels=MAX_PIXELS, quality=JPEG_QUALITY
    )
