"""
Films: frames of them that are looked at, and what a row needs. Only with the extra `video`, whose PyAV brings the
libraries of FFmpeg.

Key frames of the whole film are read first, as these need no others; then, between those that are far from each other,
other frames too. A film may be broken, lie about its length, or have no end: what is read has limits, and what was read
until then counts.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from ..metadata.columns import Metadata
from ..metadata.film import film_metadata
from .kinds import FilmKind
from .opening import DecodeError, DecodeSettings, check_pixels, enough_pixels
from .scenes import Frame, chosen_frames

MOST_LOOKED_AT = 96
"""Frames of a film that are compared."""

CLOSEST = 0.5
"""Seconds between two of them, at least."""

BLIND = 1.0
"""Seconds without a key frame after which another frame is read."""

MOST_DECODED = 3_000
"""Frames of a film in FULL_HD that are decoded, also for the sake of others. Of a smaller film they are more."""

FULL_HD = 1920 * 1080
"""Pixels."""

MOST_SECONDS = 30
"""For one film."""

MOST_MISSED = 10.0
"""Seconds in a row that a limit may leave out without a warning."""

_UNREADABLE = "the film is damaged, encrypted, or of a kind that is not supported"

_IS_CUT = "the film is damaged: a part of it cannot be read"

_IN_PARTS = "the film was read only in parts, as its key frames are far apart"

_NO_PICTURES = "the film has no pictures, only sound"


@dataclass(frozen=True)
class Film:
    """
    `width` and `height` are those of the upright film. The first of the scenes is the longest. `warning` says what is
    wrong with a film that is usable nevertheless.
    """

    format: str
    width: int
    height: int
    scenes: tuple[Frame, ...]
    metadata: Metadata
    warning: str | None


def film_size(file: BinaryIO, kind: FilmKind) -> tuple[int, int]:
    """Width and height as stored. Decodes nothing. Raises DecodeError."""
    try:
        with _opened(file, kind) as container:
            stream = _pictures(container)
            return stream.width, stream.height
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(_UNREADABLE) from error


def read_film(file: BinaryIO, kind: FilmKind, settings: DecodeSettings) -> Film:
    """Raises DecodeError."""
    try:
        with _opened(file, kind) as container:
            stream = _pictures(container)
            check_pixels(stream.width * stream.height, settings.max_pixels)
            looking = _Looking(container, stream, settings)
            frames = looking.frames()
            if not frames:
                raise DecodeError(_UNREADABLE)
            width, height = looking.upright
            return Film(
                kind.format,
                width,
                height,
                tuple(chosen_frames(frames)),
                _metadata(container, stream),
                looking.warning,
            )
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError("there is not enough memory for the film") from error
    except Exception as error:
        # On damaged files PyAV raises errors of FFmpeg, and others of Python.
        raise DecodeError(_UNREADABLE) from error


def film_metadata_of(file: BinaryIO, kind: FilmKind) -> Metadata | None:
    """The metadata of a film of which nothing is decoded; None if it cannot be opened. Never raises."""
    try:
        with _opened(file, kind) as container:
            return _metadata(container, _pictures(container))
    except Exception:
        return None


def _opened(file: BinaryIO, kind: FilmKind) -> InputContainer:
    # By its kind, as FFmpeg would take a text for a list of other files, and read these.
    return av.open(file, "r", format=kind.demuxer, metadata_errors="replace", timeout=MOST_SECONDS)


def _pictures(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        # The cover of a song is a picture, too.
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if not stream.width or not stream.height:
                raise DecodeError(_UNREADABLE)
            stream.codec_context.thread_count = 1
            return stream
    raise DecodeError(_NO_PICTURES if container.streams.audio else _UNREADABLE)


def _metadata(container: InputContainer, stream: VideoStream) -> Metadata:
    return film_metadata({**stream.metadata, **container.metadata}, _duration(container, stream))


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if container.duration:
        seconds = container.duration / av.time_base
    elif stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    else:
        return None
    return round(seconds, 3) if seconds > 0 else None


_MATROSKA_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
"""What a Matroska file says of a stream, such as "00:01:40.040000000"."""


def _duration_of_pictures(stream: VideoStream) -> float | None:
    """Sound may go on after them, so that the film is longer."""
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif match := _MATROSKA_TIME.match(stream.metadata.get("DURATION", "")):
        seconds = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    else:
        return None
    return seconds if seconds > 0 else None


class _Looking:
    """The frames of a film that are looked at, as it is read."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, settings: DecodeSettings
    ) -> None:
        self._container, self._stream, self._settings = container, stream, settings
        self._decoded = iter(container.decode(stream))
        self._start = float((stream.start_time or 0) * (stream.time_base or 0))
        self._left = int(MOST_DECODED * max(1.0, FULL_HD / (stream.width * stream.height)))
        seconds = MOST_SECONDS if settings.film_seconds is None else settings.film_seconds
        self._deadline = time.monotonic() + seconds
        of_pictures = _duration_of_pictures(stream)
        self._duration = of_pictures or _duration(container, stream)
        is_alone = self._duration is not None and not container.streams.audio
        self._is_length_known = of_pictures is not None or is_alone
        self._step = max(CLOSEST, (self._duration or 0) / MOST_LOOKED_AT)
        self._looked_at: dict[float, Frame] = {}
        self._end = 0.0
        self._is_damaged = self._is_cut_short = False
        self.upright = stream.width, stream.height

    def frames(self) -> list[Frame]:
        """In their order."""
        frame = self._next()
        if frame is not None:
            self._look_at(frame)
            gaps = self._look_at_key_frames()
            if self._is_long:
                # Frames that no other one needs are half of many films, and those beside them are as good.
                self._stream.codec_context.skip_frame = "NONREF"
            # The short ones first, as what these leave of the limit is for the long ones.
            for at, gap in enumerate(sorted(gaps, key=len)):
                self._look_between(gap, self._left // (len(gaps) - at))
        return [self._looked_at[at] for at in sorted(self._looked_at)]

    @property
    def warning(self) -> str | None:
        """What is wrong with a film of which frames were looked at."""
        times = sorted(self._looked_at)
        ends = [*times, math.inf if self._duration is None else max(times[-1], self._duration)]
        is_early = self._is_length_known and ends[-1] - self._end > self._step + 2 * BLIND
        if self._is_damaged or (is_early and not self._is_cut_short):
            return _IS_CUT
        missed = (at for at, next_at in pairwise(ends) if next_at - at > MOST_MISSED + self._step)
        if not self._is_cut_short or (first := next(missed, None)) is None:
            return None
        if first < times[-1]:
            return _IN_PARTS
        return f"only the first {first:.0f} seconds of the film were read"

    @property
    def _is_long(self) -> bool:
        """Whether there are more frames than are decoded."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return self._duration is None or rate is None or self._duration * rate > self._left

    def _look_at_key_frames(self) -> list[list[float]]:
        """Returns the times that are far from the key frame before them, by key frame."""
        targets = [self._step * (at + 1) for at in range(MOST_LOOKED_AT)]
        if self._duration is None:
            # Without a length nobody knows where to go on.
            return [targets]
        seen = 0.0
        gaps: list[list[float]] = [[]]
        for target in targets:
            if target >= self._duration:
                break
            frame = self._key_frame_before(target)
            if frame is not None and self._time(frame) > seen:
                seen = self._time(frame)
                self._look_at(frame)
                gaps.append([])
            elif target - seen >= BLIND:
                gaps[-1].append(target)
        return [gap for gap in gaps if gap]

    def _look_between(self, targets: Sequence[float], most: int) -> None:
        """The first frame at each of the times or later; no more than so many frames are decoded for them."""
        end, at = self._left - most, 0.0
        if self._key_frame_before(targets[0]) is None:
            # Some files have no list of key frames, and others a wrong one.
            self._begin_again()
        for target in targets:
            while at < target:
                if self._left <= end:
                    self._is_cut_short = True
                    return
                frame = self._next()
                if frame is None:
                    return
                at = self._time(frame)
                if at >= target:
                    self._look_at(frame)
        # Of a film without a length, nobody knows whether more follows.
        self._is_cut_short |= self._duration is None and self._next() is not None

    def _look_at(self, frame: VideoFrame) -> None:
        self._looked_at.setdefault(self._time(frame), self._picture(frame))

    def _key_frame_before(self, target: float) -> VideoFrame | None:
        time_base = self._stream.time_base
        assert time_base is not None
        if self._is_at_limit:
            return None
        try:
            self._container.seek(int((self._start + target) / time_base), stream=self._stream)
        except av.FFmpegError:
            return None
        self._decoded = iter(self._container.decode(self._stream))
        return self._next()

    def _begin_again(self) -> None:
        with suppress(av.FFmpegError):
            self._container.seek(0)
        self._decoded = iter(self._container.decode(self._stream))

    def _next(self) -> VideoFrame | None:
        """The next frame that can be decoded; None at the end, and at a limit."""
        while not self._is_at_limit:
            self._left -= 1
            try:
                frame = next(self._decoded)
            except (StopIteration, EOFError):
                return None
            except av.FFmpegError:
                self._is_damaged = True
                return None
            if frame.pts is not None:
                lasts = float((frame.duration or 0) * (frame.time_base or 0))
                self._end = max(self._end, self._time(frame) + lasts)
                return frame
        self._is_cut_short = True
        return None

    @property
    def _is_at_limit(self) -> bool:
        return self._left <= 0 or time.monotonic() > self._deadline

    def _time(self, frame: VideoFrame) -> float:
        return max(0.0, round((frame.time or 0.0) - self._start, 3))

    def _picture(self, frame: VideoFrame) -> Frame:
        """Upright, and no larger than the model and the thumbnail need it."""
        width, height = frame.width, frame.height
        # The stream says one size, and each frame may be of another.
        check_pixels(width * height, self._settings.max_pixels)
        enough = enough_pixels((width, height), self._settings)
        scale = min(1.0, enough / min(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        rgb = frame.reformat(*size, format="rgb24", interpolation="AREA").to_ndarray()
        image = Image.fromarray(np.ascontiguousarray(rgb))
        turns = round(frame.rotation / 90) % 4
        if turns:
            image = image.transpose(_TURNS[turns])
        if turns % 2:
            self.upright = self._stream.height, self._stream.width
        return Frame(self._time(frame), image)


_TURNS = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}
"""Quarters of a turn, counterclockwise, as FFmpeg counts."""
