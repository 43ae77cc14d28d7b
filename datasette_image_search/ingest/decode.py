"""The bytes of one file -> everything that a row needs. Runs in threads; knows no table."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .exif import Exif, read_exif, read_orientation

try:
    import pillow_heif
except ImportError:
    HEIC = False
else:
    pillow_heif.register_heif_opener()
    HEIC = True

THUMBNAIL_SIZE = 320
"""Pixels of the longer side."""

THUMBNAIL_QUALITY = 75

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what brings the picture upright."""

_SIDEWAYS = (5, 6, 7, 8)

_HEIC_SUFFIXES = (".heic", ".heif", ".hif")


class DecodeError(Exception):
    """A file that is no usable picture; the message is the reason that a person reads."""


@dataclass(frozen=True)
class DecodeSettings:
    """
    What to make of a picture. `preprocess` is an embedder's and gets pictures of which the shorter
    side is at least `image_size`, where the file has as much.
    """

    preprocess: Callable[[Image.Image], np.ndarray]
    image_size: int
    thumbnail_size: int = THUMBNAIL_SIZE


@dataclass(frozen=True)
class DecodedImage:
    """`width` and `height` are those of the upright original, `model_input` is for encode_images."""

    sha256: str
    format: str
    width: int
    height: int
    exif: Exif
    model_input: np.ndarray
    thumbnail: bytes


def decode_file(path: Path, settings: DecodeSettings) -> DecodedImage:
    """Read a file once and decode it once. Raises DecodeError for whatever is wrong with it."""
    try:
        data = path.read_bytes()
        if not data:
            raise DecodeError("the file is empty")
        return decode(data, settings)
    except DecodeError as error:
        if not HEIC and path.suffix.lower() in _HEIC_SUFFIXES:
            raise DecodeError(
                "HEIC needs an extra: pip install 'datasette-image-search[heic]'"
            ) from error
        raise
    except FileNotFoundError as error:
        raise DecodeError("the file is gone") from error
    except OSError as error:
        raise DecodeError(f"the file cannot be read: {error.strerror or error}") from error


def decode(data: bytes, settings: DecodeSettings) -> DecodedImage:
    """Raises DecodeError."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _decode_image(image, data, settings)
    except UnidentifiedImageError as error:
        raise DecodeError("the file is not a picture of a known format, or is damaged") from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"the picture has too many pixels: {error}") from error
    except Exception as error:
        # On damaged files Pillow raises OSError, ValueError, SyntaxError, struct.error and more.
        raise DecodeError(
            f"the picture is damaged: {str(error) or type(error).__name__}"
        ) from error


def _decode_image(image: Image.Image, data: bytes, settings: DecodeSettings) -> DecodedImage:
    format = image.format or ""
    size = image.size
    exif = read_exif(image)
    orientation = read_orientation(image)
    # Twice what the model wants keeps its own resizing as good as from the full picture.
    enough = max(2 * settings.image_size, settings.thumbnail_size)
    image.draft(None, (enough, enough))
    turn = _TURNS.get(orientation)
    image = _shrink(image, enough)
    picture = to_rgb(image if turn is None else image.transpose(turn))
    width, height = reversed(size) if orientation in _SIDEWAYS else size
    return DecodedImage(
        sha256=hashlib.sha256(data).hexdigest(),
        format=format,
        width=width,
        height=height,
        exif=exif,
        model_input=settings.preprocess(picture),
        thumbnail=make_thumbnail(picture, settings.thumbnail_size),
    )


def _shrink(image: Image.Image, enough: int) -> Image.Image:
    """A whole-number reduction by averaging, for what draft (JPEG only) did not make smaller."""
    factor = min(image.size) // enough
    reducible = image.mode in ("L", "LA", "RGB", "RGBA", "CMYK", "I", "F")
    return image.reduce(factor) if factor > 1 and reducible else image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB: 16 bits scaled down, transparency on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or floats; Pillow's own conversion cuts everything above 255."""
    values = np.asarray(image).astype(np.float32)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    highest = values.max(initial=0.0)
    full_scale = 1.0 if highest <= 1.0 else 255.0 if highest <= 255.0 else 65535.0
    scaled = np.clip(values / max(full_scale, highest), 0.0, 1.0) * 255
    return Image.fromarray(scaled.round().astype(np.uint8))


def make_thumbnail(picture: Image.Image, size: int) -> bytes:
    """WebP, the longer side `size` pixels, or smaller where the picture is."""
    small = picture.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()
