"""The precision that a fingerprint tells: vectors of 8-bit numbers are others than those of longer ones."""

from __future__ import annotations

INT8 = "int8"
"""The only precision with a fingerprint of its own; the vectors of all others are the same to within a thousandth."""

_SUFFIX = f" in {INT8}"
"""With spaces, as a fingerprint of another package may well end in -int8, which is its own affair."""


def in_precision(fingerprint: str, precision: str) -> str:
    """The fingerprint of a model as it computes in a precision."""
    return fingerprint + _SUFFIX if precision == INT8 else fingerprint


def precision_of(fingerprint: str) -> str | None:
    """The precision to make more such vectors in, None for the best available."""
    return INT8 if fingerprint.endswith(_SUFFIX) else None
