"""Chooses the reference queries of an index: a person's own, or those of all."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..embedders.protocol import EmbedderError, TextEncoder, TextNotUnderstood
from ..embedders.reference_queries import everyday_queries
from ..errors import ImageSearchError
from ..progress import Report
from ..store import Index
from ..store.indexes import WeightsOf
from ..store.references import MOST_REFERENCES, References, read_references, with_references
from .correction import NEAREST
from .query import check_letters, text_encoder_of

BATCH = 64
"""Texts that a model reads at once."""

Chosen = tuple[Index, References | None]
"""The row of an index as it should be, and the reference queries that it then names."""


def references_of(
    conn: sqlite3.Connection, index: Index, weights_of: WeightsOf, report: Report
) -> Chosen:
    """
    Those that an index has, or else those of all, if its model is on this machine. That a model has no use
    for any is in the row, so that no later run loads it to find out.
    """
    references = read_references(conn, index)
    if references is not None or index.references_token == "":
        return index, references
    try:
        references = _encoded(text_encoder_of(index, weights_of), everyday_queries(), report)
    except EmbedderError:
        # Codes with the biases of lost ones would be taken for right ones if those came back.
        return replace(index, references_token=None), None
    return with_references(index, references), references


def own_references(
    index: Index, queries: Sequence[str], weights_of: WeightsOf, report: Report
) -> Chosen:
    """
    A person's own. Raises ImageSearchError if these are too few or too many, or if the model cannot read
    them.
    """
    queries = tuple(dict.fromkeys(queries))
    if not NEAREST <= len(queries) <= MOST_REFERENCES:
        raise ImageSearchError(
            f"there are {len(queries):,} different reference queries; write {NEAREST} to {MOST_REFERENCES:,} "
            "of them, a line each"
        )
    for text in queries:
        check_letters(f"the reference query {text!r:.60}", text)
    references = _encoded(text_encoder_of(index, weights_of), queries, report)
    if references is None:
        raise ImageSearchError(
            f"{index.model} has no use for reference queries; leave --reference-queries out"
        )
    return with_references(index, references), references


def _encoded(embedder: TextEncoder, queries: Sequence[str], report: Report) -> References | None:
    """
    None if the model reads no words, or has no hubs that a ranking is corrected for. Raises EmbedderError,
    also for what are no vectors.
    """
    if not embedder.has_hubs:
        return None
    vectors = np.empty((len(queries), embedder.dimensions))
    for start in range(0, len(queries), BATCH):
        report("Reading words", start, len(queries))
        batch = list(queries[start : start + BATCH])
        try:
            vectors[start : start + len(batch)] = embedder.encode_texts(batch)
        except TextNotUnderstood:
            return None
        except ValueError as error:
            raise EmbedderError(f"the model made no vectors of words: {error}") from error
    report("Reading words", len(queries), len(queries))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise EmbedderError("the model made a vector without a direction of a reference query")
    return References((vectors / lengths).astype(np.float32))
