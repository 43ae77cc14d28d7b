"""
Films: frames of them that are looked at, and what a row needs. Only with the extra `video`, whose PyAV brings the
libraries of FFmpeg.

Key frames are read, as these need no others; between key frames that are far from each other, other frames too. A film
may be broken, lie about its length, or have no end: what is read has limits, and what was read until then counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
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

MOST_DECODED = 1_500
"""Frames of a film that are decoded, also for the sake of others."""

MOST_SECONDS = 30
"""For one film."""

_UNREADABLE = "the film is damaged, encrypted, or of a kind that is not supported"

_IS_CUT = "the film is damaged: a part of it cannot be read"

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


def read_film(file: BinaryIO, kind: FilmKind, settings: DecodeSettings) -> Film:
    """Raises DecodeError."""
    try:
        with _opened(file, kind) as container:
            stream = _pictures(container)
            check_pixels(stream.width * stream.height, settings.max_pixels)
            looking = _Looking(container, stream, settings)
            frames = list(looking.frames())
            if not frames:
                raise DecodeError(_UNREADABLE)
            width, height = looking.upright
            return Film(
                kind.format,
                width,
                height,
                tuple(chosen_frames(frames)),
                _metadata(container, stream),
                _IS_CUT if looking.is_damaged else None,
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


class _Looking:
    """The frames of a film that are looked at, as it is read."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, settings: DecodeSettings
    ) -> None:
        self._container, self._stream, self._settings = container, stream, settings
        self._decoded = iter(container.decode(stream))
        self._start = float((stream.start_time or 0) * (stream.time_base or 0))
        self._left = MOST_DECODED
        self._deadline = time.monotonic() + MOST_SECONDS
        self.is_damaged = False
        self.upright = stream.width, stream.height

    def frames(self) -> Iterator[Frame]:
        duration = _duration(self._container, self._stream)
        step = max(CLOSEST, (duration or 0) / MOST_LOOKED_AT)
        frame = self._next()
        if frame is None:
            return
        yield self._picture(frame)
        seen, target = self._time(frame), 0.0
        # Without a length nobody knows where to go on.
        is_between = only_forward = duration is None
        for _ in range(MOST_LOOKED_AT):
            target += step
            if duration is not None and target >= duration:
                return
            if not is_between:
                frame = self._key_frame_before(target)
                if frame is None:
                    # Some files have no list of key frames, and others a wrong one.
                    self._begin_again()
                    only_forward = True
                elif self._time(frame) > seen:
                    seen = self._time(frame)
                    yield self._picture(frame)
                    continue
                elif target - seen < BLIND:
                    continue
            frame = self._from_here(max(target, seen), seen)
            if frame is None:
                is_early = duration is not None and duration - seen > step + 2 * BLIND
                self.is_damaged |= is_early and not self._is_at_limit
                return
            seen = self._time(frame)
            yield self._picture(frame)
            is_between = only_forward or not frame.key_frame

    def _key_frame_before(self, target: float) -> VideoFrame | None:
        time_base = self._stream.time_base
        assert time_base is not None
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

    def _from_here(self, target: float, seen: float) -> VideoFrame | None:
        """The next frame at a time or later, or the next key frame before it."""
        while (frame := self._next()) is not None:
            at = self._time(frame)
            if at >= target or (frame.key_frame and at > seen):
                return frame
        return None

    def _next(self) -> VideoFrame | None:
        """The next frame that can be decoded; None at the end, and at a limit."""
        while not self._is_at_limit:
            self._left -= 1
            try:
                frame = next(self._decoded)
            except (StopIteration, EOFError):
                return None
            except av.FFmpegError:
                self.is_damaged = True
                return None
            if frame.pts is not None:
                return frame
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
