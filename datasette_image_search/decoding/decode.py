"""The bytes of one image -> everything that a row needs. Runs in threads; knows no table."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from .exif import Exif
from .formats import HEIC_SUFFIXES, RAW_SUFFIXES
from .opening import (
    FORMATS,
    HEIC,
    DecodeError,
    DecodeSettings,
    TooLarge,
    Unreadable,
    check_cost,
    check_file_size,
    enough_pixels,
    image_of,
)
from .picture import Picture, read_picture

THUMBNAIL_QUALITY = 75

THUMBNAIL_METHOD = 2
"""WebP's effort: 2 takes half the time of the default 4, and makes files 3 % larger."""


MAX_ASPECT = 50
"""The most elongated picture that a model sees. Models scale the shorter side up: a line of 1 x 65,535
pixels would become ten gigabytes."""


MAX_ICC_PROFILES = 16

MAX_ICC_BYTES = 1_000_000
"""The largest profile that is remembered. Those of cameras have a few thousand bytes, of printers a
million."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the operation that makes the picture upright."""


_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_EXTRAS = {"heic": "HEIC", "raw": "camera RAW"}

_ICC_SPACES = {"RGB": "RGB ", "CMYK": "CMYK", "L": "GRAY"}
"""Mode -> the colour space of a profile for it; many files have a profile for another mode."""


@dataclass(frozen=True)
class DecodedImage:
    """
    `width` and `height` are those of the upright original, `model_input` is for encode_images. `warning` says
    what is wrong with a picture that is usable nevertheless.
    """

    sha256: str
    format: str
    width: int
    height: int
    exif: Exif
    model_input: np.ndarray
    thumbnail: bytes | None
    warning: str | None = None


def decode_file(path: Path, settings: DecodeSettings) -> DecodedImage:
    """Read a file once and decode it once. Raises DecodeError for any problem."""
    with reading():
        check_file_size(path.stat().st_size, settings.max_pixels)
        data = path.read_bytes()
    return decode_bytes(data, path.name, settings)


@contextmanager
def reading() -> Iterator[None]:
    """Turns errors of the system about reading a file into Unreadable."""
    try:
        yield
    except FileNotFoundError as error:
        raise Unreadable("the file is gone") from error
    except OSError as error:
        raise Unreadable(f"the file cannot be read: {error.strerror or error}") from error


def decode_bytes(data: bytes, name: str, settings: DecodeSettings) -> DecodedImage:
    """
    Decode an image. `name` is that of its file, or "": the format of a camera RAW is not in its bytes.
    Raises DecodeError; errors of `settings.preprocess` are no fault of the image, and pass through.
    """
    with _explaining(data, name):
        opened = _open(data, name, settings)
        with opened.image:
            picture = _upright_rgb(opened, settings)
        size = settings.thumbnail_size
        thumbnail = None if size is None else make_thumbnail(picture, size)
    return DecodedImage(
        sha256=hashlib.sha256(data).hexdigest(),
        format=opened.format,
        width=opened.width,
        height=opened.height,
        exif=opened.exif,
        model_input=settings.preprocess(_squash(picture)),
        thumbnail=thumbnail,
        warning=opened.warning,
    )


def decode_picture(data: bytes, name: str, settings: DecodeSettings) -> Image.Image:
    """The upright picture in sRGB, as large as the thumbnail of `settings` needs it, or larger."""
    with _explaining(data, name):
        opened = _open(data, name, settings)
        with opened.image:
            return _upright_rgb(opened, settings)


def picture_for_model(data: bytes, name: str, settings: DecodeSettings) -> Image.Image:
    """The picture that `decode_bytes` would give to `settings.preprocess`."""
    return _squash(decode_picture(data, name, settings))


def stored_size(data: bytes) -> tuple[str, tuple[int, int]]:
    """
    Pillow's name of the format of a picture that is not a RAW, and its size as stored; decodes nothing.
    """
    with _explaining(data, ""):
        check_cost(data)
        with image_of(data, FORMATS) as image:
            return image.format or "", image.size


@contextmanager
def _explaining(data: bytes, name: str) -> Iterator[None]:
    """Turns any error of Pillow about the bytes of one file into DecodeError."""
    if not data:
        raise DecodeError("the file is empty")
    try:
        yield
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        if not HEIC and _looks_like_heic(data, name):
            raise missing_extra("heic") from error
        raise DecodeError("the file is not a picture of a known format, or is damaged") from error
    except Image.DecompressionBombError as error:
        # Pillow allocates memory for a whole WebP when it opens it, and checks its own limit first.
        raise TooLarge("the picture has more pixels than Pillow allows in this format") from error
    except MemoryError as error:
        raise DecodeError("there is not enough memory for the picture") from error
    except Exception as error:
        # On damaged files Pillow raises OSError, ValueError, SyntaxError, struct.error and more.
        raise DecodeError(f"the picture is damaged: {_words(error)}") from error


