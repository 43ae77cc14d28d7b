"""Films that tests draw with PyAV: scenes of one colour each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 160, 40),
    "blue": (20, 40, 220),
    "yellow": (240, 220, 20),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}

FPS = 10

NO_KEY_FRAMES = {"g": "10000", "keyint": "10000", "sc_threshold": "0"}
"""But for the first."""

_RATE = 8000
"""Samples of sound in a second."""

_MATRIX = 40
"""The matrix of a `tkhd` box of version 0, by the place behind its name."""


def draw_film(
    path: Path,
    scenes: Sequence[tuple[str, float]],
    codec: str = "libx264",
    size: tuple[int, int] = (96, 64),
    options: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    sound: int = 0,
) -> Path:
    """`scenes` are colours with their seconds; `sound` are seconds of silence."""
    path.parent.mkdir(exist_ok=True)
    how = (
        {"movflags": "use_metadata_tags"} if path.suffix.lower() in (".mov", ".mp4", ".m4v") else {}
    )
    with av.open(path, "w", options=how) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=FPS, options=dict(options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=_RATE) if sound else None
        for colour, seconds in scenes:
            pixels = np.full((size[1], size[0], 3), COLOURS[colour], dtype=np.uint8)
            for _ in range(round(seconds * FPS)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
        if audio is not None:
            _draw_silence(container, audio, sound)
    return path


def draw_sound(path: Path) -> Path:
    """A second of silence."""
    with av.open(path, "w") as container:
        _draw_silence(container, container.add_stream("aac", rate=_RATE), 1)
    return path


def _draw_silence(container: OutputContainer, stream: AudioStream, seconds: int) -> None:
    samples = np.zeros((1, _RATE * seconds), np.float32)
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
    frame.sample_rate = _RATE
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def turn(path: Path, quarters: int) -> Path:
    """A player shows the film turned by so many quarters, clockwise."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + _MATRIX
    one = 0x10000
    a, b, c, d = {1: (0, one, -one, 0), 2: (-one, 0, 0, -one), 3: (0, -one, one, 0)}[quarters]
    numbers = (a, b, 0, c, d, 0, 0, 0, 0x40000000)
    data[at : at + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    path.write_bytes(data)
    return path
