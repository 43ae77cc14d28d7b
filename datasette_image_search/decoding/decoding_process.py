"""Decodes pictures of strangers in a separate process, which has limits and can be killed."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from weakref import WeakSet

from PIL import Image

from ..child_process import receive, send, start_process
from .formats import THUMBNAIL_SIZE
from .opening import DecodeError, TooLarge

CHUNK = 256 * 1024
"""Bytes of a file that are in memory of this process."""

MOST_PIXELS = 64_000_000
"""The most bytes of pixels, or of a file, in an answer."""

LONGEST_ERROR = 300

ENDING = 0.2
"""Seconds for a process that answers no more to end by itself."""

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP")
"""The variables that the process gets; the others may contain secrets."""

PATIENCE = 3
"""How many times as long a picture may take on a machine that has others to work for, too."""

_TOO_LONG = -getattr(signal, "SIGXCPU", 0)
"""The exit code of a process that took too much processor time."""

_KILLED = -getattr(signal, "SIGKILL", 0)

NONSENSE = "the picture is damaged: it crashes its decoder"


class Killed(TooLarge):
    """Somebody killed the process, most likely the system, whose memory ran out. The picture may be good."""


class Stopped(DecodeError):
    """The picture may be good; the server is stopping."""


@dataclass(frozen=True)
class StoredPicture:
    """The header of a file: Pillow's name of its format, and its size as stored."""

    format: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Limits:
    """
    `memory` is bytes while decoding, on Linux; `seconds` is for one picture, of a processor, and PATIENCE times
    as many of the clock; `file_size` is bytes of a file.
    """

    memory: int
    seconds: int
    file_size: int


class DecodingProcess:
    """
    A process that is started when there is something to decode, kept for the next, and ends when it is
    idle for a while. It decodes one picture after the other; each method raises DecodeError for a bad
    picture, TooLarge above the limits.
    """

    worker = "datasette_image_search.decoding.decode_worker"
    """The module whose main() answers."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = threading.Lock()
        _all.add(self)

    def stored_picture(self, file: BinaryIO, name: str, *, max_pixels: int) -> StoredPicture:
        """Decodes nothing but a JPEG XL."""
        header, _ = self._ask(file, {"make": "size", "name": name, "max_pixels": max_pixels})
        return StoredPicture(str(header.get("format")), _size_in(header))

    def model_picture(
        self, file: BinaryIO, name: str, *, image_size: int, max_pixels: int
    ) -> Image.Image:
        """The picture that an embedder's preprocessing gets when the file is embedded."""
        asked = {"make": "model picture", "image_size": image_size, "max_pixels": max_pixels}
        header, pixels = self._ask(file, {**asked, "name": name})
        width, height = _size_in(header)
        if 3 * width * height != len(pixels):
            raise DecodeError(NONSENSE)
        return Image.frombytes("RGB", (width, height), pixels)

    def thumbnail(self, file: BinaryIO, name: str, *, size: int, max_pixels: int) -> bytes:
        """As thumbnails.make_thumbnail()."""
        return self._drawn("thumbnail", file, name, size, max_pixels)

    def jpeg(self, file: BinaryIO, name: str, *, size: int, max_pixels: int, quality: int) -> bytes:
        """The upright picture, its longer side `size` pixels at most."""
        return self._drawn("jpeg", file, name, size, max_pixels, quality=quality)

    def _drawn(
        self, make: str, file: BinaryIO, name: str, size: int, max_pixels: int, **more: int
    ) -> bytes:
        asked: dict[str, Any] = {"make": make, "name": name, "size": size, **more}
        asked |= {"image_size": THUMBNAIL_SIZE, "max_pixels": max_pixels}
        return self._ask(file, asked)[1]

    def end(self) -> None:
        """Kill it, whatever it is doing."""
        self._ended = process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _ask(self, file: BinaryIO, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        if size > self._limits.file_size:
            raise TooLarge("the file is too large to be decoded here")
        with self._one_at_a_time:
            answer = self._answer(file, size, asked)
        if "error" in answer[0]:
            # A hostile picture may have taken over the process, so its answer is not trusted.
            words = " ".join(str(answer[0]["error"]).split())[:LONGEST_ERROR]
            said = "".join(letter for letter in words if letter.isprintable())
            raise (TooLarge if answer[0].get("too_large") else DecodeError)(said)
        return answer

    def _answer(
        self, file: BinaryIO, size: int, asked: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        for _ in range(2):
            process = self._running()
            answer = None
            killing = _killed_after(process, PATIENCE * self._limits.seconds)
            with killing as is_late, suppress(OSError, ValueError, RecursionError):
                answer = _exchanged(process, file, size, asked)
            if answer is not None:
                return answer
            # The pipes of a process that was killed close a moment before it is gone.
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDING)
            was_killed = process.returncode == _KILLED
            process.kill()
            if process.wait() != 0:
                break
            # Otherwise it was idle, and ended just when the request came.
        if process is self._ended:
            raise Stopped("the server is stopping")
        if is_late() or process.returncode == _TOO_LONG:
            raise TooLarge("the picture takes too long to decode")
        if was_killed:
            raise Killed("the process that decodes was killed, most likely as memory ran out")
        raise TooLarge("the picture needs more memory than it may have, or is damaged")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            if self._process is not None:
                _close(self._process)
            self._process = self._start()
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        limits = self._limits
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            return start_process(
                self.worker,
                *(limits.memory, limits.seconds, limits.file_size),
                # Libraries write there whatever the files of strangers make them write.
                stderr=subprocess.DEVNULL,
                env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise DecodeError(
                f"the process that decodes pictures cannot be started: {error}"
            ) from error


def end_all() -> None:
    """Kill the processes of all; the next picture starts them again."""
    for each in list(_all):
        each.end()


_all: WeakSet[DecodingProcess] = WeakSet()

atexit.register(end_all)


@contextmanager
def _killed_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[Callable[[], bool]]:
    """Kills the process after a time, and gives a function that tells whether it did."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield late.is_set
    finally:
        timer.cancel()


def _exchanged(
    process: subprocess.Popen[bytes], file: BinaryIO, size: int, asked: dict[str, Any]
) -> tuple[dict[str, Any], bytes] | None:
    """Sends a file and a request, and returns the answer; None if the process ended before."""
    source, target = cast(BinaryIO, process.stdout), cast(BinaryIO, process.stdin)
    send(target, asked, size)
    file.seek(0)
    # Never more than when it was opened: a program that writes to the file must not decide.
    left = size
    while left and (chunk := file.read(min(CHUNK, left))):
        left -= len(chunk)
        target.write(chunk)
    while left:
        left -= target.write(bytes(min(CHUNK, left)))
    target.flush()
    return receive(source, MOST_PIXELS)


def _size_in(header: dict[str, Any]) -> tuple[int, int]:
    """Width and height, above 0."""
    width, height = header.get("width"), header.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise DecodeError(NONSENSE)
    return width, height


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            cast(BinaryIO, pipe).close()
