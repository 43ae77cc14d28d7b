"""The bytes of one image -> everything that a row needs. Runs in threads; knows no table."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..files.special_files import open_regular
from ..files.states import sha256_of_file
from ..metadata.columns import NOTHING, Metadata
from ..metadata.reading import read_metadata
from .colours import to_rgb
from .formats import HEIC_SUFFIXES, JXL_SUFFIXES, is_raw_name
from .kinds import (
    FilmKind,
    film_kind,
    is_damaged_raw,
    looks_like_heic,
    looks_like_jxl,
    raw_format,
)
from .opening import (
    FORMATS,
    HEIC,
    JXL,
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
from .reasons import UNREADABLE_RAW, damaged, unidentified
from .samples import averageable
from .thumbnails import make_thumbnail

if TYPE_CHECKING:
    from .films import Film

MAX_ASPECT = 50
"""The most elongated picture that a model sees. Models scale the shorter side up: a line of 1 x 65,535
pixels would become ten gigabytes."""


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


_EXTRAS = {"heic": "HEIC", "jxl": "JPEG XL", "raw": "camera RAW", "video": "a film"}


@dataclass(frozen=True)
class DecodedScene:
    """What is made of a frame of a film, at so many seconds."""

    at: float
    model_input: np.ndarray
    thumbnail: bytes | None


@dataclass(frozen=True)
class DecodedImage:
    """
    `width` and `height` are those of the upright original, `model_input` is for encode_images. `warning` says
    what is wrong with a picture that is usable nevertheless. `all_read` False says that an .xmp file beside it could
    not be read. The first of the `scenes` of a film has the model input and the thumbnail of it.
    """

    sha256: str
    format: str
    width: int
    height: int
    metadata: Metadata
    model_input: np.ndarray
    thumbnail: bytes | None
    warning: str | None = None
    all_read: bool = True
    scenes: tuple[DecodedScene, ...] = ()


def decode_file(path: Path, settings: DecodeSettings) -> DecodedImage:
    """Read a file once and decode it once. Raises DecodeError for any problem."""
    with reading():
        check_file_size(path.stat().st_size, settings.max_pixels)
        with open_regular(path) as file:
            data = file.read()
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


def decode_bytes(
    data: bytes, name: str, settings: DecodeSettings, beside: Sequence[bytes] = ()
) -> DecodedImage:
    """
    Decode an image. `name` is that of its file, or "": most camera RAW is TIFF by its bytes.
    `beside` are the .xmp files beside it.
    Raises DecodeError; errors of `settings.preprocess` are no fault of the image, and pass through.
    """
    kind = film_kind(data, name)
    if kind is not None:
        return decode_film(io.BytesIO(data), kind, settings, beside)
    with _explaining(data, name):
        opened = _open(data, name, settings)
        with opened.image:
            picture = _upright_rgb(opened, settings)
            metadata = (
                read_metadata(data, opened.image, beside) if settings.read_metadata else NOTHING
            )
    size = settings.thumbnail_size
    return DecodedImage(
        sha256=hashlib.sha256(data).hexdigest(),
        format=opened.format,
        width=opened.width,
        height=opened.height,
        metadata=metadata,
        model_input=settings.preprocess(_squash(picture)),
        thumbnail=None if size is None else make_thumbnail(picture, size),
        warning=opened.warning,
    )


def decode_film(
    file: BinaryIO, kind: FilmKind, settings: DecodeSettings, beside: Sequence[bytes] = ()
) -> DecodedImage:
    """
    A film, with its scenes. It is read where frames are wanted, and once for its hash, so that it may be larger than the
    memory. Raises as decode_bytes() does.
    """
    film = _read_film(file, kind, settings)
    size = settings.thumbnail_size
    scenes = [
        DecodedScene(
            frame.at,
            settings.preprocess(_squash(frame.image)),
            None if size is None else make_thumbnail(frame.image, size),
        )
        for frame in film.scenes
    ]
    metadata = NOTHING
    if settings.read_metadata:
        metadata = read_metadata(b"", None, beside, film.metadata)
    with reading():
        sha256 = sha256_of_file(file)
    return DecodedImage(
        sha256=sha256,
        format=film.format,
        width=film.width,
        height=film.height,
        metadata=metadata,
        model_input=scenes[0].model_input,
        thumbnail=scenes[0].thumbnail,
        warning=film.warning,
        scenes=tuple(scenes),
    )


def _films() -> ModuleType:
    try:
        from . import films  # Loads FFmpeg, so not before there is a film.
    except ImportError as error:
        raise missing_extra("video") from error
    return films


def _read_film(file: BinaryIO, kind: FilmKind, settings: DecodeSettings) -> Film:
    film: Film = _films().read_film(file, kind, settings)
    return film


def decode_picture(data: bytes, name: str, settings: DecodeSettings) -> Image.Image:
    """
    The upright picture in sRGB, as large as the thumbnail of `settings` needs it, or larger; that of the longest scene
    of a film.
    """
    kind = film_kind(data, name)
    if kind is not None:
        return _read_film(io.BytesIO(data), kind, settings).scenes[0].image
    with _explaining(data, name):
        opened = _open(data, name, settings)
        with opened.image:
            return _upright_rgb(opened, settings)


def picture_for_model(data: bytes, name: str, settings: DecodeSettings) -> Image.Image:
    """The picture that `decode_bytes` would give to `settings.preprocess`."""
    return _squash(decode_picture(data, name, settings))


def stored_size(data: bytes, max_pixels: int) -> tuple[str, tuple[int, int]]:
    """
    Pillow's name of the format of a picture that is not a RAW, or the format of a film, and its size as stored. Decodes
    nothing but a JPEG XL, which its decoder cannot open otherwise. Raises TooLarge if that would take more than `max_pixels`.
    """
    kind = film_kind(data, "")
    if kind is not None:
        return kind.format, _films().film_size(io.BytesIO(data), kind)
    with _explaining(data, ""):
        check_cost(data, max_pixels)
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
        if not HEIC and looks_like_heic(data, name):
            raise missing_extra("heic") from error
        if not JXL and looks_like_jxl(data, name):
            raise missing_extra("jxl") from error
        is_raw = is_damaged_raw(data, name)
        raise DecodeError(UNREADABLE_RAW if is_raw else unidentified(data, name)) from error
    except Image.DecompressionBombError as error:
        # Pillow allocates memory for a whole WebP when it opens it, and checks its own limit first.
        raise TooLarge("the picture has more pixels than can be read in its format") from error
    except MemoryError as error:
        raise DecodeError("there is not enough memory for the picture") from error
    except Exception as error:
        # On damaged files Pillow raises OSError, ValueError, SyntaxError, struct.error and more.
        raise DecodeError(damaged(error)) from error


def missing_extra(extra: str) -> DecodeError:
    """The error for a file that needs an extra, a key of _EXTRAS."""
    return DecodeError(
        f"{_EXTRAS[extra]} needs an extra: pip install 'datasette-image-search[{extra}]'", extra
    )


def may_need_extra(name: str) -> bool:
    """Whether a file with this name is, more likely than not, one for an extra that is not installed."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (of every file that is new)
    return (
        (suffix in HEIC_SUFFIXES and not HEIC)
        or (suffix in JXL_SUFFIXES and not JXL)
        or (is_raw_name(name) and find_spec("rawpy") is None)
    )


