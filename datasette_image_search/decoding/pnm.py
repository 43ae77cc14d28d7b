"""PNM whose samples are numbers in a text, or have another maximum than 255: Pillow reads them one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageFile

_BANDS = {"L": 1, "RGB": 3, "CMYK": 4}

_BITS = "1;I"
"""Pillow's name for samples of which 1 is black."""

_SIXTEEN_BITS = "I;16B"

_AT_ONCE = 500_000
"""Bytes of a text, or samples, that are read at once: while they are, they take up to 30 bytes each."""

_BLANKS = b" \t\r\n\v\f"

_DIGITS = b"0123456789"

_END_OF_LINE = re.compile(rb"[\r\n]")


def slow_pnm(image: ImageFile.ImageFile, data: bytes) -> Image.Image | None:
    """
    The picture, in 8 bits, of a PNM that was opened and not decoded, if it would be slow to decode; None for others.
    Raises OSError if samples are missing, ValueError if they are no numbers.
    """
    if image.format != "PPM":
        return None
    codec, _, offset, args = image.tile[0]
    if codec == "raw" and args != _SIXTEEN_BITS:
        return None
    if isinstance(args, tuple):
        kind, maximum = args
    else:
        kind, maximum = "L", 1 if args == _BITS else 65_535
    count = image.height * image.width * _BANDS[kind]
    if codec != "ppm_plain":
        parts = _binary(data, offset, count, maximum)
    elif args == _BITS:
        parts = _bits(_texts(data, offset, b"01"))
    else:
        parts = _numbers(_texts(data, offset, _DIGITS))
    picture = Image.frombuffer(
        kind, image.size, _brightness(parts, count, maximum), "raw", kind, 0, 1
    )
    picture.format = image.format
    return picture


def _brightness(parts: Iterable[np.ndarray], count: int, maximum: int) -> np.ndarray:
    """The first samples of all parts, from 0 to 255; no part is read after them. Shape (count,), uint8."""
    brightness = np.empty(count, np.uint8)
    done = 0
    for part in parts:
        samples = np.minimum(part[: count - done], maximum).astype(np.uint32)
        brightness[done : done + samples.size] = (samples * 255 + maximum // 2) // maximum
        done += samples.size
        if done == count:
            return brightness
    raise OSError("image file is truncated")


def _binary(data: bytes, offset: int, count: int, maximum: int) -> Iterator[np.ndarray]:
    kind = np.dtype(">u2" if maximum > 255 else "u1")
    samples = np.frombuffer(data, kind, min(count, (len(data) - offset) // kind.itemsize), offset)
    return (samples[start : start + _AT_ONCE] for start in range(0, samples.size, _AT_ONCE))


def _bits(texts: Iterable[bytes]) -> Iterator[np.ndarray]:
    """Each digit is a sample; there need not be anything between them."""
    for text in texts:
        yield ord("1") - np.frombuffer(text.translate(None, _BLANKS), np.uint8)


def _numbers(texts: Iterable[bytes]) -> Iterator[np.ndarray]:
    for text in texts:
        if len(text) == _AT_ONCE and text.isdigit():
            raise ValueError("its samples are no numbers")
        # Of blanks alone numpy would make a number, too.
        yield np.fromstring(text.strip(), np.int64, sep=" ")


def _texts(data: bytes, position: int, digits: bytes) -> Iterator[bytes]:
    """
    What a text has besides its comments, in pieces that end between two samples. Raises ValueError at anything
    else than digits and blanks.
    """
    valid = re.compile(rb"[%b\s]*" % digits)
    while position < len(data):
        text, is_comment, _ = data[position : position + _AT_ONCE].partition(b"#")
        if not is_comment and position + len(text) < len(data):
            text = text.rstrip(digits) or text
        readable = valid.match(text)
        yield readable[0] if readable else b""
        if readable is None or readable.end() < len(text):
            raise ValueError("its samples are no numbers")
        position += len(text)
        if is_comment:
            line = _END_OF_LINE.search(data, position)
            position = line.start() if line else len(data)
