"""ICC profiles -> sRGB."""

from __future__ import annotations

import io
import struct
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILES = 16

MAX_BYTES = 1_000_000
"""The largest profile that is remembered. Those of cameras have a few thousand bytes, of printers a
million."""

_SPACES = {"RGB": "RGB ", "CMYK": "CMYK", "L": "GRAY"}
"""Mode -> the colour space of a profile for it; many files have a profile for another mode."""


_BMP_HEADER, _V5 = 14, 124
"""The place of the second header of a BMP, and its size in the version that has a profile."""

_EMBEDDED = b"DEBM"


def profile_of_bmp(data: bytes) -> bytes | None:
    """The profile of a BMP, which Pillow does not look for; None if there is none."""
    if len(data) < _BMP_HEADER + _V5 or struct.unpack_from("<I", data, _BMP_HEADER) != (_V5,):
        return None
    kind, place, size = struct.unpack_from("<4s52xII", data, _BMP_HEADER + 56)
    start = _BMP_HEADER + place
    return data[start : start + size] if kind == _EMBEDDED else None


def transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """
    The transform from `mode` to sRGB; None if the profile is damaged, is for another mode, or is sRGB. It is remembered
    by the bytes of the profile, because the photos of one camera share one.
    """
    if len(profile) > MAX_BYTES:
        return _made(profile, mode)
    return _remembered(profile, mode)


def _made(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES.get(mode):
            return None
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        # Threads share the transform: LittleCMS promises that only for one without its own cache.
        transform = ImageCms.ImageCmsTransform(
            source, srgb, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags=ImageCms.Flags.NOCACHE
        )
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except Exception:
        # Odd profiles raise PyCMSError, OSError, ValueError; the colours without one will do.
        return None


_remembered = lru_cache(maxsize=MAX_PROFILES)(_made)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether no colour changes by more than 2 of 255: sRGB has many names and versions."""
    steps = np.linspace(0, 255, 16).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(64, 64, 3)
    changed = np.asarray(transform.apply(Image.fromarray(colours)))
    return bool(np.abs(changed.astype(int) - colours).max() <= 2)
