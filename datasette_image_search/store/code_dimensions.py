"""How many components the code of a vector has: those of the vector, and a bias if rankings are corrected."""

from __future__ import annotations

from .tables import Index

ALIGNMENT = 16
"""FAISS is fast with vectors of a multiple of so many components."""


def code_dimensions(index: Index) -> int:
    """Of a code of an index; what is neither of the vector nor its bias is zero."""
    if not index.references_token:
        return index.dimensions
    return (index.dimensions // ALIGNMENT + 1) * ALIGNMENT
