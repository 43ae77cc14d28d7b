"""Codes without a database, an index that they may be of, and factory strings that FAISS takes or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datasette_image_search.search.codes import Codes, encode
from datasette_image_search.store import Index
from datasette_image_search.store.stored_vectors import StoredVectors
from datasette_image_search.store.tables import ImageTable

INDEX = Index(
    id=1,
    image_table="images",
    model="palette",
    weights=None,
    fingerprint="f1",
    dimensions=8,
    generation=40,
    sidecar="token",
    sidecar_vector_id=79,
    table=ImageTable("images", "id", key_is_integer=True),
)

BUILDABLE = (
    "IVF16,SQ8", "IVF16,PQ8x4", "IVF16,SQfp16", "PCA8,IVF4,Flat", "OPQ4,IVF16,PQ4x4", "Flat", "SQ8",
    "PQ8x4", "HNSW16", "HNSW16,SQ8", "PCAR8,HNSW16", "IVF16_HNSW8,Flat", "IVF16,PQ8x4,RFlat",
    "L2norm,Flat", "RR,IVF16,SQ4", "IVF1,Flat",
)  # fmt: skip

REFUSED = (
    "", " ", "nonsense", "ivf16,flat", "IVF0,Flat", "IVF-1,Flat", "IVF99999999999999999,Flat", "IVF16,PQ7",
    "IVF5000,Flat", "PCA99,Flat", "IDMap,Flat", "IDMap2,IVF4,Flat", "BFlat", "LSH", "IMI2x4,PQ8",
    "IVF16,Flat; drop table images", "HNSW0", "HNSW00,SQ8", "HNSW1", "PQ8x0", "IVF4,PQ8x0", "RQ0x8",
    "PQ16x4fs_0", "IVF16_HNSW0,Flat", "PCA0,Flat", "NSG16", "IVF16,PQ8x4fs",
)  # fmt: skip


def make_codes(vectors: np.ndarray, first: int = 1) -> Codes:
    """Vector ids from `first` on, and images of the same numbers."""
    ids = np.arange(first, first + len(vectors))
    index = replace(INDEX, dimensions=vectors.shape[1])
    return encode(index, [StoredVectors(ids, ids.tolist(), vectors)])
