"""
The bytes of a picture -> its pixels, decoded once. Whatever the decoder says of damage is an error here or a
warning; nothing else decodes pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile

from .opening import DecodeSettings, open_limited
from .png_chunks import ended_png
from .pnm import slow_pnm
from .samples import prepare_tiff

LEAST_READABLE = 0.9
"""The part of the rows of a damaged JPEG that must be readable. Other formats must be whole."""

PARTLY_READABLE = (
    "the end of the picture is damaged or missing; what can be read of it was embedded"
)

_END = b"\xff\xd9"
"""The marker of a JPEG; the decoder fills up what is missing before it with grey."""


@dataclass(frozen=True)
class LoadedImage:
    """
    An image whose pixels are decoded, its size as stored, and a warning if not all of it is readable.
    """

    image: Image.Image
    size: tuple[int, int]
    warning: str | None = None


def load_image(data: bytes, formats: tuple[str, ...], settings: DecodeSettings) -> LoadedImage:
    """
    Decode a picture, no larger than the settings need it (JPEG only). Raises DecodeError above the limits,
    and what Pillow raises if the picture is damaged.
    """
    image, size = open_limited(data, formats, settings)
    pnm = slow_pnm(image, data)
    if pnm is not None:
        return LoadedImage(pnm, size)
    prepare_tiff(image)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError):
        loaded = None
        if image.format in ("JPEG", "MPO"):
            loaded = _readable_part(image, data, settings)
        elif image.format == "PNG":
            loaded = _whole_pixels(data, settings)
        if loaded is None:
            raise
        return loaded
    return LoadedImage(image, size)


def _whole_pixels(data: bytes, settings: DecodeSettings) -> LoadedImage | None:
    """A PNG with damage behind its pixels only; None for others."""
    image, size = open_limited(ended_png(data), ("PNG",), settings)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError):
        return None
    return LoadedImage(image, size)


def _readable_part(
    damaged: ImageFile.ImageFile, data: bytes, settings: DecodeSettings
) -> LoadedImage | None:
    """The readable part of a JPEG, in a picture of its whole size; None if it is too little."""
    image, size = open_limited(data + _END, ("JPEG",), settings)
    try:
        image.load()
    except OSError:
        return None
    # What was decoded the first time is not black, or not grey now. A progressive picture is decoded the
    # second time only.
    damaged.tile = []
    grey = np.abs(np.asarray(image).astype(np.int16) - 128) <= 1
    missing = _all_in_row(grey) & _all_in_row(np.asarray(damaged) == 0)
    readable = missing.size - missing[::-1].argmin() if not missing.all() else 0
    if readable < LEAST_READABLE * missing.size:
        return None
    return LoadedImage(image, size, PARTLY_READABLE)


def _all_in_row(pixels: np.ndarray) -> np.ndarray:
    return np.logical_and.reduce(pixels.reshape(len(pixels), -1), axis=1)
