"""The file extensions of images, default sizes, and number formats: what commands know at their start."""

from __future__ import annotations

import os
from typing import Literal

THUMBNAIL_SIZE = 320
"""Pixels of the longer side."""

Precision = Literal["float32", "float16", "bfloat16"]
"""The number formats of a model."""

BATCH_SIZE = 32
"""Images that are encoded and committed together."""

HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Need the extra `heic`."""

# fmt: off
RAW_SUFFIXES = frozenset({
    ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw",
})
"""Camera RAW; need the extra `raw`."""

IMAGE_SUFFIXES = HEIC_SUFFIXES | RAW_SUFFIXES | {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif",
    ".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm", ".pnm",
}
# fmt: on


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (100,000 times)
