"""The class that another package implements to add a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageSearchError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


class EmbedderError(ImageSearchError):
    """A model cannot be loaded, or cannot do what was asked."""


class UnknownModel(EmbedderError):
    """There is no model of this name here. `closest` is the most similar name, if any."""

    def __init__(self, sentence: str, closest: str | None = None) -> None:
        super().__init__(sentence)
        self.closest = closest


class WeightsMissing(EmbedderError):
    """A model that there is, but whose weights are not on this machine."""


class TextNotUnderstood(EmbedderError):
    """Words that this embedder has no vector for."""


@dataclass(frozen=True)
class ModelRequest:
    """
    The request of a person. `device` is a torch device and `precision` a number type of torch, or "int8", None
    for the best available. `words_only` says that words come first, and perhaps no picture ever, so that
    parts which only pictures need can wait.
    """

    model_id: str
    weights: Path | None = None
    device: str | None = None
    precision: str | None = None
    allow_download: bool = False
    words_only: bool = False


class TextEncoder(ABC):
    """Turns words into vectors: float32, unit L2 norm."""

    id: str
    """What people type as --model, such as "palette" or "ViT-B-32-256/datacomp_s34b_b86k"."""

    fingerprint: str
    """Changes whenever the same picture or text could get another vector: model, weights,
    preprocessing. Vectors of two fingerprints are never compared."""

    dimensions: int

    logit_scale: float = 100.0
    """The factor for scores before a softmax over texts. CLIP has learned 100."""

    has_hubs: bool = True
    """Whether some pictures are close to every text, so that rankings are corrected for them."""

    usual_words: tuple[str, ...] = ()
    """Queries that people have for a model without hubs: by their scores, those of a query are judged."""

    @abstractmethod
    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """
        n texts -> (n, dimensions) float32, unit norm.

        Raises TextNotUnderstood with a sentence for the person who typed the text.
        """

    def text_warning(self, text: str) -> str | None:  # noqa: ARG002 (for those that override it)
        """A sentence to show beside the results when only part of a text was understood."""
        return None


class Embedder(TextEncoder):
    """
    Turns pictures, and usually words, into vectors: float32, unit L2 norm.

    Pictures take two steps, so that the first can run in decoding threads (or on other machines)
    while the second has the model: `preprocess` turns one picture into an array of a fixed shape,
    `encode_images` turns a stack of those into vectors.
    """

    image_size: int
    """Pixels. `preprocess` gets pictures whose shorter side is at least this, unless the original
    is smaller; decoders use it to avoid work on pixels nobody looks at."""

    preprocess: Callable[[Image.Image], np.ndarray]
    """An upright RGB picture -> an array whose shape and type are the same for every picture. Preferably a
    function or a small object that pickles, so that decoding can run without the model."""

    device: str = "cpu"
    precision: str = "float32"

    @abstractmethod
    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        """A stack of n `preprocess` results, shape (n, ...) -> (n, dimensions) float32, unit norm."""

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        raise TextNotUnderstood(
            f"{self.id} sees pictures only and cannot read {texts[0]!r}; search with #ID, or embed with a "
            "model that reads words, such as palette"
        )

    def is_current(self) -> bool:
        """Whether making it again would give the same: False if the file of its weights was replaced."""
        return True


EmbedderFactory = Callable[[ModelRequest], Embedder]
