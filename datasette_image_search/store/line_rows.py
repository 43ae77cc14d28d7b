"""The values of what is read in pictures."""

from __future__ import annotations

from dataclasses import dataclass

from .tables import Key


@dataclass(frozen=True, slots=True)
class Line:
    """
    A line of text. `score` is the certainty of the model, 0 to 1; `box` is left, top, right and bottom, each a part of
    the width or height of the upright picture, 0 to 1.
    """

    text: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class LineRow:
    """
    A row of the table of lines of text in pictures. `box` is JSON: left, top, right and bottom, each a part of the
    width or height of the upright picture.
    """

    image_id: Key
    text: str
    score: float
    box: str


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """
    That an image was read, when its picture had this hash, and why it could not be. `of_thumbnail` says that only its
    thumbnail was, because the original was gone.
    """

    image_id: Key
    sha256: str | None
    reason: str | None
    of_thumbnail: bool
