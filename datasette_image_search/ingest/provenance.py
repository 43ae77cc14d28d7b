"""
A test whether vectors come from the embedder that is named. Two embedders make unrelated vectors of a
picture; the same embedder makes nearly equal ones, whichever program read and scaled the picture.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ..decoding.decode import DecodedImage, decode_bytes, decode_file
from ..decoding.opening import DecodeError, DecodeSettings
from ..embedders.protocol import Embedder
from ..errors import ImageSearchError
from ..store import Index
from ..store.own_rows import own_content
from ..store.reads import locations, some_images
from ..store.vectors import image_vector

SAME = 0.98
"""The median cosine is above this if the embedder is the same. Half precision, other ways to scale and a
JPEG that is decoded smaller cost 0.005 at most; the median forgives pictures that lie on their side,
which not every program turns, and files that have changed."""

PICTURES = 5
CANDIDATES = 50
"""The number of pictures to compare, and of candidates to try, because some may be missing."""


class OtherEmbedder(ImageSearchError):
    """The vectors come from another embedder than the one that is named."""


def is_same(ones: np.ndarray, others: np.ndarray) -> bool:
    """Whether two arrays of unit vectors of the same pictures come from the same embedder."""
    return bool(np.median(np.einsum("ij,ij->i", ones, others)) >= SAME)


Original = Path | bytes
"""The file of a picture, or what a column has of it."""


def is_made_by(
    embedder: Embedder, pictures: Iterable[tuple[Original, np.ndarray]], whose: str
) -> bool:
    """
    True if the embedder makes these vectors of these originals, False if none can be read. Raises
    OtherEmbedder for other vectors, with `whose` as their name.
    """
    settings = DecodeSettings(
        embedder.preprocess, embedder.image_size, thumbnail_size=None, read_metadata=False
    )
    known = list(islice(_decoded(pictures, settings), PICTURES))
    if not known:
        return False
    made = embedder.encode_images(np.stack([picture.model_input for picture, _ in known]))
    vectors = np.stack([vector for _, vector in known])
    if made.shape != vectors.shape or not is_same(made, vectors):
        raise OtherEmbedder(
            f"the vectors of {whose} differ from those that {embedder.id} makes of the same pictures; name "
            "the model that made them with --model, or embed the pictures again with --replace-model"
        )
    return True


def _decoded(
    pictures: Iterable[tuple[Original, np.ndarray]], settings: DecodeSettings
) -> Iterator[tuple[DecodedImage, np.ndarray]]:
    for original, vector in islice(pictures, CANDIDATES):
        try:
            if isinstance(original, bytes):
                yield decode_bytes(original, "", settings), vector
            else:
                yield decode_file(original, settings), vector
        except DecodeError:
            continue


def stored_pictures(
    conn: sqlite3.Connection, index: Index, database: Path
) -> Iterator[tuple[Original, np.ndarray]]:
    """The originals of some images of an index, with their stored vectors."""
    ids = some_images(conn, index, CANDIDATES)
    for image_id, place in locations(conn, index, ids).items():
        vector = image_vector(conn, index, image_id)
        if vector is None:
            continue
        if index.content_column is None:
            yield Path(database.resolve().parent, place.root, place.path), vector
        else:
            yield own_content(conn, index.table, index.content_column, image_id), vector
