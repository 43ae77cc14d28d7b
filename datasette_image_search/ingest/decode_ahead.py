"""Pictures decoded by threads, ahead of the model."""

from __future__ import annotations

import copy
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from ..decoding.decode import DecodedImage, decode_bytes, decode_film, reading
from ..decoding.opening import DecodeError, DecodeSettings, check_file_size
from .beside import readable
from .own_images import ImageSource, film_kind_of


def decode_ahead(
    images: Iterable[ImageSource],
    settings: DecodeSettings,
    workers: int,
    ahead: int,
    with_content: Callable[[ImageSource], ImageSource] = lambda image: image,
    threads: ThreadPoolExecutor | None = None,
) -> Iterator[tuple[ImageSource, DecodedImage | DecodeError]]:
    """
    Each image with its picture, or with its problem, in the order of `images`.

    Threads work at most `ahead` images ahead of the reader, and begin none while that many pictures wait for it, of
    which a film has several; so memory stays flat. `with_content` adds the content that only decoding needs. `threads` are used instead of as many as there
    are `workers`, and stay.
    """
    decoded = _Decoded(ahead)
    waiting: deque[tuple[ImageSource, Future[DecodedImage | DecodeError]]] = deque()
    executor = threads or decoding_threads(workers)

    def next_outcome() -> tuple[ImageSource, DecodedImage | DecodeError]:
        image, future = waiting.popleft()
        outcome = future.result()
        decoded.hand_out(outcome)
        return image, outcome

    try:
        for at, image in enumerate(images):
            waiting.append(
                (
                    image,
                    executor.submit(_decode_in_turn, decoded, at, with_content(image), settings),
                )
            )
            if len(waiting) > ahead:
                yield next_outcome()
        while waiting:
            yield next_outcome()
    finally:
        decoded.let_all_pass()
        for _, future in waiting:
            future.cancel()
        if threads is None:
            executor.shutdown()


def decoding_threads(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="decode")


class _Decoded:
    """The pictures that wait for the reader, counted. Threads wait here while there are enough."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._pictures = 0
        self._handed_out = 0
        self._changed = threading.Condition()

    def wait_for_turn(self, at: int) -> None:
        """The image that the reader waits for is always decoded."""
        with self._changed:
            self._changed.wait_for(lambda: self._pictures < self._enough or at <= self._handed_out)

    def add(self, outcome: DecodedImage | DecodeError) -> None:
        with self._changed:
            self._pictures += pictures_of(outcome)

    def hand_out(self, outcome: DecodedImage | DecodeError) -> None:
        with self._changed:
            self._pictures -= pictures_of(outcome)
            self._handed_out += 1
            self._changed.notify_all()

    def let_all_pass(self) -> None:
        with self._changed:
            self._enough = sys.maxsize
            self._changed.notify_all()


def pictures_of(outcome: DecodedImage | DecodeError) -> int:
    """How much of the limits an image takes: as much as the scenes of a film, or one, also with a problem."""
    return len(outcome.scenes) or 1 if isinstance(outcome, DecodedImage) else 1


def _decode_in_turn(
    decoded: _Decoded, at: int, image: ImageSource, settings: DecodeSettings
) -> DecodedImage | DecodeError:
    decoded.wait_for_turn(at)
    outcome = decode_image(image, settings)
    decoded.add(outcome)
    return outcome


def decode_image(image: ImageSource, settings: DecodeSettings) -> DecodedImage | DecodeError:
    """Read and decode one image. A function over values that pickle: other machines can do it too."""
    if image.problem is not None:
        return DecodeError(image.problem)
    try:
        with reading():
            kind = film_kind_of(image)
            if kind is None:
                check_file_size(image.size, settings.max_pixels)
                data = image.read()
        beside = readable(image.read_beside)
        if kind is None:
            decoded = decode_bytes(data, image.name, settings, beside or ())
        else:
            with reading():
                file = image.open()
            with file:
                decoded = decode_film(file, kind, settings, beside or ())
        return replace(decoded, all_read=beside is not None)
    except DecodeError as error:
        # Not the error itself, whose traceback would keep the bytes and the picture in memory.
        return copy.copy(error)
