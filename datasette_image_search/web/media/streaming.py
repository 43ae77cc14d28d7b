"""Answers with pictures: headers that keep a browser safe, ETags, ranges, files in chunks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from datasette.utils.asgi import Request, Response

from ..server.threads import Busy
from .remote_originals import read_some

CHUNK = 256 * 1024
"""Bytes of a file that are in memory at once."""

MINUTE = 60

YEAR = 365 * 24 * 60 * 60
"""The longest time that caches keep anything."""

SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    # The styles are the browser's own, for a picture that is opened by itself.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
"""With these a browser shows the bytes as a picture or not at all."""


@dataclass(frozen=True)
class ServedPicture:
    """
    A picture to send: its bytes, as an open file. `etag` is a name for exactly these bytes, without
    quotes. `is_public` says that anybody may see it, `is_lasting` that its URL is of these bytes only.
    """

    file: BinaryIO
    size: int
    content_type: str
    etag: str
    is_public: bool
    is_lasting: bool = False


def headers_of(etag: str, is_public: bool, is_lasting: bool = False) -> dict[str, str]:
    """Headers for any answer about a picture, also for a 304."""
    if not is_public:
        # Browsers ask each time, because a permission may have ended.
        caching = "private, no-cache"
    elif is_lasting:
        caching = f"public, max-age={YEAR}, immutable"
    else:
        # The picture may be another one tomorrow, and asking again costs little.
        caching = f"public, max-age={MINUTE}"
    return {**SAFE_HEADERS, "etag": f'"{etag}"', "cache-control": caching}


def is_known(request: Request, etag: str) -> bool:
    """Whether the browser has this version, so that a 304 is enough."""
    said = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in said.split(",")]
    return f'"{etag}"' in tags or tags == ["*"]


def not_modified(etag: str, is_public: bool, is_lasting: bool = False) -> Response:
    return Response("", status=304, headers=headers_of(etag, is_public, is_lasting))


def picture_response(request: Request, picture: ServedPicture) -> Response:
    """The picture, the requested range of it, or 304. Takes over the file, and closes it."""
    headers = headers_of(picture.etag, picture.is_public, picture.is_lasting)
    if is_known(request, picture.etag):
        picture.file.close()
        return not_modified(picture.etag, picture.is_public, picture.is_lasting)
    headers["accept-ranges"] = "bytes"
    asked = _asked_range(request, picture)
    if asked is None:
        return _Streamed(request, picture, 0, picture.size, 200, headers)
    start, end = asked
    if start >= end:
        picture.file.close()
        headers |= {"content-range": f"bytes */{picture.size}", "cache-control": "no-store"}
        return Response("", status=416, headers=headers)
    headers["content-range"] = f"bytes {start}-{end - 1}/{picture.size}"
    return _Streamed(request, picture, start, end, 206, headers)


def _asked_range(request: Request, picture: ServedPicture) -> tuple[int, int] | None:
    """
    The requested range: half-open, and empty if it is beyond the end. None for the whole picture, which is
    also a valid answer to several ranges, and to a range of an older version (If-Range).
    """
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", request.headers.get("range", ""))
    if match is None or match[0] == "bytes=-":
        return None
    if request.headers.get("if-range", f'"{picture.etag}"') != f'"{picture.etag}"':
        return None
    first, last = match.groups()
    if not first:
        return max(picture.size - int(last), 0), picture.size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, picture.size) if last else picture.size


class _Streamed(Response):
    """Part of a file, read in threads as fast as the client takes it."""

    def __init__(
        self,
        request: Request,
        picture: ServedPicture,
        start: int,
        end: int,
        status: int,
        headers: dict[str, str],
    ) -> None:
        length = {"content-length": str(end - start)}
        super().__init__("", status, {**headers, **length}, picture.content_type)
        self._file, self._start = picture.file, start
        self._left = 0 if request.method == "HEAD" else end - start

    async def asgi_send(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        with self._file as file:
            if not self._left:
                await super().asgi_send(send)
                return
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status,
                    "headers": [
                        (name.encode("latin-1"), value.encode("latin-1"))
                        for name, value in {
                            **self.headers,
                            "content-type": self.content_type,
                        }.items()
                    ],
                }
            )
            file.seek(self._start)
            while self._left:
                try:
                    chunk = await read_some(file, min(CHUNK, self._left))
                except (Busy, OSError):
                    return
                if not chunk:
                    return  # The file got shorter: an answer that ends early says so.
                self._left -= len(chunk)
                await send(
                    {"type": "http.response.body", "body": chunk, "more_body": self._left > 0}
                )
