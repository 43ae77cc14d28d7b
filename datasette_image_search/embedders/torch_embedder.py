"""The common part of torch models: towers that are read from a file when they are needed."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .fingerprints import in_precision
from .preprocessing import MakeTransform, TransformPreprocess
from .protocol import Embedder, EmbedderError
from .self_test import drawn_pictures
from .torch_runtime import Runtime, Tower
from .weights import WeightsFile

LEAST_COSINE = 0.99
"""Of 8 bits to float32, for drawn pictures; more is promised for none."""

Load = Callable[[], torch.nn.Module]
"""Reads the parameters of one tower, and no others, from the file of the weights."""


@dataclass(frozen=True)
class TorchModel:
    """
    A model before its parameters are read. `architecture` is its name in a sentence. `load_words` and
    `tokenizer` are None for a model without words.
    """

    id: str
    architecture: str
    weights: WeightsFile
    fingerprint: str
    dimensions: int
    image_size: int
    make_transform: MakeTransform
    load_pictures: Load
    load_words: Load | None = None
    tokenizer: Callable[[list[str]], torch.Tensor] | None = None


class TorchEmbedder(Embedder):
    """
    The tower for pictures is read when the first picture comes, the one for words with the first words:
    a server that only gets words does not need the larger half of a model.
    """

    def __init__(self, model: TorchModel, runtime: Runtime) -> None:
        self.id = model.id
        self.fingerprint = in_precision(model.fingerprint, runtime.precision)
        self.dimensions = model.dimensions
        self.image_size = model.image_size
        self.preprocess = TransformPreprocess(model.make_transform)
        self.device = runtime.device
        self.precision = runtime.precision
        self._model = model
        self._runtime = runtime
        self._pictures: Tower | None = None
        self._words: Tower | None = None
        self._loading = threading.Lock()

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        return self.load_pictures().encode(inputs)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        if self._model.tokenizer is None:
            return super().encode_texts(texts)
        return self.load_words().encode(self._model.tokenizer(list(texts)))

    def is_current(self) -> bool:
        return not self._model.weights.was_replaced()

    @property
    def tokenizer(self) -> Callable[[list[str]], torch.Tensor] | None:
        """None for a model without words."""
        return self._model.tokenizer

    @property
    def logit_scale(self) -> float:  # type: ignore[override]  # It is only read.
        return self.load_words().logit_scale

    def load_pictures(self) -> Tower:
        """Raises EmbedderError if the file does not contain the weights of this model, or pictures cannot be prepared for it."""
        with self._loading:
            if self._pictures is None:
                self._check_transform()
                tower = self._tower(self._model.load_pictures)
                self._pictures = (
                    self._in_eight_bits(tower) if self._runtime.in_eight_bits else tower
                )
            return self._pictures

    def load_words(self) -> Tower:
        """Like load_pictures(), of a model that reads words."""
        with self._loading:
            if self._words is None:
                assert self._model.load_words is not None
                self._words = self._tower(self._model.load_words)
            return self._words

    def _check_transform(self) -> None:
        """Before a thread that decodes meets the first picture."""
        try:
            self._model.make_transform()
        except Exception as error:
            # Libraries assert, or look the words of a configuration up without a message.
            raise EmbedderError(
                f"pictures cannot be prepared for {self._model.architecture} as its preprocessing configuration says "
                f"({str(error) or type(error).__name__}); correct it where the model comes from, or use another model"
            ) from error

    def _in_eight_bits(self, tower: Tower) -> Tower:
        """The same one. Raises EmbedderError if it cannot be, or sees the drawn pictures too differently then."""
        from .eight_bits import in_eight_bits

        inputs = np.stack([self.preprocess(each) for each in drawn_pictures(self.image_size)])
        before = tower.encode(inputs)
        in_eight_bits(tower.module, self._model.architecture)
        cosine = float((before * tower.encode(inputs)).sum(axis=1).min())
        if not cosine >= LEAST_COSINE:
            raise EmbedderError(
                f"{self._model.architecture} makes other vectors with --precision int8, with a cosine of {cosine:.3f} to those "
                "of float32; leave --precision out"
            )
        _give_back_memory()
        return tower

    def _tower(self, load: Load) -> Tower:
        weights = self._model.weights
        weights.check_unchanged()
        try:
            module = load()
        except EmbedderError:
            raise
        except Exception as error:
            # torch fails in many ways if the file is not a checkpoint, or is another model's.
            raise EmbedderError(
                f"{weights.path.name!r} does not hold weights of {self._model.architecture}; "
                "check that the file is complete and belongs to this model"
            ) from error
        weights.check_unchanged()
        tower = Tower(module, self._runtime)
        _give_back_memory()
        return tower


def check_keys(found: Any, allowed: tuple[str, ...]) -> None:
    """Raises ValueError if a file lacks parameters, or has others than those that begin like the allowed."""
    strange = [key for key in found.unexpected_keys if not key.startswith(allowed)]
    if found.missing_keys or strange:
        raise ValueError(f"missing: {found.missing_keys}, unexpected: {strange}")


def _give_back_memory() -> None:
    """
    Give the memory back that was used to build a model. glibc would keep it, as much as the parameters
    of a text tower; on other systems there is nothing to do.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
