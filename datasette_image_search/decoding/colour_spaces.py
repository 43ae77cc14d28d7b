"""
Colours that a file describes by numbers instead of by a profile -> sRGB: the codes of AVIF, HEIF and PNG (CICP, ITU-T
H.273), and gamma and chromaticities of PNG. HDR is shown as a browser does on a screen without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue, in the order of PNG."""

_D65 = (0.3127, 0.3290)

SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

_PRIMARIES: Mapping[int, Chromaticities] = {
    1: SRGB,
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
"""By their CICP code; others are taken for those of sRGB."""

_GAMMAS: Mapping[int, float] = {4: 2.2, 5: 2.8, 8: 1.0}
"""By the CICP code of the transfer. Browsers take those of films, such as 1 and 6, for that of sRGB."""

_PQ, _HLG = 16, 18

_REFERENCE_WHITE = 203.0
"""cd/m² of white paper in HDR."""

_PEAK = 1000.0
"""cd/m² of the brightest light that is told apart."""

_EXPOSURE = 0.5
"""White paper is shown at this part of the brightest that a screen has, to leave room for lights."""

_KNEE = 0.42
"""What is darker than this part of the brightest is not compressed."""

MOST_PIXELS = 500_000
"""That are transformed at once."""

_BT2020_LUMINANCE = (0.2627, 0.6780, 0.0593)

_NEARLY_SRGB = 0.01
"""The gamma of sRGB is 1 / 2.2, or nearly, as files write it."""


@dataclass(frozen=True)
class ColourSpace:
    """`gamma` is the exponent from samples to light, None for the curve of sRGB. `hdr` is "PQ" or "HLG"."""

    chromaticities: Chromaticities = SRGB
    gamma: float | None = None
    hdr: str | None = None


def space_of(info: Mapping[Any, Any]) -> ColourSpace | None:
    """
    The colour space by the `info` of an image, with "cicp" as a pair of codes; None if it is that of sRGB, or the file
    does not say.
    """
    if "cicp" in info:
        primaries, transfer = info["cicp"]
        hdr = {_PQ: "PQ", _HLG: "HLG"}.get(transfer)
        space = ColourSpace(_PRIMARIES.get(primaries, SRGB), _GAMMAS.get(transfer), hdr)
    elif "srgb" in info:
        return None
    else:
        gamma = info.get("gamma") or None
        if gamma is not None and abs(gamma - 1 / 2.2) < _NEARLY_SRGB:
            gamma = None
        space = ColourSpace(_chromaticities(info), None if gamma is None else 1 / gamma)
    return None if space == ColourSpace() else space


def _chromaticities(info: Mapping[Any, Any]) -> Chromaticities:
    """Those of a PNG, unless no colour has them."""
    given = info.get("chromaticity")
    if given is None or np.abs(np.subtract(given, SRGB)).max() < 0.001:
        return SRGB
    try:
        matrix = _to_srgb(given)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return SRGB
    return tuple(given) if np.isfinite(matrix).all() and np.abs(matrix).max() < 100 else SRGB


def apply_space(image: Image.Image, space: ColourSpace) -> Image.Image:
    """RGB in a colour space -> sRGB."""
    samples = np.asarray(image)
    shown = np.empty_like(samples)
    # Light takes many times the memory of samples.
    rows = max(MOST_PIXELS // image.width, 1)
    for start in range(0, image.height, rows):
        part = slice(start, start + rows)
        shown[part] = _shown(_light(space)[samples[part]], space)
    return Image.fromarray(shown)


def _shown(light: np.ndarray, space: ColourSpace) -> np.ndarray:
    if space.hdr == "HLG":
        luminance = light @ np.array(_BT2020_LUMINANCE, np.float32)
        light *= (luminance**0.2)[..., None]
    if space.hdr is not None:
        light *= _PEAK / _REFERENCE_WHITE * _EXPOSURE
        brightest = light.max(axis=-1, keepdims=True)
        light *= _compressed(brightest) / np.maximum(brightest, 1e-9)
    if space.chromaticities != SRGB:
        light = light @ _to_srgb(space.chromaticities).T.astype(np.float32)
    levels = len(_FROM_LIGHT) - 1
    return _FROM_LIGHT[(np.clip(light, 0, 1) * levels + 0.5).astype(np.uint16)]


def _compressed(light: np.ndarray) -> np.ndarray:
    """Light above the knee bends, with the same slope at first, so that the peak becomes 1."""
    peak = _PEAK / _REFERENCE_WHITE * _EXPOSURE
    slope = (peak - _KNEE) / (1 - _KNEE)
    above = np.clip((light - _KNEE) / (peak - _KNEE), 0, 1)
    bent = _KNEE + (1 - _KNEE) * slope * above / (1 + (slope - 1) * above)
    return np.where(light > _KNEE, bent, light)


@lru_cache(maxsize=16)
def _light(space: ColourSpace) -> np.ndarray:
    """The light of each of the 256 samples: 1 is white or, in HDR, the peak."""
    samples = np.arange(256) / 255
    curve: Callable[[np.ndarray], np.ndarray] = _srgb_curve
    if space.hdr == "PQ":
        curve = _pq_curve
    elif space.hdr == "HLG":
        curve = _hlg_curve
    elif space.gamma is not None:
        return (samples**space.gamma).astype(np.float32)
    return curve(samples).astype(np.float32)


def _srgb_curve(samples: np.ndarray) -> np.ndarray:
    return np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)


def _pq_curve(samples: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    root = samples ** (32 / 2523)
    light = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
    return 10_000 / _PEAK * light ** (16384 / 2610)


def _hlg_curve(samples: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, of the scene; a screen of 1000 cd/m² raises its luminance to the power of 1.2."""
    bright = (np.exp((samples - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(samples <= 0.5, samples**2 / 3, bright)


def _from_light() -> np.ndarray:
    light = np.linspace(0, 1, 4096)
    samples = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (samples * 255).round().astype(np.uint8)


_FROM_LIGHT = _from_light()


@lru_cache(maxsize=16)
def _to_srgb(chromaticities: Chromaticities) -> np.ndarray:
    """The matrix from light of other primaries to that of sRGB; white stays white."""
    return np.linalg.inv(_to_xyz(SRGB)) @ _adaptation(chromaticities) @ _to_xyz(chromaticities)


def _to_xyz(chromaticities: Chromaticities) -> np.ndarray:
    white, *primaries = (_xyz(*chromaticities[i : i + 2]) for i in range(0, 8, 2))
    columns = np.stack(primaries, axis=1)
    return columns * np.linalg.solve(columns, white)


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(chromaticities: Chromaticities) -> np.ndarray:
    """Bradford's, from their white to that of sRGB."""
    bradford = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    ours, theirs = (bradford @ _xyz(*white[:2]) for white in (SRGB, chromaticities))
    return np.linalg.inv(bradford) @ np.diag(ours / theirs) @ bradford
