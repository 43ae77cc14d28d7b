"""The values of a column -> a colour for each image, and a legend."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

# Observable's ten, which are told apart on light and dark, less their grey.
CATEGORIES = (
    *("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5"),
    "#9c6b4e",
)
OTHER = "#9498a0"
NO_VALUE = "#c3c7cd"
PLAIN = "#4269d0"

# viridis, whose order everybody sees, even without colours.
SCALE = (
    *("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58"),
    *("#b5de2b", "#fde725"),
)
STEPS = 64
"""Colours of a scale."""

TAIL = 0.02
"""The share of the values at each end that gets the colour of that end: otherwise a single outlier would
make all others look the same."""

LONGEST_LABEL = 40
"""Characters."""

EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Entry:
    """A line of a legend, and the number of images with its colour."""

    label: str
    colour: str
    count: int


@dataclass(frozen=True)
class Colouring:
    """
    `colours` are written #rrggbb; `codes`, shape (n,), uint8, are their positions for each image.
    `scale` has the labels of the ends of a scale, whose colours are the first STEPS; None for
    categories.
    """

    title: str
    colours: tuple[str, ...]
    codes: np.ndarray
    legend: tuple[Entry, ...] = ()
    scale: tuple[str, str] | None = None


def plain(n: int) -> Colouring:
    """All images in one colour."""
    return Colouring("", (PLAIN,), np.zeros(n, dtype=np.uint8))


def colouring(title: str, values: Sequence[Any]) -> Colouring:
    """
    Colours numbers and ISO dates by a scale, if there are more different ones than colours for
    categories. Everything else gets categories: the commonest have a colour, the rest is "other".
    """
    counts = Counter(value for value in values if value is not None)
    if len(counts) > len(CATEGORIES):
        if all(isinstance(value, int | float) and math.isfinite(value) for value in counts):
            return _by_scale(title, values, _number)
        seconds = {value: _seconds(value) for value in counts}
        if all(second is not None for second in seconds.values()):
            moments = [None if value is None else seconds[value] for value in values]
            return _by_scale(title, moments, _date)
    return _by_category(title, values, counts)


def by_score(title: str, scores: np.ndarray) -> Colouring:
    """Colours by the scores of a query with this title."""
    return _by_scale(f"likeness to {title}", scores.tolist(), lambda score: f"{score:.3f}")


def _by_category(title: str, values: Sequence[Any], counts: Counter[Any]) -> Colouring:
    # The commonest first, others in their own order, so that the order of rows has no effect.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], *_in_order(item[0])))
    chosen = dict(zip((value for value, _ in ranked), CATEGORIES, strict=False))
    colours = (*chosen.values(), OTHER, NO_VALUE)
    other, none = len(chosen), len(chosen) + 1
    code_of = {None: none, **{value: code for code, value in enumerate(chosen)}}
    codes = np.array([code_of.get(value, other) for value in values], dtype=np.uint8)
    legend = [Entry(_label(value), colour, counts[value]) for value, colour in chosen.items()]
    rest = ranked[len(chosen) :]
    label = _label(rest[0][0]) if len(rest) == 1 else f"other ({len(rest):,} values)"
    legend.append(Entry(label, OTHER, sum(count for _, count in rest)))
    legend.append(Entry("no value", NO_VALUE, int((codes == none).sum())))
    return Colouring(title, colours, codes, tuple(entry for entry in legend if entry.count))


def _in_order(value: Any) -> tuple[bool, Any, str]:
    """Numbers, then others by what is written. 0, 0.0 and -0.0 are one value, which is written in three ways."""
    is_number = isinstance(value, int | float)
    return (False, value, "") if is_number else (True, str(value), str(type(value)))


def _by_scale(
    title: str, values: Sequence[float | None], label: Callable[[float], str]
) -> Colouring:
    """Numbers from the lowest to the highest; `label` writes one for the legend."""
    numbers = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return _by_category(title, [None] * len(numbers), Counter())
    low, high = np.quantile(known, [TAIL, 1 - TAIL])
    if low == high:
        low, high = known.min(), known.max()
    steps = (numbers - low) / ((high - low) or 1) * (STEPS - 1)
    codes = np.where(np.isnan(steps), STEPS, np.clip(np.nan_to_num(steps), 0, STEPS - 1).round())
    missing = len(numbers) - len(known)
    return Colouring(
        title,
        (*_scale_colours(), NO_VALUE),
        codes.astype(np.uint8),
        (Entry("no value", NO_VALUE, missing),) if missing else (),
        (
            ("< " if known.min() < low else "") + label(float(low)),
            ("> " if known.max() > high else "") + label(float(high)),
        ),
    )


def rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _scale_colours() -> tuple[str, ...]:
    anchors = np.array([rgb(colour) for colour in SCALE])
    at = np.linspace(0, len(SCALE) - 1, STEPS)
    channels = [np.interp(at, np.arange(len(SCALE)), anchors[:, channel]) for channel in range(3)]
    return tuple(
        "#{:02x}{:02x}{:02x}".format(*colour) for colour in np.stack(channels, 1).astype(int)
    )


def _number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _label(value: Any) -> str:
    text = str(value) if value != "" else "(empty)"
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def _seconds(value: Any) -> float | None:
    """Since 1970, of a date or a time as ISO 8601 writes it; None for what is neither."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d", value):
        return None
    try:
        return (datetime.fromisoformat(value[:19].rstrip("Z")) - EPOCH).total_seconds()
    except (ValueError, TypeError):
        return None


def _date(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).date().isoformat()
