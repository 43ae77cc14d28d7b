"""Opens the vectors that an engine has, by the sidecar that says which, or by the database if that is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..files.remote_urls import is_url
from ..store import Index
from ..store.code_dimensions import code_dimensions
from ..store.held_vectors import place_of_engine
from .codes import Ids
from .held import Held, NotHeld, believed, commit_of
from .lost_engines import EngineLost
from .sidecar import SidecarUnusable, open_file, sidecar_path

SAMPLE = 1_000
"""Vectors that are read in storage elsewhere to see that it has them: reading all each time would take hours there."""


def open_held(database: Path, index: Index, *, check: bool = False, whole: bool = False) -> Held:
    """
    As open_sidecar(), if an engine has the vectors: it must hold what the database and the file name. A `check` reads
    all of it, in storage elsewhere a part, unless it is to be the `whole`. Raises SidecarUnusable.
    """
    path = sidecar_path(database, index)
    opened = open_file(path, index, check=check)
    header = opened.header
    if header.engine != index.engine or header.arrays not in (1, 2):
        raise SidecarUnusable(f"{path.name} is not of the engine {index.engine}")
    vector_ids, *image_ids = opened.arrays()
    ids = vector_ids, image_ids[0] if image_ids else None, opened.rows()
    held = held_again(database, index, ids, at_once=check)
    if check:
        try:
            is_near = whole or not is_url(place_of_engine(database, index))
            held.read_through(_to_check(len(held), whole=is_near), index.dimensions)
        except EngineLost as error:
            raise SidecarUnusable(str(error)) from error
    return replace(held, file=opened.state, memory=opened.data)


def _to_check(n: int, *, whole: bool) -> np.ndarray:
    """The positions to read, of all objects some: object storage notices damage itself, and what was fed was read then."""
    if whole or n <= SAMPLE:
        return np.arange(n)
    return np.linspace(0, n - 1, SAMPLE).astype(int)


def held_again(database: Path, index: Index, ids: Ids, *, at_once: bool = False) -> Held:
    """
    The same without the file, by what was read from the database up to `index.sidecar_vector_id`. Raises
    SidecarUnusable unless the engine holds exactly that.
    """
    vector_ids, _, rows = ids
    try:
        state = believed(index, database, at_once=at_once)
    except NotHeld as error:
        raise SidecarUnusable(str(error)) from error
    if (state.vectors, state.generation) != (len(vector_ids), rows and rows.state()):
        raise SidecarUnusable(f"what {index.engine} holds is not what the database has")
    commit = commit_of(database, index)
    return Held(
        state.engine,
        str(index.engine),
        code_dimensions(index),
        *ids,
        state.tuning,
        commit=commit,
        tuned_for=state.tuned_for,
    )
