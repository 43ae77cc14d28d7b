"""
The bytes of a picture -> an image that is opened: its format and size are known and within the limits, and
its pixels are not decoded yet.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from .cost import cost_of
from .formats import THUMBNAIL_SIZE
from .memory import free_memory
from .png_chunks import SIGNATURE, readable_png
from .reasons import unsupported

try:
    import pillow_heif
except ImportError:
    HEIC = False
else:
    pillow_heif.register_heif_opener()
    HEIC = True

try:
    import pillow_jxl  # noqa: F401 (tells Pillow of itself)
except ImportError:
    JXL = False
else:
    JXL = True

_EVERYWHERE = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")

FORMATS = (*_EVERYWHERE, *(["HEIF"] if HEIC else []), *(["JXL"] if JXL else []))
"""The formats to open with Pillow. EPS is not among them, because Pillow hands it to another program."""

OVERSAMPLING = 1.4
"""A JPEG is decoded at this times what the model wants, or larger, so that the model's own resizing
stays good: the cosine to the vector of the full picture is then above 0.995."""

ENOUGH = 320
"""Pixels of the shorter side that every picture keeps. Embedders of tiny pictures look at texture, which
OVERSAMPLING alone would blur. It costs nothing, because a JPEG of a camera has 350 and more at an eighth
of its size."""

MOST_PIXELS = 20_000_000_000
"""No machine decodes more, whatever limit a person sets."""

BYTES_PER_PIXEL = 16
"""Memory per pixel, at most, while a picture is decoded and reduced. WebP takes 16, others 4."""


class DecodeError(Exception):
    """
    The file is not a usable picture; the message is the reason for a person. `missing_extra` is the extra
    of this package that would have read it: "heic", "jxl", "raw" or "video".
    """

    def __init__(self, reason: str, missing_extra: str | None = None):
        super().__init__(reason)
        self.missing_extra = missing_extra


class Unreadable(DecodeError):
    """The file could not be read this time, for example because its drive is gone. It may be good."""


class TooLarge(DecodeError):
    """The picture is above the limits, and was not decoded."""


def default_max_pixels(workers: int) -> int:
    """
    Pixels that one picture may have while `workers` decode at once: together they take at most a
    quarter of the memory that is free now. Whole megapixels, from 50 to 1000.
    """
    share = free_memory() / 4 / max(workers, 1)
    return min(max(int(share / BYTES_PER_PIXEL / 1e6), 50), 1000) * 1_000_000


@dataclass(frozen=True)
class DecodeSettings:
    """
    How to decode a picture. `preprocess` is an embedder's; it gets pictures whose shorter side is at
    least `image_size`, if the file has as much. `thumbnail_size` None makes none. `max_pixels` limits the
    decoded pixels; a JPEG may be decoded smaller than it is. `read_metadata` False leaves it empty, for a
    picture whose row nobody makes. `film_seconds` are spent on the frames of a film, None for MOST_SECONDS of films.
    """

    preprocess: Callable[[Image.Image], np.ndarray]
    image_size: int
    thumbnail_size: int | None = THUMBNAIL_SIZE
    max_pixels: int = field(default_factory=lambda: default_max_pixels(os.cpu_count() or 1))
    read_metadata: bool = True
    film_seconds: float | None = None


def open_limited(
    data: bytes, formats: tuple[str, ...], settings: DecodeSettings
) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    """
    An image that will be decoded no larger than the settings need it (JPEG only), and its size as stored.
    Raises DecodeError above the limits before any pixel is decoded.
    """
    check_cost(data, settings.max_pixels)
    image = image_of(data, formats)
    size = image.size
    enough = enough_pixels(size, settings)
    image.draft(None, (enough, enough))
    check_pixels(image.width * image.height, settings.max_pixels)
    # Pillow would read and decode 64 kB at a time, and wait for the interpreter's lock between them.
    image.decodermaxblock = max(len(data), image.decodermaxblock)
    if isinstance(image, TiffImageFile):
        # Otherwise it would be made on loading, and compared with Pillow's own limit again.
        image.im = Image.new(image.mode, image._tile_size, None).im
    return image, size


def image_of(data: bytes, formats: Sequence[str]) -> ImageFile.ImageFile:
    """
    Like Image.open(), but without Pillow's own limit of pixels: that counts before `draft`, and is for
    the whole process, where others rely on it. DecodeSettings.max_pixels replaces it.
    """
    Image.preinit()
    info = {}
    if data.startswith(SIGNATURE):
        png = readable_png(data)
        data, info = png.data, png.info
    for name in formats:
        if name not in Image.OPEN:
            Image.init()
        make, accepts = Image.OPEN.get(name, (None, None))
        accepted = accepts(data[:16]) if accepts is not None else make is not None
        # A text says why not.
        if make is None or not accepted or isinstance(accepted, str):
            continue
        try:
            image = make(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
        image.info.update(info)
        return image
    raise UnidentifiedImageError


def check_cost(data: bytes, max_pixels: int | None = None) -> None:
    """Raises DecodeError if the file must not even be opened, TooLarge above `max_pixels`."""
    cost = cost_of(data)
    if cost.unsupported is not None:
        raise DecodeError(unsupported(cost.unsupported))
    if cost.problem is not None:
        raise DecodeError(f"the picture is damaged: {cost.problem}")
    if max_pixels is not None:
        check_pixels(cost.pixels, max_pixels)


def check_pixels(pixels: int, max_pixels: int) -> None:
    """Raises TooLarge above the limit."""
    if pixels > MOST_PIXELS:
        raise TooLarge("the picture has more pixels than can be read")
    if pixels > max_pixels:
        raise TooLarge(
            f"the picture has {math.ceil(pixels / 1e6)} megapixels, more than the limit of "
            f"{max_pixels / 1e6:g}; raise it with --max-megapixels and --retry-failed"
        )


def check_file_size(size: int, max_pixels: int) -> None:
    """
    Raises TooLarge if the bytes of the file alone take the memory of a picture at the limit, as of a film
    that is called a.jpg.
    """
    if size > max_pixels * BYTES_PER_PIXEL:
        raise TooLarge(
            f"the file has {math.ceil(size / 1e6)} megabytes, more than a picture of "
            f"{max_pixels / 1e6:g} megapixels needs; raise the limit with --max-megapixels and --retry-failed"
        )


def enough_pixels(size: tuple[int, int], settings: DecodeSettings) -> int:
    """
    Pixels of the shorter side that are enough for the model, and for a sharp thumbnail. Without
    thumbnails, or with smaller ones, the model sees the same.
    """
    thumbnail = (settings.thumbnail_size or 0) * min(size) / max(size)
    return max(math.ceil(OVERSAMPLING * settings.image_size), math.ceil(thumbnail), ENOUGH)