def missing_extra_for(head: bytes, name: str) -> DecodeError | None:
    """
    The error to expect of a file with these first HEAD bytes, if it needs an extra that is not installed.
    """
    if raw_format(head, name) is not None:
        return missing_extra("raw") if find_spec("rawpy") is None else None
    # By the bytes alone: files have such names that are something else.
    if looks_like_heic(head, "") and not HEIC:
        return missing_extra("heic")
    if looks_like_jxl(head, "") and not JXL:
        return missing_extra("jxl")
    return None


def _open(data: bytes, name: str, settings: DecodeSettings) -> Picture:
    format = raw_format(data, name)
    if format is None:
        return read_picture(data, settings)
    try:
        from .raw import open_raw  # Loads LibRaw, so not before there is a RAW file.
    except ImportError as error:
        # Pillow reads the picture that is in some such files, and was asked to by their names.
        if not is_raw_name(name):
            with suppress(UnidentifiedImageError):
                return read_picture(data, settings)
        raise missing_extra("raw") from error
    return open_raw(data, format, settings)


# --- Pixels --------------------------------------------------------------------------------------


def _upright_rgb(opened: Picture, settings: DecodeSettings) -> Image.Image:
    """The picture, made upright and no larger than the model and the thumbnail need it: pixels, nothing else of the file."""
    image = averageable(opened.image)
    factor = reduction(image.size, settings)
    if factor > 1:
        image = image.reduce(factor)
    image = to_rgb(image, opened.image.info)
    # Pillow writes a comment into each JPEG that is made of the picture, for people who may not see the file, and refuses
    # to write a long one.
    image.info = {}
    turn = _TURNS.get(opened.orientation)
    return image if turn is None else image.transpose(turn)


def reduction(size: tuple[int, int], settings: DecodeSettings) -> int:
    """The factor by which the sides of a picture are reduced right after decoding; 1 for none."""
    # Twice, because averaging blurs more than `draft` and the time is in the decoding.
    return max(min(size) // (2 * enough_pixels(size, settings)), 1)


def _squash(picture: Image.Image) -> Image.Image:
    """The picture, squeezed to at most MAX_ASPECT times as long as it is wide."""
    width, height = picture.size
    size = (min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BOX)
