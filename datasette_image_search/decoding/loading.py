"""
The bytes of a picture -> its pixels, decoded once. Whatever the decoder says of damage is an error here or a
warning; nothing else decodes pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile

from .jpeg_data import END, end_of_data, lacks_scans
from .opening import DecodeSettings, open_limited
from .png_chunks import LOW_BITS
from .png_pixels import has_all_pixels, whole_png
from .pnm import slow_pnm
from .samples import prepare_tiff

LEAST_READABLE = 0.9
"""The part of the rows of a damaged JPEG that must be readable. Other formats must be whole."""

PARTLY_READABLE = (
    "the end of the picture is damaged or missing; what can be read of it was embedded"
)

_CUT = "image file is truncated"
"""Pillow's words, for what it does not notice."""

_GREY = 128
"""The samples of a JPEG that are missing."""

_MORE = b"".join(bytes(range(1, 200)) + bytes([0xFF, 0xD0 + number]) for number in range(8)) * 2
"""Something that a decoder reads as data if it lacks some, also one that waits for the next restart marker."""


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
    is_jpeg = image.format in ("JPEG", "MPO")
    try:
        image.load()
    except (OSError, SyntaxError, ValueError):
        if is_jpeg:
            readable, part = _readable_part(data, settings)
        elif image.format == "PNG":
            readable, part = _pixels_alone(data, settings)
        else:
            raise
        if part is None or readable < LEAST_READABLE:
            raise
        return LoadedImage(part, size, PARTLY_READABLE if is_jpeg else None)
    if image.format == "PNG":
        if _lacks_pixels(image, data):
            raise OSError(_CUT)
        _compare_all_bits(image, data, settings)
    if is_jpeg and not _shown(np.asarray(_last_row(image))).any():
        # A damaged byte may look like the end of the data, though the decoder goes on behind it.
        shown = _part_until_last(_shown(np.asarray(image)))
        readable = max(shown, _readable_part(data, settings)[0])
        if readable < LEAST_READABLE:
            # An end was marked where the data was cut off.
            raise OSError(_CUT)
        return LoadedImage(image, size, PARTLY_READABLE if readable < 1 else None)
    if "progressive" in image.info and lacks_scans(data):
        # All rows are there, less sharp, and somebody has put an end where the rest was.
        return LoadedImage(image, size, PARTLY_READABLE)
    return LoadedImage(image, size)


def _pixels_alone(
    data: bytes, settings: DecodeSettings
) -> tuple[float, ImageFile.ImageFile | None]:
    """1 and the picture of a PNG with damage behind its pixels only; 0 for others."""
    whole = whole_png(data)
    if whole is None:
        return 0.0, None
    image, _ = open_limited(whole, ("PNG",), settings)
    image.load()
    _compare_all_bits(image, whole, settings)
    return 1.0, image


def _compare_all_bits(png: ImageFile.ImageFile, data: bytes, settings: DecodeSettings) -> None:
    """Make a colour of 16 bits transparent, of which Pillow has only the higher 8 in the pixels that it decodes."""
    if LOW_BITS not in png.info:
        return
    other, _ = open_limited(data, ("PNG",), settings)
    # This takes the second byte of each sample.
    other.tile = [tile._replace(args="RGB;16L") for tile in other.tile]
    other.load()
    same = np.asarray(png) == np.array(png.info.pop("transparency"), np.uint8)
    same &= np.asarray(other) == np.array(png.info.pop(LOW_BITS), np.uint8)
    png.putalpha(Image.fromarray(np.where(same.all(axis=2), 0, 255).astype(np.uint8)))


def _lacks_pixels(png: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether Pillow took data that ends early for the whole. It leaves 0 in what it lacks."""
    may_lack = "interlace" in png.info or not np.asarray(_last_row(png)).any()
    return may_lack and not has_all_pixels(data)


def _readable_part(
    data: bytes, settings: DecodeSettings
) -> tuple[float, ImageFile.ImageFile | None]:
    """The part of the rows of a JPEG that is readable, and a picture of its whole size with them."""
    # Half a marker would make one of what follows.
    there = data[: end_of_data(data)].rstrip(b"\xff")
    image, _ = open_limited(there + END, ("JPEG",), settings)
    other, _ = open_limited(there + _MORE + END, ("JPEG",), settings)
    try:
        image.load()
        other.load()
    except OSError:
        return 0.0, None
    pixels = np.asarray(image)
    # A decoder that lacks nothing does not read on.
    changed = _any_in_row(pixels != np.asarray(other))
    shown = _shown(pixels)
    if not changed.any():
        return 1.0, image if shown.any() else None
    shown[: changed.argmax()] = True
    return _part_until_last(shown), image


def _part_until_last(shown: np.ndarray) -> float:
    """The part of the rows up to the last that is shown."""
    return float(shown.size - shown[::-1].argmax() if shown.any() else 0) / shown.size


def _shown(pixels: np.ndarray) -> np.ndarray:
    """For each row, whether it is not the grey that a decoder shows for missing ones."""
    return _any_in_row(np.abs(pixels.astype(np.int16) - _GREY) > 1)


def _last_row(image: Image.Image) -> Image.Image:
    return image.crop((0, image.height - 1, *image.size))


def _any_in_row(pixels: np.ndarray) -> np.ndarray:
    return np.logical_or.reduce(pixels.reshape(len(pixels), -1), axis=1)
