"""Reads the text of pictures in a separate process, which has limits and can be killed: both of its ends."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from io import BytesIO
from typing import Any

from ..child_process import Message
from ..decoding.decode_worker import limited_picture
from ..decoding.decode_worker import main as work
from ..decoding.decoding_process import NONSENSE, DecodingProcess, Limits
from ..decoding.opening import BYTES_PER_PIXEL, DecodeError, TooLarge
from ..errors import ImageSearchError
from ..store.line_rows import Line
from .recognition import LARGEST_SIDE, is_loaded, lines_of, load

MODELS = 3_000_000_000
"""Bytes of memory, at most, that the models take beside a picture."""

SECONDS = 300
"""For one picture; a page of small print takes half a minute of a slow processor."""

MOST_KEPT = 1_000_000_000
"""Bytes of memory that the models keep, so that they are not loaded again for the next picture."""


class ReadingProcess(DecodingProcess):
    """A process that reads one picture after the other, each of at most `max_pixels`."""

    worker = __name__

    def __init__(self, max_pixels: int) -> None:
        largest = max_pixels * BYTES_PER_PIXEL
        super().__init__(Limits(MODELS + largest, SECONDS, largest))
        self.max_pixels = max_pixels

    def load(self) -> None:
        """Load the models for the pictures to come. Raises ImageSearchError if none could be read."""
        try:
            self._ask(BytesIO(), {"make": "models"})
        except TooLarge as error:
            raise ImageSearchError(
                "the process that reads text ended before the first picture: it takes up to "
                f"{MODELS // 10**9} GB of memory, so use fewer --workers, or free some"
            ) from error
        except DecodeError as error:
            raise ImageSearchError(
                f"the models that read text cannot be loaded: {error}; install what is missing"
            ) from error

    def lines(self, data: bytes, name: str) -> tuple[list[Line], float | None]:
        """
        The lines of a picture from the top, and the seconds that it took, None for the first one, which the models are
        loaded for; `name` is that of its file, or "". Raises DecodeError.
        """
        asked = {"make": "lines", "name": name, "size": LARGEST_SIDE, "image_size": 1}
        header, content = self._ask(BytesIO(data), {**asked, "max_pixels": self.max_pixels})
        try:
            seconds = header["seconds"]
            lines = [_line(each) for each in json.loads(content)]
            return lines, None if seconds is None else float(seconds)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DecodeError(NONSENSE) from error


def _line(said: Any) -> Line:
    """A line that the process tells of, whose answer is not trusted: a picture may have taken it over."""
    score, left, top, right, bottom = numbers = [
        float(each) for each in (said["score"], *said["box"])
    ]
    if not all(0 <= number <= 1 for number in numbers):
        raise ValueError
    text = str(said["text"]).encode(errors="replace").decode()
    return Line(text, score, (left, top, right, bottom))


def _models(*_: object) -> Message:
    try:
        load()
    except MemoryError:
        raise
    except Exception as error:  # Such as of a library of the system that is missing.
        raise DecodeError(f"{type(error).__name__}: {error}") from error
    return {}, b""


def _lines(data: bytes, asked: dict[str, Any]) -> Message:
    was_loaded, began = is_loaded(), time.monotonic()
    lines = lines_of(limited_picture(data, asked))
    content = json.dumps([asdict(line) for line in lines]).encode()
    return {"seconds": time.monotonic() - began if was_loaded else None}, content


def main(memory: int, seconds: int, longest: int) -> None:
    """Answer messages as decode_worker.main() does."""
    work(memory, seconds, longest, {"models": _models, "lines": _lines}, MOST_KEPT)
