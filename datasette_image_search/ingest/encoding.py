"""Images -> the rows, vectors and thumbnails to write, in batches. A run on one machine and each node of a cluster do this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from typing import Protocol

import numpy as np

from ..decoding.decode import DecodedImage
from ..decoding.opening import DecodeError, DecodeSettings, Unreadable, default_max_pixels
from ..embedders.protocol import Embedder
from ..store.companions import names_of
from ..store.image_record import ImageRecord, SceneRow
from ..store.tables import OWN_ROOT, EmbeddedImage, Failure, Source
from ..store.writes import folder_of
from .batches import batches
from .decode_ahead import decode_ahead, pictures_of
from .own_images import ImageSource, OwnImage
from .report import FailedImage, NodeWork, failed_image
from .walk import FoundFile

Outcome = tuple[ImageSource, DecodedImage | DecodeError]


@dataclass(frozen=True)
class EncodingSettings:
    """
    How images are encoded, wherever that is: `batch_size` at once, decoded by so many `workers`, with thumbnails of
    `thumbnail_size` pixels, None for none. `max_pixels` None is as many as the memory allows, which is shared among all
    `decoders` of the machine, None for the `workers`.
    """

    batch_size: int
    workers: int
    thumbnail_size: int | None
    max_pixels: int | None
    decoders: int | None = None


@dataclass(frozen=True)
class EncodedBatch:
    """
    What is to be written of `count` images in one transaction. Of `failures`, those that are `embedded` are warnings;
    `told` are the same for the report, in this order. `alone` are the companions of pictures that turned out to be bad,
    by root and path. `node` is that of a cluster which encoded them, "" if none did.
    """

    count: int
    images: Sequence[EmbeddedImage]
    failures: Sequence[Failure]
    told: Sequence[FailedImage]
    alone: Sequence[tuple[str, str]]
    node: str = ""


def encode_in_batches(
    images: Iterable[ImageSource],
    embedder: Embedder,
    settings: EncodingSettings,
    roots: Mapping[str, int],
    with_content: Callable[[ImageSource], ImageSource] = lambda image: image,
    is_wanted: Callable[[], bool] = lambda: True,
    threads: ThreadPoolExecutor | None = None,
) -> Iterator[EncodedBatch]:
    """
    The images in their order. Threads decode ahead of the model; `roots` are ids by path, and `with_content` and `threads`
    are as in decode_ahead(). It ends early, between two pictures, when they are not `is_wanted` any more. Raises what the embedder
    raises.
    """
    decoding = DecodeSettings(
        embedder.preprocess,
        embedder.image_size,
        thumbnail_size=settings.thumbnail_size,
        max_pixels=settings.max_pixels or default_max_pixels(settings.decoders or settings.workers),
    )
    # Far enough ahead for the decoders to be busy while a batch is encoded.
    ahead = settings.batch_size + 2 * settings.workers
    outcomes = decode_ahead(images, decoding, settings.workers, ahead, with_content, threads)
    wanted = takewhile(lambda _: is_wanted(), outcomes)
    for batch in batches(wanted, settings.batch_size, lambda each: pictures_of(each[1])):
        if not is_wanted():
            return
        yield _encode(embedder, batch, settings.batch_size, roots)


class Encoder(Protocol):
    """This machine, or a cluster."""

    @property
    def where(self) -> str:
        """What encodes, for a person, such as "cpu, float32"."""
        ...

    def nodes(self, images: Mapping[str, int], /) -> tuple[NodeWork, ...]:
        """
        What each node of a cluster has done so far, of which `images` says how many are committed, by EncodedBatch.node;
        none of this machine.
        """
        ...

    def encode(
        self,
        images: Iterable[ImageSource],
        roots: Mapping[str, int],
        with_content: Callable[[ImageSource], ImageSource],
        is_wanted: Callable[[], bool],
    ) -> Iterator[EncodedBatch]:
        """As encode_in_batches()."""
        ...


@dataclass(frozen=True)
class HereEncoder:
    """An Encoder that is this process."""

    embedder: Embedder
    settings: EncodingSettings

    @property
    def where(self) -> str:
        return f"{self.embedder.device}, {self.embedder.precision}"

    def nodes(self, _images: Mapping[str, int], /) -> tuple[NodeWork, ...]:
        return ()

    def encode(
        self,
        images: Iterable[ImageSource],
        roots: Mapping[str, int],
        with_content: Callable[[ImageSource], ImageSource],
        is_wanted: Callable[[], bool],
    ) -> Iterator[EncodedBatch]:
        return encode_in_batches(
            images, self.embedder, self.settings, roots, with_content, is_wanted
        )


def batch_of_failures(
    images: Sequence[ImageSource], error: DecodeError, roots: Mapping[str, int]
) -> EncodedBatch:
    """Images that have the same problem."""
    return _batch(images, [], [(image, _failure(image, error, roots)) for image in images], ())


def _batch(
    images: Sequence[ImageSource],
    embedded: Sequence[EmbeddedImage],
    failures: Sequence[tuple[ImageSource, Failure]],
    alone: Iterable[tuple[str, str]],
) -> EncodedBatch:
    return EncodedBatch(
        len(images),
        embedded,
        [failure for _, failure in failures],
        # With the name of the file: the key of a row would not tell a person.
        [failed_image(image, failure.reason) for image, failure in failures],
        tuple(alone),
    )


def _encode(
    embedder: Embedder, batch: Sequence[Outcome], size: int, roots: Mapping[str, int]
) -> EncodedBatch:
    decoded = [(image, outcome) for image, outcome in batch if isinstance(outcome, DecodedImage)]
    failures = [
        (image, _failure(image, outcome, roots))
        for image, outcome in batch
        if isinstance(outcome, DecodeError)
    ]
    embedded = []
    vectors = _vectors(embedder, [outcome for _, outcome in decoded], size)
    for (image, outcome), vector in zip(decoded, vectors, strict=True):
        if not np.isfinite(vector).all():
            # Half precision overflows now and then; such a vector would be found by every search.
            reason = DecodeError("the model gives no finite vector for it")
            failures.append((image, _failure(image, reason, roots)))
            continue
        content = _content(image, outcome, roots)
        beside: str | None = image.beside if isinstance(image, FoundFile) else ""
        if not outcome.all_read:
            beside = None
        scenes = tuple(SceneRow(scene.at, scene.thumbnail) for scene in outcome.scenes)
        embedded.append(
            EmbeddedImage(image.image_id, content, vector, outcome.thumbnail, beside, scenes)
        )
        if outcome.warning is not None:
            warning = _failure(image, DecodeError(outcome.warning), roots)
            failures.append((image, replace(warning, embedded=True)))
    return _batch([image for image, _ in batch], embedded, failures, _alone(batch))


def _alone(batch: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
    """The companions of new pictures that turned out to be bad; one that could not be opened now may be good."""
    for image, outcome in batch:
        if (
            isinstance(image, FoundFile)
            and image.image_id is None
            and isinstance(outcome, DecodeError)
            and not isinstance(outcome, Unreadable)
        ):
            yield from ((image.root, name) for name in names_of(image.companions))


def _vectors(
    embedder: Embedder, decoded: Sequence[DecodedImage], size: int
) -> Iterator[np.ndarray]:
    """The vector of each, or those of the scenes of a film, shape (n, dimensions); `size` pictures are encoded at once."""
    if not decoded:
        return
    inputs = [
        [scene.model_input for scene in outcome.scenes] or [outcome.model_input]
        for outcome in decoded
    ]
    together = list(chain.from_iterable(inputs))
    vectors = np.concatenate(
        [
            embedder.encode_images(np.stack(together[start : start + size]))
            for start in range(0, len(together), size)
        ]
    )
    at = 0
    for outcome, each in zip(decoded, inputs, strict=True):
        yield vectors[at : at + len(each)] if outcome.scenes else vectors[at]
        at += len(each)


def _failure(image: ImageSource, error: DecodeError, roots: Mapping[str, int]) -> Failure:
    root_id = roots[image.root] if isinstance(image, FoundFile) else OWN_ROOT
    # No file has the time "", so that what could not be read is tried again by the next run.
    mtime = "" if isinstance(error, Unreadable) else image.mtime
    return Failure(root_id, image.path, image.size, mtime, str(error))


def _content(
    image: ImageSource, decoded: DecodedImage, roots: Mapping[str, int]
) -> ImageRecord | Source:
    if isinstance(image, OwnImage):
        return Source(image.size, image.mtime, decoded.sha256)
    return ImageRecord(
        root_id=roots[image.root],
        path=image.path,
        folder=folder_of(image.path),
        filename=image.name,
        format=decoded.format,
        width=decoded.width,
        height=decoded.height,
        size=image.size,
        mtime=image.mtime,
        sha256=decoded.sha256,
        metadata=decoded.metadata,
        companions=image.companions or None,
    )
