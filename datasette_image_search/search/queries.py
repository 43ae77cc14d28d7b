"""A picture file -> the vector to search with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..decoding.decode import decode_file
from ..decoding.opening import DecodeError, DecodeSettings, TooLarge, default_max_pixels
from ..store import Index
from .query import QueryError, WeightsOf, embedder_of, recorded_weights


def picture_vector(
    index: Index, picture: Path, weights_of: WeightsOf = recorded_weights
) -> np.ndarray:
    """
    The vector that embedding the file would give it, shape (dimensions,), float32, unit norm.

    Raises QueryError if the file is not a usable picture, EmbedderError if the model is not on this
    machine.
    """
    if not picture.exists():
        raise QueryError(f"there is no file {str(picture)!r} to search with")
    embedder = embedder_of(index, weights_of)
    settings = DecodeSettings(
        embedder.preprocess,
        embedder.image_size,
        thumbnail_size=None,
        max_pixels=default_max_pixels(workers=1),
    )
    try:
        decoded = decode_file(picture, settings)
    except TooLarge as error:
        raise QueryError(
            f"{str(picture)!r} has too many pixels for the memory that is free; make it smaller first"
        ) from error
    except DecodeError as error:
        raise QueryError(f"cannot search with {str(picture)!r}: {error}") from error
    return embedder.encode_images(decoded.model_input[None])[0]
