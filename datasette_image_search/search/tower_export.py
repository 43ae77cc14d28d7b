"""Exports the text tower of an index beside its database, measured against the model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlite_utils import Database

from ..embedders.protocol import EmbedderError
from ..embedders.text_tower import TextTower
from ..errors import ImageSearchError
from ..files.whole_files import put_in_place, sync, temporary_beside
from ..store import Index, transaction
from ..store.connections import database_path
from ..store.indexes import WeightsOf, record_text_tower
from .query import embedder_of
from .sample_queries import sample_phrases
from .sidecar import text_tower_path

LEAST_COSINE = 0.9
"""To the original: what is less like it finds other images."""


@dataclass(frozen=True)
class Exported:
    """
    A `file` of so many `bytes`. `cosine` is the mean over `texts` between their vectors by the file and by the model,
    `worst` the lowest.
    """

    file: Path
    bytes: int
    texts: int
    cosine: float
    worst: float


def export_text_tower(
    db: Database, index: Index, weights_of: WeightsOf, *, quantize: bool = False
) -> Exported:
    """
    Write the file, and let the database remember it. The file is there as a whole, or the one of before is; if this is
    killed between the two, the database names the one of before, and the new one is refused until it is exported again.

    Raises EmbedderError for a model that cannot be exported, and ImageSearchError if the file cannot be written.
    """
    from ..embedders.tower_export import export_tower

    database = database_path(db.conn)
    if database is None:
        raise ImageSearchError(
            "a text tower is exported beside the file of a database, and this one is in memory; save it to a file"
        )
    embedder = embedder_of(index, weights_of, device="cpu", precision="float32", words_only=True)
    phrases = sample_phrases()
    path = text_tower_path(database, index)
    try:
        with temporary_beside(path, like=database) as temporary:
            export_tower(embedder, temporary, quantize=quantize)
            with temporary.open("rb+") as file:
                sync(file)
            content = temporary.read_bytes()
            cosines = np.sum(
                TextTower(content).encode_texts(phrases) * embedder.encode_texts(phrases), axis=1
            )
            if not cosines.min() >= LEAST_COSINE:
                raise EmbedderError(
                    f"the exported text tower of {index.model} makes other vectors than the model, with a cosine "
                    f"of {cosines.min():.3f}; serve it with torch"
                    + (", or export it without --quantize" if quantize else "")
                )
            with transaction(db):
                record_text_tower(db, index, hashlib.sha256(content).hexdigest())
                put_in_place(temporary, path)
    except OSError as error:
        raise ImageSearchError(
            f"{str(path)!r} could not be written ({error.strerror or error}); make room or make the folder writable"
        ) from error
    return Exported(path, len(content), len(phrases), float(cosines.mean()), float(cosines.min()))
