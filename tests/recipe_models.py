"""
Two models for the README and the recipes, under the names of the real ones, whose weights tests have
not: so the texts are run as they are.

They see colours as palette does, and know the colours of the words in these texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasette_image_search.embedders.model_ids import DEFAULT_MODEL
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.embedders.protocol import ModelRequest, TextNotUnderstood
from datasette_image_search.hookspecs import hookimpl

OTHER_MODEL = "ViT-B-16-SigLIP2-256/webli"

WORDS = {"the sea": "blue", "at night": "dark", "a red sports car": "red"}


class RecipeModel(PaletteEmbedder):
    """`turn` is by how much the numbers of a vector are shifted: vectors of two models have no meaning in common."""

    def __init__(self, model_id: str, turn: int) -> None:
        super().__init__()
        self.id, self.fingerprint, self.turn = model_id, f"recipe-{turn}", turn

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        return np.roll(super().encode_images(inputs), self.turn, axis=1)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        unknown = [text for text in texts if text not in WORDS]
        if unknown:
            raise TextNotUnderstood(f"no recipe searches for {unknown[0]!r}")
        vectors = super().encode_texts([WORDS[text] for text in texts])
        return np.roll(vectors, self.turn, axis=1)

    def text_warning(self, text: str) -> None:
        return None


@hookimpl
def register_image_embedders(register) -> None:
    def first(request: ModelRequest) -> RecipeModel:
        return RecipeModel(DEFAULT_MODEL, turn=0)

    def other(request: ModelRequest) -> RecipeModel:
        return RecipeModel(OTHER_MODEL, turn=100)

    register(DEFAULT_MODEL, first)
    register(OTHER_MODEL, other)
