"""Pictures decoded by threads, ahead of the model."""

from __future__ import annotations

import copy
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
) -> Iterator[tuple[ImageSource, DecodedImage | DecodeError]]:
    """
    Each image with its picture, or with its problem, in the order of `images`.

    Threads work at most `ahead` images ahead of the reader, so memory stays flat. `with_content` adds the
    content that only decoding needs.
    """
    waiting: deque[tuple[ImageSource, Future[DecodedImage | DecodeError]]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for image in images:
            future = executor.submit(decode_image, with_content(image), settings)
            waiting.append((image, future))
            if len(waiting) > ahead:
                image, future = waiting.popleft()
                yield image, future.result()
        while waiting:
            image, future = waiting.popleft()
            yield image, future.result()
    finally:
        executor.shutdown(cancel_futures=True)


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
