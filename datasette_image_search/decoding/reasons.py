"""
Errors of Pillow and its plugins -> what is wrong with a picture, in a person's words. The words are the same for all
files, because reasons are counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .formats import is_film_name

_NO_PICTURE = "the file is not a picture of a known format, or is damaged"

_NO_FILM = "the file is not a film or picture of a known format, or is damaged"

UNREADABLE_RAW = "the camera RAW is damaged, or of a kind that is not supported"

_DAMAGED = "the picture is damaged"

_IS_CUT = "its end is missing"

_DATA = "its compressed data is invalid"

_HEADER = "its header is invalid"

_WORDS: Sequence[tuple[str, str]] = (
    (r"chunk", _HEADER),
    (r"truncated|only got|end of file|not enough image data|incomplete", _IS_CUT),
    (r"cannot load this image|no more images", "it has no pixels"),
    (r"tile cannot extend|invalid frames", "a part of it lies outside of it"),
    (r"palette", "its palette is invalid"),
    (r"dimensions|too large to convert|header|negative|offset|ratio|size", _HEADER),
)
"""Patterns of messages, and what they mean; the first that is found counts."""

_BMP = re.compile(
    r"Unsupported BMP (pixel depth|compression|header type|bitfields)[^(]*(?:\((\d+)\))?"
)

_BMP_DEPTHS = (2, 64)

_BMP_HEADERS = (16, 52, 56)

_EMBEDDED, _COMPRESSIONS = 0, 15

_KINDS: Sequence[tuple[re.Pattern[bytes], str]] = [
    (re.compile(start, re.DOTALL), kind)
    for start, kind in (
        (rb"\xff\xd8\xff", "JPEG"),
        (rb"\x89PNG", "PNG"),
        (rb"II[*+]\0|MM\0[*+]", "TIFF"),
        (rb"BM", "BMP"),
        (rb"GIF8", "GIF"),
        (rb"RIFF.{4}WEBP", "WebP"),
        (rb".{4}ftyp(?:.{4}){0,8}?avi[fs]", "AVIF"),
        (rb".{4}ftyp(?:hei[cxms]|hev[cx]|m[is]f1)", "HEIC"),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    )
]
"""How pictures begin, and the names of their formats."""


_ARCHIVES = (
    ("zip", re.compile(rb"PK\x03\x04"), ".zip"),
    ("tar", re.compile(rb".{257}ustar", re.DOTALL), ".tar"),
)
"""The protocols for archives, how these begin, and how their names end."""


def unsupported(kind: str) -> str:
    """The reason for a picture of a kind such as "BMP with 2 bits", which may be a good one."""
    return f"the picture is of a kind that is not supported ({kind})"


def damaged(error: Exception) -> str:
    """The reason of an error while a picture of a known format was read."""
    message = " ".join(str(error).split())
    bmp = _BMP.search(message)
    if bmp is not None:
        kind = _kind_of_bmp(bmp[1], int(bmp[2] or 0))
        return f"{_DAMAGED}: {_HEADER}" if kind is None else unsupported(kind)
    if isinstance(error, TypeError):
        return f"{_DAMAGED}: {_HEADER}"  # Said in words for programmers, about arguments.
    found = (words for pattern, words in _WORDS if re.search(pattern, message, re.IGNORECASE))
    return f"{_DAMAGED}: {next(found, _DATA)}"


def _kind_of_bmp(what: str, number: int) -> str | None:
    """The kind of a BMP that Pillow does not read; None if there is no such kind."""
    if what == "bitfields":
        return "BMP with bits in an unusual order"
    if what == "pixel depth" and number == _EMBEDDED:
        return "BMP with a JPEG or PNG inside"
    if what == "pixel depth" and number in _BMP_DEPTHS:
        return f"BMP with {number} bits"
    if what == "compression" and number <= _COMPRESSIONS:
        return f"BMP with compression {number}"
    if what == "header type" and number in _BMP_HEADERS:
        return f"BMP with a header of {number} bytes"
    return None


def unidentified(data: bytes, name: str) -> str:
    """The reason for a file that no plugin took for its own. `name` is that of the file, or ""."""
    kind = next((kind for start, kind in _KINDS if start.match(data)), None)
    for archive, start, suffix in _ARCHIVES:
        if start.match(data) and name.lower().endswith(suffix):
            return f"the file is an archive; to embed what is in it, write it as {archive}::photos{suffix}"
    if kind is None:
        return _NO_FILM if is_film_name(name) else _NO_PICTURE
    return f"the picture is damaged, or of a kind of {kind} that is not supported"
