"""What an actor on a node of a cluster does. It knows no Ray, and gets no pixel and sends none."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..embedders.protocol import Embedder, ModelRequest
from ..embedders.registry import load_embedder
from ..errors import ImageSearchError
from .decode_ahead import decoding_threads
from .encoding import EncodedBatch, EncodingSettings, encode_in_batches
from .own_images import ImageSource
from .walk import FoundFile

PACKAGE = "datasette-image-search"


@dataclass(frozen=True)
class Task:
    """
    What all actors of a run get before their first images. `weights_name` is the name of the file that comes beside it,
    and `fingerprint` that of the model that has to come of it. `samples` are images that this machine can read, one
    below each root.
    """

    version: str
    model: ModelRequest
    weights_name: str
    fingerprint: str
    settings: EncodingSettings
    samples: Sequence[ImageSource]


@dataclass(frozen=True)
class Ready:
    """The device of an actor, and why it cannot work, None if it can."""

    device: str
    problem: str | None = None


class Worker:
    """Two calls of `encode` may run at once: one decodes while the other has the model. They share the threads that decode."""

    def __init__(self) -> None:
        self._embedder: Embedder | None = None
        self._settings: EncodingSettings | None = None
        self._threads: ThreadPoolExecutor | None = None

    def is_there(self) -> bool:
        return True

    def prepare(self, task: Task, weights: np.ndarray | None) -> Ready:
        """Load the model, and look at the roots. `weights` are the bytes of a file, uint8."""
        ours = version(PACKAGE)
        if ours != task.version:
            return Ready("", f"has {PACKAGE} {ours}, and this machine has {task.version}")
        try:
            embedder = _loaded(task, weights)
        except ImageSearchError as error:
            return Ready("", f"cannot load the model: {error}")
        if embedder.fingerprint != task.fingerprint:
            return Ready(
                "",
                f"has other weights of {embedder.id}, or another version of what makes its vectors; give the same "
                "file to all with --weights, or install the same versions",
            )
        self._embedder, self._settings = _OneAtATime(embedder), task.settings
        self._threads = decoding_threads(task.settings.workers)
        return Ready(f"{embedder.device}, {embedder.precision}", _unseen(task.samples))

    def encode(self, images: Sequence[ImageSource], roots: Mapping[str, int]) -> list[EncodedBatch]:
        """As encode_in_batches(): one batch, unless the files are slow."""
        assert self._embedder is not None
        assert self._settings is not None
        return list(
            encode_in_batches(images, self._embedder, self._settings, roots, threads=self._threads)
        )


def _loaded(task: Task, weights: np.ndarray | None) -> Embedder:
    if weights is None:
        return load_embedder(task.model)
    # Once it is loaded, the file is not needed any more.
    with tempfile.TemporaryDirectory(prefix="image-search-") as folder:
        file = Path(folder, task.weights_name)
        weights.tofile(file)
        return load_embedder(replace(task.model, weights=file))


def _unseen(samples: Sequence[ImageSource]) -> str | None:
    for image in samples:
        try:
            image.read(1)
        except OSError as error:
            root = image.root if isinstance(image, FoundFile) else str(image.file)
            return (
                f"cannot see {root!r}: {image.path!r} cannot be read there ({error.strerror or error}); make the "
                "folder available on it, at the same path"
            )
    return None


class _OneAtATime(Embedder):
    """An embedder that encodes for one thread at a time, so that it takes the memory of one batch."""

    def __init__(self, embedder: Embedder) -> None:
        self.preprocess, self.image_size = embedder.preprocess, embedder.image_size
        self._embedder = embedder
        self._encoding = threading.Lock()

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        with self._encoding:
            return self._embedder.encode_images(inputs)
