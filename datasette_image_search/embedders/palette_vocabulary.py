"""The words that `palette` knows: names of colours, what changes them, light, and positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import ImageColor

from . import palette_colours as colours

# Everyday words cover more shades than the one that CSS gives the same name.
FAMILIES: dict[str, str] = {
    "red": "#ff0000 #f01018 #dc143c #c01c20",
    "orange": "#ffa500 #ff8c00 #ff7f27 #e8731a #cc5f10",
    "yellow": "#ffff00 #ffd700 #fff44f #e6c619",
    "green": "#008000 #228b22 #32cd32 #00c800 #6b8e23 #2e8b57 #4d7a3a",
    "blue": "#0000ff #1030e0 #4169e1 #1e90ff #4682b4 #0047ab #1f3a93 #5aa5e6 #8ab4e0",
    "purple": "#800080 #8a2be2 #9932cc #6a3fa0 #9370db #4b0082",
    "pink": "#ffc0cb #ff69b4 #f4a6c0 #ff8fb8 #e75480",
    "brown": "#8b4513 #8b5a2b #654321 #7b5a3c #5c4033",
    "grey": "#808080 #696969 #8c8c8c #a9a9a9 #555555 #c0c0c0",
    "black": "#000000 #101010 #1e1e1e",
    "white": "#ffffff #f5f5f5 #e8e8e8",
    "teal": "#008080 #20a0a0 #2a7f86",
}
USUAL = (
    *FAMILIES,
    *(f"{shade} {name}" for shade in ("dark", "light", "pale") for name in (*FAMILIES,)[:8]),
    *("dark", "bright", "vivid", "dull", "warm", "cold", "black and white"),
    *("blue above green", "white above blue", "grey above green", "blue above brown", "green left"),
    *("red right", "dark left", "bright right", "bright top", "dark bottom", "yellow centre"),
)
"""What people search for: by the scores of these, those of a query are judged."""

OTHER_NAMES = colours.named(
    "amber #ffbf00, apricot #fbceb1, aqua #30d5c8, bluegreen #0d98ba, bordeaux #5f021f, "
    "bronze #b08d57, burgundy #800020, camel #c19a6b, caramel #c68e4e, carmine #960018, "
    "charcoal #36454f, cherry #b0122e, cobalt #0047ab, copper #b87333, cream #fff5d0, "
    "emerald #50c878, fawn #c8a878, golden #e0ac1c, jade #00a86b, lemon #fff44f, "
    "lilac #c8a2c8, mauve #a884b4, mint #98e8c0, mustard #d8a818, ochre #cc7722, "
    "peach #ffcba4, petrol #00565f, rose #f05a8c, ruby #b0103c, rust #b7410e, sand #d8c090, "
    "sapphire #0f52ba, scarlet #ff2400, sepia #8a6440, silvery #c0c0c0, terracotta #cc6640, "
    "ultramarine #3f00ff, vermilion #e34234, vermillion #e34234, wine #722f37"
)


@dataclass(frozen=True)
class Shift:
    """The effect of a word such as "dark" on a colour: OKLab lightness drawn to a goal, chroma scaled."""

    goal: float = 0.5
    pull: float = 0.0
    chroma: float = 1.0
    warmth: float = 0.0

    def __call__(self, lab: np.ndarray) -> np.ndarray:
        """Colours, shape (n, 3) -> changed colours of the same shape."""
        lightness = lab[:, :1] + (self.goal - lab[:, :1]) * self.pull
        return np.hstack([lightness, lab[:, 1:] * self.chroma + self.warmth * WARM])


@dataclass(frozen=True)
class Tone:
    """
    The meaning of a word such as "dark" for a whole picture: a tilt of the colours of an average one.

    A colour becomes exp(lightness * L + warmth * w) times as frequent, w its share of the warm direction;
    if a chroma is given, colours away from it become rare.
    """

    lightness: float = 0.0
    warmth: float = 0.0
    chroma: float | None = None
    spread: float = 0.04

    def tilt(self, lab: np.ndarray) -> np.ndarray:
        """Colours, shape (n, 3) -> log of how much more frequent each becomes, shape (n,)."""
        exponent = self.lightness * lab[:, 0] + self.warmth * (lab[:, 1:] @ WARM)
        if self.chroma is None:
            return exponent
        away = np.hypot(lab[:, 1], lab[:, 2]) - self.chroma
        return exponent - np.minimum((away / self.spread) ** 2 / 2, MOST_TILT)


MOST_TILT = 30.0
"""Keeps the tilts of contrary tones together within what exp can hold."""
WARM = np.array([0.5, 0.866])
"""The direction from blue to orange in OKLab's (a, b), of length 1."""

