"""The engine that a person chooses for an index, its place, and whether it alone is to have the vectors."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sqlite_utils import Database

from ..engines.places import allow, place_of
from ..engines.protocol import EngineError
from ..engines.registry import BUILT_IN, check_engine
from ..store import Index
from ..store.indexes import record_sidecar
from .held import NotHeld, believed


def with_engine(
    db: Database,
    database: Path,
    index: Index,
    engine: str | None,
    uri: str | Path | None,
    *,
    stored_vectors: bool | None,
) -> Index:
    """
    The row of an index with what was asked for, None for what it has. Raises EngineError.
    """
    chosen = _named(index, engine, uri)
    if uri is not None:
        allow(str(chosen.engine_uri))
    if (chosen.engine, chosen.engine_uri) != (index.engine, index.engine_uri):
        _adopt(db, database, chosen)
    return _stored(chosen, index.engine, stored_vectors=stored_vectors)


def _named(index: Index, engine: str | None, uri: str | Path | None) -> Index:
    """
    The row of an index with what was asked for: without a name, the engine that it has. Another one begins with its own
    types.

    Raises EngineError.
    """
    name = engine or index.engine or BUILT_IN
    check_engine(name)
    if name == BUILT_IN and uri is not None:
        raise EngineError("--uri is the place of another engine; add --engine, such as lance")
    type = index.index_type if name == (index.engine or BUILT_IN) else None
    if name == BUILT_IN:
        return replace(index, engine=None, engine_uri=None, index_type=type)
    place = None if uri is None else place_of(uri)
    if uri is None and name == index.engine:
        place = index.engine_uri
    return replace(index, engine=name, engine_uri=place, index_type=type)


def _adopt(db: Database, database: Path, index: Index) -> None:
    """Record another place of an engine, if that has what the database names: a dataset that a person has moved."""
    if index.engine is not None and index.sidecar is not None:
        with suppress(NotHeld):
            believed(index, database, at_once=True)
            record_sidecar(db, index)


def _stored(index: Index, recorded: str | None, *, stored_vectors: bool | None) -> Index:
    """The row of an index with or without vectors in the database, as it was asked for. Raises EngineError."""
    if stored_vectors is None:
        if index.engine_only and index.engine is None:
            raise EngineError(
                f"the vectors of {index.image_table!r} are in {recorded} only; bring them back into the database with "
                "--stored-vectors"
            )
        return index
    if not stored_vectors and index.engine is None:
        raise EngineError(
            "--no-stored-vectors needs an engine that has the vectors; add --engine, such as lance"
        )
    return replace(index, engine_only=not stored_vectors)
