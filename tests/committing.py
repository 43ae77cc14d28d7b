"""
A process that adds and deletes images, and swaps the sidecars, in steps that another can foresee:

    python -m tests.committing DATABASE STEPS
"""

from __future__ import annotations

import itertools
import sys
from contextlib import closing

import numpy as np
from sqlite_utils import Database

from datasette_image_search import store
from datasette_image_search.search.indexing import index_images, refresh_sidecars
from datasette_image_search.store import find_index

from . import random_tables
from .random_tables import add_images, random_vectors

FIRST = 150
"""Images before the first step."""

State = dict[int, np.ndarray]
"""Image id -> vector."""


def change(state: State, step: int) -> tuple[list[int], np.ndarray]:
    """What a step deletes (never the last, whose number would be given again) and adds."""
    rng = np.random.default_rng(step)
    deleted = rng.choice(sorted(state)[:-1], 4, replace=False).tolist()
    return deleted, random_vectors(6, seed=1000 + step)


def states(steps: int) -> list[State]:
    """What is committed after each step, from none to all of them."""
    found = [dict(enumerate(random_vectors(FIRST), start=1))]
    for step in range(1, steps + 1):
        deleted, added = change(found[-1], step)
        state = {id: vector for id, vector in found[-1].items() if id not in deleted}
        state |= dict(enumerate(added, start=max(state) + 1))
        found.append(state)
    return found


def prepare(db: Database, kept: str) -> None:
    """`kept` is where the vectors are: "sidecar", or an engine."""
    add_images(db, random_vectors(FIRST))
    db["step"].insert({"number": 0})
    if kept != "sidecar":
        index_images(db, "images", engine=kept)


def commit(db: Database, steps: int) -> None:
    known = states(steps)
    is_of_faiss = find_index(db.conn).engine is None
    for step in range(1, steps + 1):
        deleted, added = change(known[step - 1], step)
        with store.transaction(db):
            db.conn.executemany("delete from images where id = ?", [(key,) for key in deleted])
            add_images(db, added)
            db.execute("update step set number = ?", [step])
        if step % 3 == 0:
            refresh_sidecars(db, "images")
        elif step % 3 == 1:
            type = ("flat" if step % 2 else "IVF4,SQ8") if is_of_faiss else None
            index_images(db, "images", type=type, target=0.5)


if __name__ == "__main__":
    path, steps = sys.argv[1:]
    # Names of files that the process has not given which made the first images.
    random_tables.numbers = itertools.count(10**6)
    with closing(Database(path, execute_plugins=False)) as db:
        db.execute("pragma busy_timeout = 60000")
        commit(db, int(steps))
