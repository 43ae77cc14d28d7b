"""PNM whose samples are numbers in a text, or have another maximum than 255: Pillow reads them one by one."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image, ImageFile

_BANDS = {"L": 1, "RGB": 3, "CMYK": 4}

_BITS = "1;I"
"""Pillow's name for samples of which 1 is black."""

_SIXTEEN_BITS = "I;16B"


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
        samples = _binary(data, offset, count, maximum)
    else:
        text = re.sub(rb"#[^\r\n]*", b"", data[offset:])
        samples = 1 - _digits(text, count) if args == _BITS else _numbers(text, count)
    if samples.size < count:
        raise OSError("image file is truncated")
    brightness = np.clip(samples, 0, maximum).astype(np.uint32) * 255 + maximum // 2
    picture = Image.frombytes(kind, image.size, (brightness // maximum).astype(np.uint8).tobytes())
    picture.format = image.format
    return picture


def _binary(data: bytes, offset: int, count: int, maximum: int) -> np.ndarray:
    kind = np.dtype(">u2" if maximum > 255 else "u1")
    whole = min(count, (len(data) - offset) // kind.itemsize)
    return np.frombuffer(data, kind, whole, offset)


def _digits(text: bytes, count: int) -> np.ndarray:
    """Each is a sample; there need not be anything between them."""
    digits = text.translate(None, b" \t\r\n\v\f")[:count]
    samples = np.frombuffer(digits, np.uint8) - ord("0")
    if samples.max(initial=0) > 1:
        raise ValueError("its samples are no numbers")
    return samples


def _numbers(text: bytes, count: int) -> np.ndarray:
    return np.fromstring(text, np.int64, sep=" ")[:count]
