"""
A complete model for datasette-image-search: --model average-colour.

A useful model would run an ONNX file in encode_images and encode_texts, call an API, or load a
fine-tune; everything else stays as it is here.
"""

import numpy as np
from PIL import Image, ImageColor

from datasette_image_search.embedders.protocol import Embedder, TextNotUnderstood
from datasette_image_search.hookspecs import hookimpl

SIDE = 4


class AverageColour(Embedder):
    """The average colours of a picture in 4 x 4 fields. Words are names of colours in HTML."""

    id = "average-colour"
    fingerprint = "average-colour-1"  # Change it whenever a vector would change.
    dimensions = SIDE * SIDE * 3
    image_size = 32

    def preprocess(self, picture: Image.Image) -> np.ndarray:
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        # Around grey, so that opposite colours have opposite vectors.
        vectors = inputs.reshape(len(inputs), -1).astype(np.float32) - 127.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        colours = np.array([self._colour(text) for text in texts], dtype=np.uint8)
        return self.encode_images(np.tile(colours, SIDE * SIDE))

    def _colour(self, text: str) -> tuple[int, ...]:
        try:
            return ImageColor.getrgb(text)[:3]
        except ValueError:
            raise TextNotUnderstood(
                f"average-colour knows no colour {text!r}; try one like 'tomato' or '#ff6347'"
            ) from None


@hookimpl
def register_image_embedders(register):
    # Called with a ModelRequest: device, precision, weights, and whether downloads are allowed.
    register(AverageColour.id, lambda request: AverageColour())
