"""
The samples of a decoded image, whatever their number of bits and their meaning -> 8 bits, in a mode whose
pixels can be averaged.
"""

from __future__ import annotations

import numpy as np
import PIL
from PIL import Image, ImageFile, ImageOps
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES_PER_PIXEL, _PLANAR = 258, 262, 277, 284

_WHITE_IS_ZERO = 0

_ONE_PLANE, _SEPARATE_PLANES = 1, 2

_MANY_BITS = ("I", "F")

_COMPRESSION = ("raw",) if int(PIL.__version__.partition(".")[0]) < 13 else ()
"""libtiff's decoder took it from Pillow before version 13, which needs Python 3.11."""


def prepare_tiff(image: ImageFile.ImageFile) -> None:
    """
    To be called before the pixels of a TIFF are decoded. Pillow's own reading of planes without compression takes each
    byte for a sample, whatever its bits are and whether 0 is white; libtiff's does not.
    """
    if not isinstance(image, TiffImageFile) or image.use_load_libtiff:
        return
    if image.tag_v2.get(_PLANAR) != _SEPARATE_PLANES:
        return
    if image.tag_v2.get(_SAMPLES_PER_PIXEL, 1) == 1:
        # A single plane has the same bytes either way.
        image.tag_v2[_PLANAR] = _ONE_PLANE
        image.tile = []
        image._setup()
    elif set(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) == {16}:
        image.use_load_libtiff = True
        args = (f"{image.mode};16N", *_COMPRESSION, False, image.tag_v2.offset)
        image.tile = [ImageFile._Tile("libtiff", (0, 0, *image.size), 0, args)]


def averageable(image: Image.Image) -> Image.Image:
    """
    The image in L, LA, RGB, RGBA, CMYK or the like, with transparency as a channel: neither the colours of a palette
    nor a colour that is declared transparent have a mean.
    """
    if isinstance(image, GifImageFile):
        return _on_its_canvas(image)
    if image.mode.startswith("I;16") or image.mode in _MANY_BITS:
        grey = _eight_bits(image) if image.mode in _MANY_BITS else _high_bits(image)
        return ImageOps.invert(grey) if _is_inverted(image) else grey
    if image.mode == "PA" or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode == "P":
        return image.convert("RGB")
    return image.convert("L") if image.mode == "1" else image


def _on_its_canvas(image: GifImageFile) -> Image.Image:
    """The first picture may be smaller than the canvas, which is transparent around it."""
    picture = image.convert("RGBA" if "transparency" in image.info else "RGB")
    place = image.dispose_extent
    if place is None or place == (0, 0, *image.size):
        return picture
    canvas = Image.new("RGBA", image.size, (255, 255, 255, 0))
    canvas.paste(picture.crop(place), place[:2])
    return canvas


def _is_inverted(image: Image.Image) -> bool:
    """Pillow inverts only samples of 8 bits and fewer."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _high_bits(image: Image.Image) -> Image.Image:
    """Grey of 9 to 16 bits -> L, or LA if a grey is declared transparent."""
    values = np.asarray(image)
    bits = 16
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(((values != transparent) * 255).astype(np.uint8)))
    return grey


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 32 bits or floats -> L; Pillow's own conversion cuts everything above 255."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0.0, neginf=0.0)
    highest = values.max(initial=0.0)
    full_scale = 1.0 if highest <= 1.0 else 255.0 if highest <= 255.0 else 65535.0
    scaled = np.clip(values / max(full_scale, highest), 0.0, 1.0) * 255
    return Image.fromarray(scaled.round().astype(np.uint8))
