"""A map as a picture: thumbnails that do not hide each other, and dots for the other images."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..store import Key
from .collection import CollectionMap
from .colouring import STEPS, Colouring, rgb

ThumbnailOf = Callable[[Key], bytes | None]
"""An image id -> its thumbnail, a file; None if it has none."""

PAPER, INK, MUTED = "#f8fafb", "#111a35", "#596478"

FRAME = 3
"""Pixels around a thumbnail, in the colour of its image."""

SMOOTH = 8
"""A dot is drawn this many times as large, and then reduced."""

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Errors of Pillow for a thumbnail that another program has written."""


def draw(
    placed: CollectionMap,
    colouring: Colouring,
    thumbnail_of: ThumbnailOf,
    size: tuple[int, int],
    thumbnail_size: int,
    most_thumbnails: int,
) -> tuple[Image.Image, int]:
    """The picture, RGB, of `size` pixels, and the number of thumbnails in it."""
    picture = Image.new("RGB", size, PAPER)
    legend = _legend_height(colouring, size) if len(placed) else 0
    margin = max(thumbnail_size // 2 + 2 * FRAME, 12)
    room = np.array([size[0] - 2 * margin, size[1] - 2 * margin - legend])
    if (room < thumbnail_size).any():
        room, margin = np.maximum(room, 1), min(margin, *(side // 3 for side in size))
    places = np.round((placed.points * (1, -1) + 1) / 2 * room + margin).astype(int)
    colours = [rgb(colour) for colour in colouring.colours]
    dot = _disc(_radius(len(placed), room))
    for (x, y), code in zip(places.tolist(), colouring.codes.tolist(), strict=True):
        corner = x - dot.width // 2, y - dot.height // 2
        picture.paste(colours[code], (*corner, corner[0] + dot.width, corner[1] + dot.height), dot)
    drawn = 0
    if thumbnail_size:
        for at in apart(places, thumbnail_size + 2 * FRAME + 2):
            if drawn == most_thumbnails:
                break
            thumbnail = readable(thumbnail_of(placed.image_ids[at]), thumbnail_size)
            if thumbnail is not None:
                x, y = (places[at] - np.array(thumbnail.size) // 2).tolist()
                box = (
                    x - FRAME,
                    y - FRAME,
                    x + thumbnail.width + FRAME,
                    y + thumbnail.height + FRAME,
                )
                picture.paste(colours[colouring.codes[at]], box)
                picture.paste(thumbnail, (x, y))
                drawn += 1
    if legend:
        _draw_legend(picture, colouring, legend)
    return picture, drawn


def apart(places: np.ndarray, distance: int) -> Iterator[int]:
    """
    Positions of `places`, shape (n, 2), in pixels, so that no two are nearer than `distance` both
    across and down: squares of that size do not touch. Earlier places have priority.
    """
    taken: dict[tuple[int, int], tuple[int, int]] = {}
    for at, (x, y) in enumerate(places.tolist()):
        # A cell of that size has one at most, so nine cells are enough to check.
        column, row = x // distance, y // distance
        near = (
            taken.get((column + across, row + down)) for across in (-1, 0, 1) for down in (-1, 0, 1)
        )
        if not any(
            other and abs(other[0] - x) < distance and abs(other[1] - y) < distance
            for other in near
        ):
            taken[column, row] = x, y
            yield at


def readable(thumbnail: bytes | None, size: int) -> Image.Image | None:
    """The thumbnail as a picture, its longer side at most `size` pixels; None if it is not a picture."""
    if not isinstance(thumbnail, bytes):
        return None
    try:
        picture = Image.open(io.BytesIO(thumbnail)).convert("RGB")
    except UNREADABLE:
        return None
    picture.thumbnail((size, size))
    return picture


def _radius(n: int, room: np.ndarray) -> float:
    """The radius of a dot in pixels: a share of the room that each would have if they were spread evenly."""
    each = float(np.sqrt(room[0] * room[1] / max(n, 1)))
    return float(np.clip(each / 6, room.max() / 1000, room.max() / 220))


def _disc(radius: float) -> Image.Image:
    """A mask with soft edges."""
    side = 2 * int(np.ceil(radius)) + 1
    mask = Image.new("L", (side * SMOOTH, side * SMOOTH))
    middle = side * SMOOTH / 2
    reach = radius * SMOOTH
    ImageDraw.Draw(mask).ellipse(
        (middle - reach, middle - reach, middle + reach, middle + reach), 255
    )
    return mask.resize((side, side), Image.Resampling.BOX)


# --- The legend: lines of swatches and words below the map -------------------------------------------


@cache
def _font(size: tuple[int, int]) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(int(np.clip(min(size) / 50, 11, 40)))
    # Only Pillow without FreeType has another font, and its wheels have FreeType.
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _legend_height(colouring: Colouring, size: tuple[int, int]) -> int:
    lines = [line for *_, line in _legend_lines(colouring, size)]
    return int(_font(size).size * 1.8 * (max(lines) + 1.4)) if lines else 0


def _legend_lines(
    colouring: Colouring, size: tuple[int, int]
) -> Iterator[tuple[str, str | None, float, int]]:
    """
    (words, colour of the swatch, x, line). Entries wrap to the next line; a scale has the first line
    for itself.
    """
    font = _font(size)
    x, line = font.size, 0
    if colouring.scale:
        low, high = colouring.scale
        yield low, None, x, line
        yield colouring.title, None, (size[0] - font.getlength(colouring.title)) / 2, line
        yield high, None, size[0] - x - font.getlength(high), line
        line += 1
    elif colouring.title:
        yield colouring.title, None, x, line
        x += font.getlength(colouring.title) + font.size * 1.2
    for entry in colouring.legend:
        words = f"{entry.label} ({entry.count:,})"
        width = font.getlength(words) + font.size * 2.4
        if x > font.size and x + width > size[0]:
            x, line = font.size, line + 1
        yield words, entry.colour, x, line
        x += width


def _draw_legend(picture: Image.Image, colouring: Colouring, height: int) -> None:
    font, pen = _font(picture.size), ImageDraw.Draw(picture)
    top = picture.height - height
    for words, colour, x, line in _legend_lines(colouring, picture.size):
        y = top + font.size * 1.8 * (line + 0.7)
        if colour:
            pen.ellipse((x, y - font.size * 0.4, x + font.size * 0.8, y + font.size * 0.4), colour)
            x += font.size * 1.2
        pen.text((x, y), words, INK if colour else MUTED, font, anchor="lm")
    if colouring.scale:
        # Along the edge between map and legend.
        edges = np.linspace(font.size, picture.width - font.size, STEPS + 1)
        for left, right, colour in zip(edges, edges[1:], colouring.colours, strict=False):
            pen.rectangle((left, top, right, top + font.size * 0.5), colour)
