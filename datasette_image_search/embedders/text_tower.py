"""
The part of a model that reads words, exported to ONNX: a server that only answers searches needs no torch.

A file holds the graph, the tokenizer and what the vectors are of. onnxruntime gets its bytes: of a graph that is
nowhere, it reads no other files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import is_fault
from .packages import packages_needed
from .protocol import EmbedderError, TextEncoder

DESCRIPTION = "image_search"
TOKENIZER = "tokenizer"
"""The keys of the metadata of a file."""

TEXTS_AT_ONCE = 256


class NotATower(Exception):
    """Bytes that are no text tower; the message says why."""


@dataclass(frozen=True)
class Described:
    """
    What a file says of itself. `reads_to_end` says that tokens after the highest, the end of a text, have no effect.
    `cleaning` and `zeroed` are those of TextTokens.
    """

    model: str
    fingerprint: str
    dimensions: int
    logit_scale: float
    reads_to_end: bool
    cleaning: str
    zeroed: int | None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Described:
        """Raises NotATower."""
        try:
            described = cls(**json.loads(text))
            kinds = {name: type(value) for name, value in asdict(described).items()}
        except (TypeError, ValueError) as error:
            raise NotATower("it has another description") from error
        zeroed = kinds.pop("zeroed")
        if kinds != _KINDS or zeroed not in (int, type(None)):
            raise NotATower("it has another description")
        return described


_KINDS = {
    "model": str,
    "fingerprint": str,
    "dimensions": int,
    "logit_scale": float,
    "reads_to_end": bool,
    "cleaning": str,
}


class TextTower(TextEncoder):
    """Texts -> vectors, by onnxruntime."""

    def __init__(self, content: bytes) -> None:
        """Raises NotATower, or PackageMissing."""
        with packages_needed("an exported text tower"):
            import onnxruntime

            from .text_tokens import CLEANINGS, TextTokens
        options = onnxruntime.SessionOptions()
        # Threads that wait in a loop take the processor from the other requests of a server.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            known = self._session.get_modelmeta().custom_metadata_map
            described = Described.of_json(known[DESCRIPTION])
            if described.cleaning not in CLEANINGS:
                raise NotATower("it has another description")
            self._tokens = TextTokens(known[TOKENIZER], described.cleaning, described.zeroed)
            ((self._input,), (self._output,)) = (
                [each.name for each in ends]
                for ends in (self._session.get_inputs(), self._session.get_outputs())
            )
        except NotATower:
            raise
        except BaseException as error:
            if not is_fault(error):
                raise
            # onnxruntime and tokenizers have errors of many kinds for bytes of anything.
            raise NotATower("it is no text tower") from error
        self.id = described.model
        self.fingerprint = described.fingerprint
        self.dimensions = described.dimensions
        self.logit_scale = described.logit_scale
        self._reads_to_end = described.reads_to_end

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        parts = range(0, len(texts), TEXTS_AT_ONCE)
        return np.concatenate([self._encode(texts[at : at + TEXTS_AT_ONCE]) for at in parts])

    def _encode(self, texts: list[str]) -> np.ndarray:
        try:
            tokens = self._tokens(texts)
            if self._reads_to_end:
                tokens = tokens[:, : int(tokens.argmax(axis=1).max()) + 1]
            (features,) = self._session.run([self._output], {self._input: tokens})
        except BaseException as error:
            if not is_fault(error):
                raise
            raise EmbedderError(
                f"the exported text tower of {self.id} cannot read words ({type(error).__name__}); "
                "export it again with sqlite-utils export-text-tower"
            ) from error
        vectors = _unit(features) if np.shape(features) == (len(texts), self.dimensions) else None
        if vectors is None:
            raise EmbedderError(
                f"the exported text tower of {self.id} makes no vectors of {self.dimensions} dimensions; "
                "export it again with sqlite-utils export-text-tower"
            )
        return vectors


def _unit(features: np.ndarray) -> np.ndarray | None:
    """Shape (n, dimensions), float32, unit L2 norm; None if one has no direction."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    if not ((lengths > 0) & np.isfinite(lengths)).all():
        return None
    return (features / lengths).astype(np.float32)


def metadata(described: Described, tokenizer: str) -> dict[str, Any]:
    """The metadata of a file."""
    return {DESCRIPTION: described.to_json(), TOKENIZER: tokenizer}
