"""
Queries to tune and measure an index with, like those that people type. Words lie elsewhere on the sphere
than pictures, and are harder for an approximate index: if it is tuned with pictures alone, its recall for
words is lower than measured.
"""

from __future__ import annotations

import numpy as np

from ..embedders.protocol import EmbedderError
from ..errors import counted
from ..files.vector_files import (
    NoDirection,
    VectorSourceError,
    checked_array,
    mapped_array,
    unit_vectors,
)
from ..store import Index
from ..store.indexes import WeightsOf
from ..store.opened import Paths, as_path
from ..store.references import References
from .codes import fitted
from .correction import ranking_vectors
from .query import text_encoder_of
from .segment import Segment

SAMPLES = 200

_THINGS = (
    "a dog", "a black cat", "two children", "a man with a hat", "a woman smiling", "a wedding",
    "a birthday cake", "a red car", "a bicycle", "a train", "a boat", "an aeroplane", "a horse",
    "birds", "a bridge", "a church", "skyscrapers", "a kitchen", "a plate of food", "a cup of coffee",
    "flowers", "a forest", "mountains", "the sea", "a lake", "a waterfall", "snow", "clouds",
    "a sunset", "fireworks", "a football match", "people dancing", "a concert", "a market",
    "a receipt", "a handwritten letter", "a map", "a painting", "a statue", "a toy",
)  # fmt: skip

_SCENES = ("{}", "{} at night", "{} in the rain", "a close-up of {}", "{} on a summer day")


def sample_phrases() -> list[str]:
    """200 queries as people have them."""
    return [scene.format(thing) for thing in _THINGS for scene in _SCENES]


def sample_queries(
    index: Index, codes: Segment, references: References | None, weights_of: WeightsOf
) -> np.ndarray:
    """
    About SAMPLES queries as ranking_vectors() makes them: words if the model reads them and is on this
    machine, otherwise pictures and sums of pictures of the index.
    """
    try:
        vectors = text_encoder_of(index, weights_of).encode_texts(sample_phrases())
    except EmbedderError:
        return _of_pictures(codes, index.dimensions)
    return ranking_vectors(index, references, vectors, np.ones(len(vectors)))


def _of_pictures(codes: Segment, dimensions: int) -> np.ndarray:
    """Sums of three pictures: like the first and the second, and unlike the third."""
    rng = np.random.default_rng(0)
    n = min(SAMPLES, len(codes))
    first, second, third = (
        codes.decoded(rng.integers(len(codes), size=n))[:, :dimensions].astype(np.float64)
        for _ in range(3)
    )
    sums = first + 0.5 * second - 0.25 * third
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)


def of_both_kinds(index: Index, references: References | None, queries: np.ndarray) -> np.ndarray:
    """
    Unit vectors of words or of pictures, which nobody can tell, shape (n, dimensions), as ranking_vectors()
    makes them: once as pictures and once as words.
    """
    as_words = ranking_vectors(index, references, queries, np.ones(len(queries)))
    if as_words.shape == queries.shape:
        return queries
    return np.concatenate([fitted(queries, as_words.shape[1]), as_words])


def own_queries(queries: np.ndarray | Paths | None, index: Index) -> np.ndarray | None:
    """
    A person's own queries from an array or a .npy file of vectors of any length: unit vectors, shape
    (n, dimensions). Raises VectorSourceError if there are none, or others.
    """
    if queries is None:
        return None
    if isinstance(queries, np.ndarray):
        name, array = "the array", checked_array("the array", queries)
    else:
        path = as_path(queries)
        name = repr(str(path))
        if not path.is_file():
            raise VectorSourceError(f"there is no file {name} with queries")
        array = mapped_array(path)
    if not len(array):
        raise VectorSourceError(f"there are no queries in {name}")
    if array.shape[1] != index.dimensions:
        raise VectorSourceError(
            f"the queries in {name} have {counted(array.shape[1], 'dimension')}, but "
            f"{index.image_table!r} was embedded with {index.model}, which has {index.dimensions}"
        )
    try:
        return unit_vectors(array)
    except NoDirection as error:
        raise VectorSourceError(
            f"query number {error.at + 1:,} of {name} {error}; leave it out"
        ) from error
