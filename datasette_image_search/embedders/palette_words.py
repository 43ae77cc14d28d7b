"""Words as `palette` reads them: colours, light and positions become an imagined picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from . import palette_colours as colours
from .palette_colours import GRID, TRAITS
from .palette_vocabulary import (
    BREAKS,
    FILLERS,
    NAMES,
    OPPOSITE,
    PLACES,
    RELATIONS,
    SAME_AS,
    SHIFTS,
    TONES,
    Shift,
    Tone,
)

LONGEST_NAME = 4
"""Words: "light golden rod yellow"."""
MOST_MODIFIERS = 3
"""Words: "pale cold bluish grey"."""
TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|[&,;/+|]")


@dataclass(frozen=True)
class Term:
    """Something to see: some shades, OKLab of shape (n, 3), or else a tone."""

    shades: np.ndarray | None = None
    tone: Tone | None = None

    def shifted(self, shift: Shift) -> Term:
        """The same colour, darker, paler, ..."""
        assert self.shades is not None
        return Term(shift(self.shades))


@dataclass
class Group:
    """Terms that stand together, and where in the picture they are, if the text says so."""

    terms: list[Term] = field(default_factory=list)
    place: np.ndarray | None = None


@dataclass(frozen=True)
class Place:
    """A part of the picture, shape (GRID, GRID) of 0..1, and the part across from it."""

    here: np.ndarray
    across: np.ndarray
    relation: bool

    def within(self, other: Place) -> Place:
        """Both at once: top and left is the corner."""
        return Place(
            self.here * other.here, self.across * other.across, self.relation or other.relation
        )


@dataclass(frozen=True)
class Reading:
    """The understood part of a text, and the phrases that were not understood."""

    groups: tuple[Group, ...]
    unknown: tuple[str, ...]
    has_place: bool


def part_of_picture(name: str) -> np.ndarray:
    """The degree to which each cell belongs to a part such as "top", shape (GRID, GRID), 0..1."""
    # Soft: the horizon of a landscape is rarely at exactly half its height.
    falling = np.interp(np.arange(GRID), np.linspace(0, GRID - 1, 4), [1, 0.8, 0.2, 0])
    hump = np.interp(np.arange(GRID), np.linspace(0, GRID - 1, 4), [0.2, 1, 1, 0.2])
    flat = np.ones(GRID)
    return {
        "top": np.outer(falling, flat),
        "bottom": np.outer(falling[::-1], flat),
        "left": np.outer(flat, falling),
        "right": np.outer(flat, falling[::-1]),
        "centre": np.outer(hump, hump),
        "edge": 1 - np.outer(hump, hump),
    }[name]


def read(text: str) -> Reading:
    """A text -> its groups of terms with their places, and its unknown phrases as typed."""
    tokens = TOKEN.findall(text)
    words = ["and" if token == "&" else token.casefold() for token in tokens]
    segments: list[Group | Place] = []
    unknown: list[list[str]] = []
    together = known = True
    at = 0
    while at < len(words):
        word = words[at]
        taken, term = term_at(words, at)
        if term is not None:
            add_term(segments, term, together)
            together = known = True
        elif word in PLACES:
            add_place(segments, place_of(word, words[at + 1 : at + 2] == ["of"]))
            known = True
        elif word in FILLERS:
            together = together and word not in BREAKS
            known = True
        else:
            if known:
                unknown.append([])
            unknown[-1].append(tokens[at])
            together = known = False
        at += taken
    return Reading(
        tuple(settle(segments)),
        tuple(dict.fromkeys(" ".join(phrase) for phrase in unknown)),
        any(isinstance(each, Place) for each in segments),
    )


def term_at(
    words: Sequence[str], at: int, modifiers: int = MOST_MODIFIERS
) -> tuple[int, Term | None]:
    """The longest colour or tone that begins at a word: how many words it takes, and what it is."""
    for length in range(min(LONGEST_NAME, len(words) - at), 0, -1):
        name = "".join(words[at : at + length])
        name = SAME_AS.get(name, name)
        if name in NAMES:
            return length, Term(NAMES[name])
        if length == 1 and name in SHIFTS and modifiers:
            # "dark, red" and "dark and red" are two things, "dark red" is one.
            taken, term = term_at(words, at + 1, modifiers - 1)
            if term is not None and term.shades is not None:
                return taken + 1, term.shifted(SHIFTS[name])
        if name in TONES:
            return length, Term(tone=TONES[name])
        if length == 1 and (split := modifier_in(name)):
            return 1, Term(NAMES[split[1]]).shifted(SHIFTS[split[0]])
    return 1, None


def modifier_in(name: str) -> tuple[str, str] | None:
    """ "darkgreen" -> ("dark", "green")."""
    for modifier in SHIFTS:
        rest = name.removeprefix(modifier)
        rest = SAME_AS.get(rest, rest)
        if name.startswith(modifier) and rest in NAMES:
            return modifier, rest
    return None


def place_of(word: str, followed_by_of: bool) -> Place:
    """A position word -> its place; "left of" relates, "left" alone does not."""
    name = PLACES[word]
    return Place(
        part_of_picture(name),
        part_of_picture(OPPOSITE[name]),
        relation=word in RELATIONS or followed_by_of,
    )


def add_term(segments: list[Group | Place], term: Term, together: bool) -> None:
    """Put a term into the group before it, or into a new one."""
    group = segments[-1] if segments else None
    if not (together and isinstance(group, Group)):
        group = Group()
        segments.append(group)
    group.terms.append(term)


def add_place(segments: list[Group | Place], place: Place) -> None:
    """Put a place after what is there; two in a row make one."""
    before = segments[-1] if segments else None
    if isinstance(before, Place):
        segments[-1] = before.within(place)
    else:
        segments.append(place)


def settle(segments: Sequence[Group | Place]) -> list[Group]:
    """Give each place to the group it is about."""
    groups = [each for each in segments if isinstance(each, Group)]
    leads = bool(segments) and isinstance(segments[0], Place)
    for number, place in enumerate(segments):
        if not isinstance(place, Place):
            continue
        before = segments[number - 1] if number else None
        after = segments[number + 1] if number + 1 < len(segments) else None
        if leads and isinstance(after, Group):
            after.place = place.here
        elif isinstance(before, Group) and before.place is None:
            before.place = place.here
            if place.relation and isinstance(after, Group):
                after.place = place.across
        elif isinstance(after, Group):
            after.place = place.across if place.relation else place.here
    return groups


@dataclass(frozen=True)
class Imagined:
    """An imagined picture of a text, as far as the text describes it."""

    whole: np.ndarray
    """Traits of the whole picture, shape (TRAITS,)."""
    cells: np.ndarray
    """Traits of each cell, shape (GRID, GRID, TRAITS)."""
    said: np.ndarray
    """
    The degree to which the text describes each cell, shape (GRID, GRID), 0..1; all ones if it names no
    place.
    """
    emphasis: dict[str, float]
    """The weight of each block of the vector."""


# A colour says little of light, and "bright left" says little of colours. "tint" is a tone such as
# warm, "chroma" one such as vivid: neither is about lightness. "several" are colours without a place: each
# is somewhere, not all of them everywhere.
EMPHASIS: dict[str, dict[str, float]] = {
    "colour": {"colours": 1.0, "layout": 0.9, "light": 0.5, "light_layout": 0.0},
    "several": {"colours": 1.0, "layout": 0.2, "light": 0.5, "light_layout": 0.0},
    "tint": {"colours": 1.0, "layout": 0.6, "light": 0.3, "light_layout": 0.0},
    "chroma": {"colours": 0.6, "layout": 0.3, "light": 2.0, "light_layout": 0.0},
    "lightness": {"colours": 0.6, "layout": 0.2, "light": 1.0, "light_layout": 0.6},
    "placed colour": {"colours": 0.3, "layout": 1.0, "light": 0.1, "light_layout": 0.0},
    "placed tint": {"colours": 0.3, "layout": 1.0, "light": 0.1, "light_layout": 0.0},
    "placed chroma": {"colours": 0.3, "layout": 1.0, "light": 0.3, "light_layout": 0.0},
    "placed lightness": {"colours": 0.1, "layout": 0.3, "light": 0.2, "light_layout": 1.0},
}


def imagine(groups: Sequence[Group], usual: np.ndarray) -> Imagined:
    """Groups of terms, and how usual each reference colour is in photos -> a picture of them."""
    seen = [traits_of(group.terms, usual) for group in groups]
    kinds = [kind_of(group) for group in groups]
    if sum(len(group.terms) for group in groups) > 1:
        kinds = ["several" if kind == "colour" else kind for kind in kinds]
    placed = [
        (group.place, each)
        for group, each in zip(groups, seen, strict=True)
        if group.place is not None
    ]
    whole = np.mean(seen, axis=0)
    said = np.sum([place for place, _ in placed], axis=0) if placed else np.ones((GRID, GRID))
    cells = np.zeros((GRID, GRID, TRAITS))
    for place, each in placed or [(said, whole)]:
        cells += place[..., None] * each
    cells /= np.maximum(said, 1e-6)[..., None]
    emphasis = {
        block: float(np.mean([EMPHASIS[kind][block] for kind in kinds]))
        for block in EMPHASIS["colour"]
    }
    return Imagined(whole, cells, np.minimum(said, 1), emphasis)


def kind_of(group: Group) -> str:
    """The row of EMPHASIS for a group."""
    tones = [term.tone for term in group.terms if term.tone is not None]
    if len(tones) < len(group.terms):
        kind = "colour"
    elif any(tone.lightness for tone in tones):
        kind = "lightness"
    else:
        kind = "tint" if any(tone.warmth for tone in tones) else "chroma"
    return kind if group.place is None else f"placed {kind}"


def traits_of(terms: Sequence[Term], usual: np.ndarray) -> np.ndarray:
    """The traits of some terms, shape (TRAITS,): a mixture of the colours, all tones at once."""
    parts = [colours.traits(term.shades).mean(axis=0) for term in terms if term.shades is not None]
    tones = [term.tone for term in terms if term.tone is not None]
    if tones:
        shares = np.exp(sum(tone.tilt(colours.REFERENCE_OKLAB) for tone in tones)) * usual
        parts.append(shares / shares.sum() @ colours.traits(colours.REFERENCE_OKLAB))
    return np.mean(parts, axis=0)
