"""The file extensions of images, default sizes, and number formats: what commands know at their start."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal

THUMBNAIL_SIZE = 320
"""Pixels of the longer side."""

Precision = Literal["float32", "float16", "bfloat16", "int8"]
"""The number formats of a model."""

BATCH_SIZE = 32
"""Images that are encoded and committed together."""

HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Need the extra `heic`."""

JXL_SUFFIXES = frozenset({".jxl"})
"""Need the extra `jxl`."""

# fmt: off
RAW_SUFFIXES = frozenset({
    ".3fr", ".ari", ".arw", ".bay", ".bmq", ".cap", ".cr2", ".cr3", ".crw", ".cs1", ".dc2", ".dcr", ".dcs", ".dng",
    ".drf", ".erf", ".fff", ".gpr", ".ia", ".iiq", ".k25", ".kc2", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef",
    ".nrw", ".orf", ".pef", ".ptx", ".pxn", ".qtk", ".raf", ".raw", ".rdc", ".rw2", ".rwl", ".rwz", ".sr2", ".srf",
    ".srw", ".sti", ".x3f",
})
"""Camera RAW that LibRaw reads; need the extra `raw`."""

FILM_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".3gp"})
"""Need the extra `video`."""

FILM_FORMATS = frozenset({"MP4", "MOV", "M4V", "AVI", "MKV", "WEBM", "MTS", "3GP"})
"""As rows have them."""

FILMS = find_spec("av") is not None
"""Whether that is installed. Otherwise films are left out, as files of other programs are."""

IMAGE_SUFFIXES = HEIC_SUFFIXES | JXL_SUFFIXES | RAW_SUFFIXES | (FILM_SUFFIXES if FILMS else set()) | {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif",
    ".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm", ".pnm", ".mpo", ".jps", ".apng", ".dib",
}
# fmt: on


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (100,000 times)


def is_film_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in FILM_SUFFIXES  # noqa: PTH122 (100,000 times)


def is_raw_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in RAW_SUFFIXES  # noqa: PTH122 (100,000 times)