SHIFTS: dict[str, Shift] = {
    "dark": Shift(goal=0, pull=0.4, chroma=0.85),
    "deep": Shift(goal=0, pull=0.25),
    "light": Shift(goal=0.97, pull=0.5, chroma=0.65),
    "pale": Shift(goal=0.95, pull=0.65, chroma=0.45),
    "bright": Shift(goal=0.9, pull=0.25, chroma=1.1),
    "vivid": Shift(chroma=1.25),
    "dull": Shift(chroma=0.45),
    "warm": Shift(warmth=0.045),
    "cold": Shift(warmth=-0.045),
}
TONES: dict[str, Tone] = {
    "dark": Tone(lightness=-9),
    "deep": Tone(lightness=-7),
    "light": Tone(lightness=9),
    "bright": Tone(lightness=9),
    "pale": Tone(lightness=8, chroma=0.04),
    "vivid": Tone(chroma=0.25, spread=0.07),
    "dull": Tone(chroma=0.02, spread=0.02),
    "warm": Tone(warmth=20),
    "cold": Tone(warmth=-20),
    "blackandwhite": Tone(chroma=0, spread=0.012),
}
SAME_AS: dict[str, str] = {
    **dict.fromkeys(["darker", "darkest", "dim", "dimly", "shadow", "shadows", "shadowy"], "dark"),
    **dict.fromkeys(["lighter", "lightest", "lit", "luminous"], "light"),
    **dict.fromkeys(["brighter", "brightest", "brightly", "overexposed"], "bright"),
    **dict.fromkeys(["pastel", "pastels", "soft", "faint"], "pale"),
    **dict.fromkeys(["colorful", "colourful", "multicolored", "multicoloured"], "vivid"),
    **dict.fromkeys(["saturated", "strong", "intense", "neon", "pure"], "vivid"),
    **dict.fromkeys(["muted", "desaturated", "dusty", "faded"], "dull"),
    **dict.fromkeys(["cool", "colder", "cooler"], "cold"),
    **dict.fromkeys(["warmer"], "warm"),
    **dict.fromkeys(["grayscale", "greyscale", "monochrome", "bw"], "blackandwhite"),
    **dict.fromkeys(
        ["bandw", "b/w", "black/white", "whiteandblack", "monochromatic"], "blackandwhite"
    ),
    **dict.fromkeys(["violet", "purplish"], "purple"),
    **dict.fromkeys(["lime"], "limegreen"),
    **dict.fromkeys(["reds", "reddish"], "red"),
    **dict.fromkeys(["yellowish"], "yellow"),
    **dict.fromkeys(["greens", "greenish"], "green"),
    **dict.fromkeys(["blues", "blueish", "bluish"], "blue"),
    **dict.fromkeys(["pinkish"], "pink"),
    **dict.fromkeys(["brownish"], "brown"),
    **dict.fromkeys(["orangish"], "orange"),
    **dict.fromkeys(["gray", "greyish", "grayish", "greys", "grays"], "grey"),
    **dict.fromkeys(["blackish"], "black"),
    **dict.fromkeys(["whitish"], "white"),
}

PLACES: dict[str, str] = {
    **dict.fromkeys(["above", "over", "atop", "top", "upper", "uppermost"], "top"),
    **dict.fromkeys(["below", "under", "underneath", "beneath"], "bottom"),
    **dict.fromkeys(["bottom", "lower", "lowermost"], "bottom"),
    **dict.fromkeys(["left", "leftmost"], "left"),
    **dict.fromkeys(["right", "rightmost"], "right"),
    **dict.fromkeys(["centre", "center", "middle", "central", "inside"], "centre"),
    **dict.fromkeys(["edge", "edges", "border", "background", "around", "outside"], "edge"),
    **dict.fromkeys(["surrounding", "behind"], "edge"),
    "surrounded": "centre",
}
RELATIONS = {"above", "over", "atop", "below", "under", "underneath", "beneath"} | {
    *("around", "surrounding", "surrounded", "inside", "behind")
}
"""Places that need no "of" to set one colour against the next: blue above green."""
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"} | {
    "centre": "edge",
    "edge": "centre",
}

BREAK_WORDS = """
    in at on with by from to into onto against as for is are has have having plus but next beside
    near mostly mainly , ; / + |
"""
BREAKS = frozenset(BREAK_WORDS.split())
"""Ignored, but they part what a position belongs to: in "red on white background" red has none."""
FILLER_WORDS = """
    a an the of and & or very quite rather really so bit some any this that it its all more most
    photo photos photograph photographs picture pictures image images pic pics shot scene
    colour colours color colors coloured colored tone tones toned shade shades hue hues medium
    side half part hand corner area areas region something thing things looking
"""
FILLERS = BREAKS.union(FILLER_WORDS.split())


def colour_names() -> dict[str, np.ndarray]:
    """Every colour name, run together, with its shades in OKLab, shape (shades, 3)."""
    # Not the codes in there: Pillow puts tuples in their place once somebody has asked for them.
    named = {name: name for name in ImageColor.colormap} | OTHER_NAMES | FAMILIES
    # In CSS darkgray is lighter than gray: dark and light before a plain colour mean what they say.
    plain = FAMILIES.keys() | {"gray"}
    modified = {modifier + name for modifier in ("dark", "light") for name in plain}
    return {
        name: np.array([colours.oklab_of(code) for code in codes.split()])
        for name, codes in named.items()
        if name not in modified
    }


NAMES = colour_names()
