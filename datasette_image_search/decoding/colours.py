"""The colours of a picture, as its file describes them -> sRGB on white."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from .colour_spaces import apply_space, space_of
from .profiles import transform_to_srgb


def to_rgb(image: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    """
    Any mode of averageable() -> sRGB; transparency on white. `info` is that of the file: its ICC profile, or else the
    numbers by which it describes its colours.
    """
    opacity = None
    if image.mode in ("RGBA", "LA", "La", "RGBa", "PA"):
        picture = image.convert("RGBA")
        opacity = picture.getchannel("A")
        image = image.convert("L" if image.mode in ("LA", "La") else "RGB")
    image = _in_srgb(image, info)
    if opacity is None or opacity.getextrema() == (255, 255):
        return image
    return Image.composite(image, Image.new("RGB", image.size, "white"), opacity)


def _in_srgb(image: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    profile = info.get("icc_profile")
    if profile and "cicp" not in info:
        transform = transform_to_srgb(profile, image.mode)
        return image.convert("RGB") if transform is None else transform.apply(image)
    space = space_of(info)
    rgb = image.convert("RGB")
    return rgb if space is None or image.mode not in ("RGB", "L") else apply_space(rgb, space)
