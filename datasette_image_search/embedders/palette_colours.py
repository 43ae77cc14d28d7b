"""Colours as `palette` knows them: OKLab, 67 reference colours, and what one colour counts for."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import ImageColor


def named(text: str) -> dict[str, str]:
    """Name -> value, of "name value, name value"."""
    return dict(each.rsplit(" ", 1) for each in text.split(", "))


# Groups are the basic colour terms that Berlin and Kay (1969) found in English, plus teal: a
# coarse cell of the layout only counts groups, the histogram of the whole picture counts each.
REFERENCE_COLOURS = {
    "black": named("black #000000, jet #1e1e1e"),
    "grey": named("charcoal #3c3c3c, dim grey #646464, grey #8c8c8c, silver #b4b4b4"),
    "white": named("light grey #dcdcdc, white #ffffff"),
    "red": named("maroon #5a0f14, firebrick #b22222, red #f20c14, indian red #cd5c5c"),
    "orange": named("orange red #ff5414, dark orange #ff8c00, light salmon #ffa07a, peach #ffdab9"),
    "brown": named(
        "dark brown #3b2416, coffee #633f22, taupe #6e5c4d, saddle brown #8b4513, "
        "sienna #a0522d, camel #c19a6b, tan #d2b48c"
    ),
    "yellow": named(
        "dark goldenrod #b8860b, goldenrod #daa520, gold #ffd000, yellow #fff000, "
        "dark khaki #bdb76b, khaki #f0e68c, cream #fff5c8"
    ),
    "green": named(
        "dark olive #3a3d1c, moss #5b6b45, olive #808000, olive drab #6b8e23, "
        "yellow green #9acd32, dark green #0b3d0b, forest green #228b22, lime green #32cd32, "
        "pale green #98fb98, sea green #2e8b57, dark sea green #8fbc8f"
    ),
    "teal": named(
        "dark slate #2f4f4f, teal #008080, cadet blue #5f9ea0, turquoise #40e0d0, "
        "light cyan #d0f4f4"
    ),
    "blue": named(
        "navy #0f1b3d, dark blue #101080, blue #0000ff, cobalt #0047ab, royal blue #4169e1, "
        "steel blue #4682b4, azure #00a5ff, sky blue #87ceeb, light steel blue #b0c4de, "
        "slate grey #708090"
    ),
    "purple": named(
        "indigo #4b0082, purple #800080, slate blue #6a5acd, mauve #9b7fa6, orchid #ba55d3, "
        "lavender #d8d0f0"
    ),
    "pink": named(
        "raspberry #b3125f, deep pink #ff1493, hot pink #ff69b4, rosy brown #bc8f8f, pink #ffc0cb"
    ),
}
GROUPS = list(REFERENCE_COLOURS)

GRID = 4
"""Cells a side of the layout of colours and light."""
LIGHTNESS_BINS = np.linspace(0.08, 0.98, 8)
"""Centres of the lightness bins, OKLab L: 0 black, 1 white."""
CHROMA_BINS = np.array([0.0, 0.03, 0.07, 0.12, 0.18, 0.25])
"""Centres of the chroma bins, OKLab C: 0 grey, about 0.32 for the purest blue and magenta."""

BLUR = 0.04
"""Standard deviation, in OKLab units, with which a colour is shared among its neighbours."""
LIGHTNESS_SCALE = 0.6
"""The weight of a difference in lightness against one in hue: shade and shadow change the lightness of a
thing much more than its hue."""


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..1, shape (..., 3) -> OKLab (L 0..1, a, b about -0.3..0.3).

    Björn Ottosson, "A perceptual color space for image processing", 2020.
    """
    rgb = np.asarray(rgb, np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def oklab_of(colour: str) -> np.ndarray:
    """ "#rrggbb" or a CSS name -> OKLab, shape (3,)."""
    return oklab(np.array(ImageColor.getrgb(colour)[:3]) / 255)


REFERENCE_OKLAB = np.array(
    [oklab_of(code) for group in REFERENCE_COLOURS.values() for code in group.values()]
)
"""OKLab of the reference colours, shape (COLOURS, 3)."""
COLOURS = len(REFERENCE_OKLAB)
GROUP_OF_COLOUR = np.repeat(
    np.eye(len(GROUPS)), [len(group) for group in REFERENCE_COLOURS.values()], axis=0
)
"""1 where a reference colour (row) belongs to a group (column), else 0."""

# One colour's traits, side by side: shares of the reference colours, shares of the lightness
# bins, shares of the chroma bins (each sums to 1), and its lightness. They are averaged over
# pixels for a picture and over imagined colours for a text, so both come out alike.
IN_COLOURS = slice(0, COLOURS)
IN_LIGHTNESS = slice(COLOURS, COLOURS + len(LIGHTNESS_BINS))
IN_CHROMA = slice(IN_LIGHTNESS.stop, IN_LIGHTNESS.stop + len(CHROMA_BINS))
IN_MEAN_LIGHTNESS = IN_CHROMA.stop
TRAITS = IN_CHROMA.stop + 1


def traits(lab: np.ndarray) -> np.ndarray:
    """OKLab colours, shape (n, 3) -> their traits, shape (n, TRAITS), all in 0..1."""
    # An axis after the other: all three at once would be an array of 50 MB, for a third more of a command's start.
    scales = (LIGHTNESS_SCALE, 1, 1)
    by_axis = zip(lab.T[:, :, None], REFERENCE_OKLAB.T, scales, strict=True)
    apart = sum(((axis - reference) * scale) ** 2 for axis, reference, scale in by_axis) / (
        2 * BLUR**2
    )
    # Less the smallest, so that a colour far from all references still has a nearest one.
    near = np.exp(apart.min(axis=1, keepdims=True) - apart)
    return np.hstack(
        [
            near / near.sum(axis=1, keepdims=True),
            share_among(lab[:, 0], LIGHTNESS_BINS),
            share_among(np.hypot(lab[:, 1], lab[:, 2]), CHROMA_BINS),
            lab[:, :1].clip(0, 1),
        ]
    )


def share_among(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Each value shared linearly between its two nearest centres, shape (n, centres)."""
    bins = np.eye(len(centres))
    return np.stack([np.interp(values, centres, each) for each in bins], axis=1)


@lru_cache(maxsize=1)
def traits_of_rgb() -> np.ndarray:
    """Traits of every colour of 5 bits a channel, shape (32768, TRAITS) float32, about 10 MB."""
    levels = np.arange(32) / 31
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    return traits(oklab(cube.reshape(-1, 3))).astype(np.float32)


def rgb_index(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels, shape (..., 3) -> their row in `traits_of_rgb`."""
    red, green, blue = np.moveaxis(pixels >> 3, -1, 0).astype(np.intp)
    return red << 10 | green << 5 | blue
