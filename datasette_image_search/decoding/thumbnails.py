"""How the small picture of an image is stored: a photo as JPEG, a drawing as WebP."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

DRAWN = 0.5
"""
A picture with so many pixels like the one to their left is text, a chart or a screenshot: even drawings without a plain
background have 0.6, and photos of cameras 0.44 at most. As JPEG it would be blurred and twice as large.
"""

FEW_COLOURS = 64
"""A picture with so many, such as a logo, is stored without loss: it is smaller so, and the patterns of its pixels stay."""

FEW_PIXELS = 64 * 64
"""So is an icon."""

_ROWS = 64
"""Of a picture, which tell whether it is drawn."""


def _steps(least: int, most: int) -> list[int]:
    """The quantization of the 64 frequencies of JPEG, from the lowest to the highest."""
    return [round(least + (most - least) * (x + y) / 14) for y in range(8) for x in range(8)]


STEPS = _steps(8, 26), _steps(11, 35)
"""
Of brightness and of colours. In the tables of the standard the steps for fine detail, of which thumbnails have much, are
larger, and those for the rest smaller: files are a seventh larger with them at the same likeness.
"""


def make_thumbnail(picture: Image.Image, size: int) -> bytes:
    """
    A JPEG of an RGB picture, whose longer side has `size` pixels, or fewer if the picture has fewer. It is a WebP if the
    picture is drawn, or an icon.
    """
    drawn = is_drawn(picture)
    small = picture.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS if drawn else Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    is_tiny = small.width * small.height <= FEW_PIXELS
    lossless = is_tiny or small.getcolors(FEW_COLOURS) is not None
    if lossless or drawn:
        small.save(buffer, "WEBP", quality=75, method=2, lossless=lossless)
    else:
        small.save(buffer, "JPEG", qtables=STEPS, optimize=True)
    return buffer.getvalue()


def is_drawn(picture: Image.Image) -> bool:
    """Whether an RGB picture was drawn by a program, as text, charts and screenshots are, and not taken by a camera."""
    some = picture.resize((picture.width, min(picture.height, _ROWS)), Image.Resampling.NEAREST)
    pixels = np.asarray(some.convert("RGBA")).view(np.uint32)[..., 0]
    return bool(np.count_nonzero(pixels[:, 1:] == pixels[:, :-1]) >= DRAWN * pixels.size)
