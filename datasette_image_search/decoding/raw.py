"""
Camera RAW: the preview that the camera put into the file, or a quick development if there is none. Only
with the extra `raw`.
"""

from __future__ import annotations

import io

import numpy as np
import rawpy
from PIL import Image, UnidentifiedImageError

from .loading import LEAST_READABLE, load_image
from .opening import DecodeError, DecodeSettings, check_pixels, image_of
from .orientation import said_orientation, upright_size
from .picture import Picture
from .reasons import UNREADABLE_RAW

_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}
"""LibRaw's flip -> EXIF's orientation."""

_NO_USABLE_PREVIEW = (
    rawpy.LibRawNoThumbnailError,
    rawpy.LibRawUnsupportedThumbnailError,
    rawpy.NotSupportedError,
    UnidentifiedImageError,
    DecodeError,
    OSError,
    SyntaxError,
    ValueError,
)

_IS_CUT = "the camera RAW is damaged: its end is missing"


def open_raw(data: bytes, format: str, settings: DecodeSettings) -> Picture:
    """
    The picture of a RAW file: its full size, with the pixels of the preview. `format`
    is such as NEF. Raises UnidentifiedImageError if the data is not a RAW.
    """
    try:
        raw = rawpy.imread(io.BytesIO(data))
    except (rawpy.LibRawFileUnsupportedError, rawpy.LibRawIOError) as error:
        raise UnidentifiedImageError from error
    except rawpy.LibRawError as error:
        raise DecodeError(UNREADABLE_RAW) from error
    try:
        with raw:
            size = _size(raw)
            stored_as = _ORIENTATIONS.get(raw.sizes.flip, 1)
            width, height = upright_size(size, stored_as)
            image = _preview(raw, settings)
            if image is not None and _is_enough(image, size, settings):
                orientation = _orientation(image, stored_as, width > height)
            else:
                check_pixels(raw.sizes.raw_width * raw.sizes.raw_height, settings.max_pixels)
                image, orientation = _develop(raw), 1
    except rawpy.LibRawIOError as error:
        raise DecodeError(_IS_CUT) from error
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        raise DecodeError(UNREADABLE_RAW) from error
    return Picture(image, format, width, height, orientation)


def stored_preview(data: bytes) -> Image.Image | None:
    """The preview as the camera wrote it, for the metadata in it; not decoded, None if it is no JPEG."""
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            preview = raw.extract_thumb().data
        return image_of(preview, ("JPEG",)) if isinstance(preview, bytes) else None
    except (rawpy.LibRawError, *_NO_USABLE_PREVIEW):
        return None


def _preview(raw: rawpy.RawPy, settings: DecodeSettings) -> Image.Image | None:
    """The largest preview; None if there is none that is whole."""
    try:
        preview = raw.extract_thumb()
        if not isinstance(preview.data, bytes):
            return Image.fromarray(preview.data)
        loaded = load_image(preview.data, ("JPEG",), settings)
    except _NO_USABLE_PREVIEW:
        return None
    return loaded.image if loaded.warning is None else None


def _is_enough(preview: Image.Image, size: tuple[int, int], settings: DecodeSettings) -> bool:
    """Whether the preview is large enough for a model; those of some cameras have only 160 x 120 pixels."""
    return min(preview.size) >= min(settings.image_size, *size)


def _orientation(preview: Image.Image, stored_as: int, wide: bool) -> int:
    """
    The orientation of the preview. Some programs write upright previews or no EXIF without saying so, so
    the shape of the upright RAW decides.
    """
    said = said_orientation(preview)
    likely = [said] if said is not None else []
    likely += [stored_as, 1]
    for orientation in likely:
        width, height = upright_size(preview.size, orientation)
        if (width > height) == wide:
            return orientation
    return likely[0]


def _size(raw: rawpy.RawPy) -> tuple[int, int]:
    """The size of the picture, which is a part of the sensor for many cameras."""
    sizes = raw.sizes
    if sizes.crop_width and sizes.crop_height:
        return sizes.crop_width, sizes.crop_height
    return sizes.width, sizes.height


def _develop(raw: rawpy.RawPy) -> Image.Image:
    """A quick development at half the size; LibRaw turns it upright. Raises DecodeError if it is not all there."""
    rows = raw.raw_image.reshape(len(raw.raw_image), -1)
    # LibRaw tells only standard error of some files that they are cut, and leaves 0 in the rows that it lacks.
    filled = np.logical_or.reduce(rows, axis=1)
    if filled[::-1].argmax() > (1 - LEAST_READABLE) * len(filled):
        raise DecodeError(_IS_CUT)
    return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8))
