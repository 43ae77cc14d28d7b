"""The frames of a film -> one for each scene. A scene lasts until a frame differs from its first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

MOST_SCENES = 32

CHANGE = 0.06
"""The mean difference of two frames, of 0 to 1, from which on they are two scenes: more than the movement of a hand
that holds the camera, less than a turn to the next person."""

SIDE = 8
"""Frames are compared as so many by so many mean colours."""


@dataclass(frozen=True)
class Frame:
    """An upright picture, and its seconds from the beginning of the film."""

    at: float
    image: Image.Image


def chosen_frames(frames: Sequence[Frame]) -> list[Frame]:
    """
    Of frames in their order, one of the middle of each scene: up to MOST_SCENES, those of the largest changes. That of the longest scene is first, the
    others are in their order.
    """
    colours = [_colours(frame.image) for frame in frames]
    starts = _starts(colours)
    ends = [*starts[1:], len(frames)]
    # The last frame lasts as long as the one before it, as far as is known.
    times = [frame.at for frame in frames]
    times.append(2 * times[-1] - times[-2] if len(times) > 1 else times[-1])
    lengths = [times[end] - times[start] for start, end in zip(starts, ends, strict=True)]
    chosen = [frames[(start + end - 1) // 2] for start, end in zip(starts, ends, strict=True)]
    longest = chosen[int(np.argmax(lengths))]
    return [longest, *(frame for frame in chosen if frame is not longest)]


def _starts(colours: Sequence[np.ndarray]) -> list[int]:
    """Where scenes begin: at the first frame, and at the largest changes."""
    first, changes = 0, {}
    for at, each in enumerate(colours):
        change = float(np.abs(each - colours[first]).mean())
        if change > CHANGE:
            first, changes[at] = at, change
    return sorted([0, *sorted(changes, key=changes.__getitem__, reverse=True)[: MOST_SCENES - 1]])


def _colours(image: Image.Image) -> np.ndarray:
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255
