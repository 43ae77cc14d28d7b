"""A picture of a file, with all that a row needs of it but what is made of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from .exif import Exif, read_exif
from .loading import load_image
from .opening import FORMATS, DecodeSettings
from .orientation import read_orientation, upright_size


@dataclass(frozen=True)
class Picture:
    """
    An image whose pixels are decoded. `width` and `height` are those of the upright original, `orientation`
    is the EXIF orientation of `image`; `warning` says what is wrong with a picture that is usable.
    """

    image: Image.Image
    format: str
    width: int
    height: int
    orientation: int
    exif: Exif
    warning: str | None = None


def read_picture(data: bytes, settings: DecodeSettings) -> Picture:
    """The picture of a file that is no camera RAW. Raises as load_image() does."""
    loaded = load_image(data, FORMATS, settings)
    image = loaded.image
    # EXIF of a PNG may stand behind its pixels, and is known when they are decoded.
    orientation = read_orientation(image)
    width, height = upright_size(loaded.size, orientation)
    # An MPO is a JPEG with more pictures behind it; half of all cameras and telephones write them.
    format = "JPEG" if image.format == "MPO" else image.format or ""
    return Picture(image, format, width, height, orientation, read_exif(image), loaded.warning)