def _words(error: Exception) -> str:
    """Pillow's message on one line, the same for all files, because reasons are counted."""
    if isinstance(error, TypeError):
        return "its header is invalid"  # Said in words for programmers, about arguments.
    text = re.sub(r" \(\d+ bytes not processed\)", "", " ".join(str(error).split()))
    text = re.sub(r"^decoder error -?\d+$", "its compressed data is invalid", text)
    return text or type(error).__name__


def missing_extra(extra: str) -> DecodeError:
    """The error for a file that needs an extra, a key of _EXTRAS."""
    return DecodeError(
        f"{_EXTRAS[extra]} needs an extra: pip install 'datasette-image-search[{extra}]'", extra
    )


def missing_extra_for(name: str) -> DecodeError | None:
    """The error to expect of a file with this name, if it needs an extra that is not installed."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (of every file that is new)
    if suffix in HEIC_SUFFIXES and not HEIC:
        return missing_extra("heic")
    if suffix in RAW_SUFFIXES and find_spec("rawpy") is None:
        return missing_extra("raw")
    return None


def _looks_like_heic(data: bytes, name: str) -> bool:
    """Checks name and content, because telephones and chats also call them .jpg."""
    branded = data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS
    return branded or PurePath(name).suffix.lower() in HEIC_SUFFIXES


def _open(data: bytes, name: str, settings: DecodeSettings) -> Picture:
    if PurePath(name).suffix.lower() not in RAW_SUFFIXES:
        return read_picture(data, settings)
    try:
        from .raw import open_raw  # Loads LibRaw, so not before there is a RAW file.
    except ImportError as error:
        raise missing_extra("raw") from error
    return open_raw(data, name, settings)


# --- Pixels --------------------------------------------------------------------------------------


def _upright_rgb(opened: Picture, settings: DecodeSettings) -> Image.Image:
    """The picture, made upright and no larger than the model and the thumbnail need it."""
    image = _averageable(opened.image)
    factor = reduction(image.size, settings)
    if factor > 1:
        image = image.reduce(factor)
    image = to_rgb(image, opened.image.info.get("icc_profile"))
    turn = _TURNS.get(opened.orientation)
    return image if turn is None else image.transpose(turn)


def reduction(size: tuple[int, int], settings: DecodeSettings) -> int:
    """The factor by which the sides of a picture are reduced right after decoding; 1 for none."""
    # Twice, because averaging blurs more than `draft` and the time is in the decoding.
    return max(min(size) // (2 * enough_pixels(size, settings)), 1)


def _averageable(image: Image.Image) -> Image.Image:
    """
    The picture in a mode that `reduce` can average, with transparency as a channel: neither the colours
    of a palette nor a colour that is declared transparent have a mean.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "PA" or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode == "P":
        return image.convert("RGB")
    return image.convert("L") if image.mode == "1" else image


def to_rgb(image: Image.Image, profile: bytes | None = None) -> Image.Image:
    """Any mode of `_averageable` -> sRGB; transparency on white. `profile` is an ICC profile."""
    if image.mode in ("I", "F"):
        image = _eight_bits(image)
    elif image.mode in ("RGBA", "LA", "La", "RGBa"):
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        image = Image.alpha_composite(white, picture).convert("RGB")
    transform = _transform(profile, image.mode) if profile else None
    return image.convert("RGB") if transform is None else transform.apply(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 32 bits or floats -> L; Pillow's own conversion cuts everything above 255."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0.0, neginf=0.0)
    highest = values.max(initial=0.0)
    full_scale = 1.0 if highest <= 1.0 else 255.0 if highest <= 255.0 else 65535.0
    scaled = np.clip(values / max(full_scale, highest), 0.0, 1.0) * 255
    return Image.fromarray(scaled.round().astype(np.uint8))


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """
    The transform to sRGB, remembered by the bytes of the profile, because the photos of one camera share
    one.
    """
    if len(profile) > MAX_ICC_BYTES:
        return _srgb_transform(profile, mode)
    return _remembered_transform(profile, mode)


def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from `mode` to sRGB; None if the profile is damaged, is for another mode, or is sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _ICC_SPACES.get(mode):
            return None
        # Threads share the transform: LittleCMS promises that only for one without its own cache.
        transform = ImageCms.ImageCmsTransform(
            source, _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags=ImageCms.Flags.NOCACHE
        )
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except Exception:
        # Odd profiles raise PyCMSError, OSError, ValueError; the colours without one will do.
        return None


_remembered_transform = lru_cache(maxsize=MAX_ICC_PROFILES)(_srgb_transform)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether no colour changes by more than 2 of 255: sRGB has many names and versions."""
    steps = np.linspace(0, 255, 16).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(64, 64, 3)
    changed = np.asarray(transform.apply(Image.fromarray(colours)))
    return bool(np.abs(changed.astype(int) - colours).max() <= 2)


def _squash(picture: Image.Image) -> Image.Image:
    """The picture, squeezed to at most MAX_ASPECT times as long as it is wide."""
    width, height = picture.size
    size = (min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BOX)


def make_thumbnail(picture: Image.Image, size: int) -> bytes:
    """A WebP whose longer side has `size` pixels, or fewer if the picture has fewer."""
    small = picture.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY, method=THUMBNAIL_METHOD)
    return buffer.getvalue()
