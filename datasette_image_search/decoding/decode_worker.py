"""
The process that decodes pictures of strangers, and may be killed at any time: a loop over messages on its
standard input and output, which DecodingProcess sends and reads. It has limits of memory and time, writes
no file, and answers with numbers as text and raw bytes.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, Image

from ..child_process import Message, end_with_the_parent, receive, send
from .decode import decode_picture, picture_for_model, stored_size
from .opening import JXL, DecodeError, DecodeSettings, TooLarge
from .thumbnails import make_thumbnail

try:
    import resource
except ImportError:  # Windows, where only the time is limited.
    resource = None  # type: ignore[assignment]

IDLE_SECONDS = 60
"""The process ends after this time, because then it costs more memory than it saves time."""

MOST_KEPT = 32_000_000
"""Bytes of memory that the process may keep from one picture to the next, which has less then."""

FILM_SECONDS = 4.0
"""For the frames of a film, of which what was read until then counts. A person waits for them."""


# --- What is made ------------------------------------------------------------------------------------


def _size(data: bytes, asked: dict[str, Any]) -> Message:
    format, (width, height) = stored_size(data, asked["max_pixels"])
    return {"format": format, "width": width, "height": height}, b""


def _model_picture(data: bytes, asked: dict[str, Any]) -> Message:
    """The pixels of the picture for an embedder's preprocessing."""
    picture = picture_for_model(data, asked["name"], _settings(asked, thumbnail_size=None))
    return {"width": picture.width, "height": picture.height}, picture.tobytes()


def _thumbnail(data: bytes, asked: dict[str, Any]) -> Message:
    size = asked["size"]
    picture = decode_picture(data, asked["name"], _settings(asked, thumbnail_size=size))
    return {}, make_thumbnail(picture, size)


def limited_picture(data: bytes, asked: dict[str, Any]) -> Image.Image:
    """The upright picture in sRGB, its longer side `size` pixels at most."""
    size = asked["size"]
    picture = decode_picture(data, asked["name"], _settings(asked, thumbnail_size=size))
    picture.thumbnail((size, size))
    return picture


def _jpeg(data: bytes, asked: dict[str, Any]) -> Message:
    buffer = io.BytesIO()
    limited_picture(data, asked).save(buffer, "JPEG", quality=asked["quality"])
    return {}, buffer.getvalue()


def _settings(asked: dict[str, Any], thumbnail_size: int | None) -> DecodeSettings:
    return DecodeSettings(
        np.asarray,
        asked["image_size"],
        thumbnail_size,
        asked["max_pixels"],
        film_seconds=FILM_SECONDS,
    )


Makers = Mapping[str, Callable[[bytes, dict[str, Any]], Message]]

MAKERS: Makers = {
    "size": _size,
    "model picture": _model_picture,
    "thumbnail": _thumbnail,
    "jpeg": _jpeg,
}


def _made(makers: Makers, data: bytes, asked: dict[str, Any]) -> Message:
    try:
        return makers[asked["make"]](data, asked)
    except DecodeError as error:
        # If memory has run out, that was the cause.
        too_large = isinstance(error, TooLarge) or isinstance(error.__cause__, MemoryError)
        return {"error": str(error), "too_large": too_large}, b""
    except MemoryError:
        return {"error": "there is not enough memory for the picture", "too_large": True}, b""


# --- The process -------------------------------------------------------------------------------------


def main(
    memory: int,
    seconds: int,
    longest: int,
    makers: Makers = MAKERS,
    most_kept: int = MOST_KEPT,
) -> None:
    """
    Answer messages until the server goes away, or is quiet for long: `memory` is in bytes, above what
    the process has from the start, `seconds` of processor are for each message, and `longest` is the
    number of bytes that one may have. `makers` make the answers, and may keep `most_kept` bytes.
    """
    # Each thread of a decoder takes memory, and a server has others to serve.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if JXL:
        from pillow_jxl import JpegXLImagePlugin

        JpegXLImagePlugin.DECODE_THREADS = 1
    used = _data_bytes()
    _limit_process(None if used is None else used + memory)
    end_with_the_parent()
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while _is_asked():
        message = receive(source, longest)
        if message is None:
            return
        asked, data = message
        with _limited_time(seconds):
            header, content = _made(makers, data, asked)
        send(target, header, len(content))
        target.write(content)
        target.flush()
        if used is not None and (_data_bytes() or 0) > used + most_kept:
            return


def _limit_process(data_bytes: int | None) -> None:
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Nothing here writes a file, so nobody may make it do so.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if data_bytes is not None:
        # Linux only. macOS has limits of these names, but does not enforce them.
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    os.nice(5)


def _data_bytes() -> int | None:
    """The bytes that Linux counts against RLIMIT_DATA; None on other systems."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
            lines = [line.split() for line in file]
    except OSError:
        return None
    return next((int(line[1]) * 1024 for line in lines if line[0] == "VmData:"), None)


def _is_asked() -> bool:
    """Whether another message comes within IDLE_SECONDS."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN)
    return bool(poll.poll(IDLE_SECONDS * 1000))


@contextmanager
def _limited_time(seconds: int) -> Iterator[None]:
    """Lets the system end the process if it takes longer. The server ends it later, by the clock, but may be gone or busy."""
    if resource is None:
        yield
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime) + 1
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
