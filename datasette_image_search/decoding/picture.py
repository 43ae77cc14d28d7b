"""A picture of a file, with all that a row needs of it but what is made of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from .heif_properties import shown_as
from .loading import load_image
from .opening import FORMATS, DecodeSettings
from .orientation import read_orientation, upright_size
from .profiles import profile_of_bmp


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
    warning: str | None = None


def read_picture(data: bytes, settings: DecodeSettings) -> Picture:
    """The picture of a file that is no camera RAW. Raises as load_image() does."""
    loaded = load_image(data, FORMATS, settings)
    image, size = loaded.image, loaded.size
    # EXIF of a PNG may stand behind its pixels, and is known when they are decoded.
    orientation = read_orientation(image)
    # An MPO is a JPEG with more pictures behind it; half of all cameras and telephones write them.
    format = "JPEG" if image.format == "MPO" else image.format or ""
    if format == "BMP":
        image.info["icc_profile"] = profile_of_bmp(data)
    shown: Image.Image = image
    if format in ("AVIF", "HEIF"):
        properties = shown_as(data)
        if properties.cicp is not None and not image.info.get("icc_profile"):
            image.info["cicp"] = properties.cicp
        crop = properties.crop(size) if format == "AVIF" else None  # libheif does it.
        if crop is not None:
            shown = image.crop(crop)
            size = shown.size
    width, height = upright_size(size, orientation)
    return Picture(shown, format, width, height, orientation, loaded.warning)
