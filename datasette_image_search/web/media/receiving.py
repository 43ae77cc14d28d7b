"""Receives the body of a POST, with limits on its size and its slowness."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from datasette.utils.asgi import Request

from ...errors import ImageSearchError
from ..server.threads import Busy

SECONDS = 120.0
"""A body may take so long to arrive."""

SLOWEST = 50_000
"""Bytes that must arrive in each PERIOD but the last. A telephone with a bad connection sends more."""

PERIOD = 10.0
"""Seconds."""

ON_THE_WAY = 400_000_000
"""Bytes of all bodies, whole or in part, that have arrived and are not answered yet. They are on the disk."""

IN_MEMORY = 64_000
"""Bytes of each body that are not on the disk."""


class UploadRefused(ImageSearchError):
    """An upload that is refused, or is no picture; `status` is that of the answer."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass
class _OnTheWay:
    bytes: int = 0


_on_the_way = _OnTheWay()
"""Of this process. Only its event loop counts."""


@asynccontextmanager
async def received(request: Request, limit: int) -> AsyncIterator[BinaryIO]:
    """
    The upload, once all of it has arrived. Raises UploadRefused, if possible before anything is read, and
    Busy if there are too many others.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"((image|video)/.*|application/octet-stream)?", content_type):
        raise UploadRefused(
            f"the upload is {content_type[:100]!r}; send the bytes of a picture or film as image/jpeg, "
            "or another image or video type, or application/octet-stream",
            415,
        )
    if _said_length(request) > limit:
        raise _too_large(limit)
    mine = _OnTheWay()
    try:
        with SpooledTemporaryFile(max_size=IN_MEMORY) as file:
            await _receive(request, cast(BinaryIO, file), limit, mine)
            yield cast(BinaryIO, file)
    finally:
        _on_the_way.bytes -= mine.bytes


def _said_length(request: Request) -> int:
    """The length that the client announces, 0 if it announces none. Good enough to refuse an upload."""
    said = request.headers.get("content-length", "")
    return int(said[:18]) if re.fullmatch("[0-9]+", said) else 0


def _too_large(limit: int) -> UploadRefused:
    return UploadRefused(f"the picture has more than {limit:,} bytes; make it smaller first", 413)


async def _receive(request: Request, file: BinaryIO, limit: int, mine: _OnTheWay) -> None:
    end = time.monotonic() + SECONDS
    period_end, in_period = 0.0, SLOWEST
    more = True
    while more:
        now = time.monotonic()
        if now >= period_end:
            if in_period < SLOWEST or now >= end:
                raise UploadRefused(
                    "the upload is too slow; try a smaller picture, or a better connection", 408
                )
            period_end, in_period = min(now + PERIOD, end), 0
        try:
            message = await asyncio.wait_for(request.receive(), period_end - now)
        except asyncio.TimeoutError:
            continue
        if message["type"] != "http.request":
            raise UploadRefused("the upload was interrupted", 400)  # Nobody will read it.
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        in_period += len(chunk)
        if mine.bytes + len(chunk) > limit:
            raise _too_large(limit)
        if _on_the_way.bytes + len(chunk) > ON_THE_WAY:
            raise Busy
        mine.bytes += len(chunk)
        _on_the_way.bytes += len(chunk)
        try:
            await asyncio.to_thread(file.write, chunk)
        except OSError as error:
            raise UploadRefused(
                "the server has no room for the upload; try again later", 507
            ) from error
