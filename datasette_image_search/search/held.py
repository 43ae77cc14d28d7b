"""
The vectors of an index in an engine, as a segment: the engine has the vectors, the sidecar beside the database says which.

An engine knows one integer for each vector: see SCENES.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..engines.protocol import EngineError, VectorEngine
from ..errors import printable
from ..progress import Report
from ..store import Index
from ..store.held_vectors import SCENES, engine_of, place_of_engine
from ..store.norms import ROUNDED_NORM_ERROR, are_unit
from ..store.stored_vectors import Rows
from .codes import bound_of_error, fitted, unusable
from .lost_engines import Commit, EngineLost, lose, reason_to_wait
from .scanning import LOWEST
from .tuning import RECALL_AT, Tuning

CANDIDATES = 256
"""Vectors that an engine proposes at first."""

READ_AT_ONCE = 10_000
"""Vectors that are read through at once."""

TIE = 1e-5
"""The difference up to which scores are the same, however they were summed."""

FORMAT = 1
"""Of the state that an engine is given."""

_PARAMETERS = re.compile(r"effort=[1-9]\d{0,8}")

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TunedFor:
    """What a tuning was measured on: so many `vectors`, with ids up to `last_id`, and lists that have this `most` effort."""

    vectors: int
    last_id: int
    most: int


@dataclass(frozen=True)
class Held:
    """
    See Segment. `memory` is the mapping that the arrays are of, None if they are in memory; `commit` is what is searched,
    None before there is one.

    If the engine fails, or has not what it should, searches raise EngineLost, and it is left aside for a while.
    """

    engine: VectorEngine
    engine_name: str
    dimensions: int
    vector_ids: np.ndarray
    image_ids: np.ndarray | None
    rows: Rows | None
    tuning: Tuning | None = None
    file: tuple[int, ...] | None = None
    memory: np.ndarray | None = None
    commit: Commit | None = None
    tuned_for: TunedFor | None = None

    ranks_all = False
    in_bytes = None

    def __len__(self) -> int:
        return len(self.vector_ids)

    def nearest(
        self, vectors: np.ndarray, n: int, chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        ids = None if chosen is None else self.ids_at(np.flatnonzero(chosen))
        vectors = self._fitted(vectors)
        scores, positions = self._placed(
            *self._asked(lambda engine: engine.nearest(vectors, n, ids)), n
        )
        least = min(n, len(self) if ids is None else len(ids))
        if len(vectors) and np.count_nonzero(positions >= 0, axis=1).min() < least:
            raise self._missing()
        return scores, positions

    def propose(self, vectors: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        if self.tuning is None:
            return self.nearest(vectors, n)
        effort = int(self.tuning.parameters.partition("=")[2])
        vectors = self._fitted(vectors)
        return self._placed(
            *self._asked(lambda engine: engine.nearest(vectors, n, effort=effort)), n
        )

    def _placed(self, scores: np.ndarray, ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions, those of ids that are not known at the end, as -1. Raises EngineLost for what is no score."""
        if np.isnan(scores).any():
            raise self._missing()
        positions = self.positions_of(ids)
        scores = np.where(positions < 0, LOWEST, scores)
        order = np.argsort(positions < 0, axis=1, kind="stable")[:, : min(n, len(self))]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(
            positions, order, axis=1
        )

    def scores(self, vector: np.ndarray) -> np.ndarray:
        return self.scores_at(np.arange(len(self)), vector)

    def scores_at(self, positions: np.ndarray, vector: np.ndarray) -> np.ndarray:
        ids, inverse = np.unique(self.ids_at(positions), return_inverse=True)
        fitted_vector = self._fitted(vector[None])[0]
        found = self._asked(lambda engine: engine.scores(ids, fitted_vector))[inverse]
        if np.isnan(found).any():
            raise self._missing()
        return np.maximum(found, LOWEST)

    def decoded(self, positions: np.ndarray) -> np.ndarray:
        ids, inverse = np.unique(self.ids_at(positions), return_inverse=True)
        return self._asked(lambda engine: engine.vectors(ids))[inverse]

    def read_through(self, positions: np.ndarray, dimensions: int) -> None:
        """
        Read the vectors at some positions once, of so many dimensions without their biases. Raises EngineLost if something
        is damaged or missing.
        """
        for start in range(0, len(positions), READ_AT_ONCE):
            vectors = self.decoded(positions[start : start + READ_AT_ONCE])[:, :dimensions]
            if not are_unit(vectors, ROUNDED_NORM_ERROR).all():
                raise self._missing()
        self.try_index()

    def try_index(self) -> None:
        """Search all of an approximate index once. Raises EngineLost."""
        vector = np.zeros(self.dimensions, np.float32)
        for effort in self._asked(lambda engine: engine.efforts())[-1:]:
            self._asked(partial(_nearest, vector=vector, effort=effort))

    def _missing(self) -> EngineLost:
        return self._lost(f"what {self.engine_name} holds is damaged: vectors are missing, or none")

    def _asked(self, ask: Callable[[VectorEngine], T]) -> T:
        try:
            return ask(self.engine)
        except EngineError as error:
            _log(error.in_full())
            raise self._lost(str(error)) from error

    def _lost(self, reason: str) -> EngineLost:
        if self.commit is not None:
            lose(self.commit, reason)
        return EngineLost(reason)

    def error(self, vector: np.ndarray) -> float:
        return bound_of_error(vector)

    def bytes_per_vector(self) -> float:
        return self.engine.bytes_per_vector()

    @cached_property
    def repeats_ids(self) -> bool:
        return bool((self.vector_ids[1:] == self.vector_ids[:-1]).any())

    def unusable(self) -> np.ndarray:
        return unusable(self)

    def ids_at(self, positions: np.ndarray) -> np.ndarray:
        """The ids in the engine of the vectors at some positions."""
        vector_ids = self.vector_ids[positions]
        if not self.repeats_ids:
            return vector_ids * SCENES
        return vector_ids * SCENES + positions - np.searchsorted(self.vector_ids, vector_ids)

    def positions_of(self, ids: np.ndarray) -> np.ndarray:
        """The positions of the vectors with some ids in the engine, -1 for one that is not known."""
        vector_ids = ids // SCENES
        if not len(self):
            return np.full(ids.shape, -1)
        positions = np.searchsorted(self.vector_ids, vector_ids) + ids % SCENES
        positions = positions.clip(max=len(self) - 1)
        is_known = (self.vector_ids[positions] == vector_ids) & (ids >= 0)
        return np.where(is_known, positions, -1)

    def _fitted(self, vectors: np.ndarray) -> np.ndarray:
        return fitted(vectors, self.dimensions)


def _nearest(engine: VectorEngine, vector: np.ndarray, effort: int) -> None:
    engine.nearest(vector[None], 1, effort=effort)


def commit_of(database: Path, index: Index) -> Commit:
    """What the database names of an engine, if that was ever fed."""
    return place_of_engine(database, index), str(index.sidecar)


def state_of(index: Index, held: Held) -> str:
    """What an engine is to remember of what it holds."""
    return json.dumps(
        {
            **_identity(index),
            "only": index.engine_only,
            "vectors": len(held),
            "generation": None if held.rows is None else held.rows.state(),
            "tuning": None if held.tuning is None else asdict(held.tuning),
            "tuned_for": None if held.tuned_for is None else asdict(held.tuned_for),
        }
    )


def _identity(index: Index) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "token": index.sidecar,
        "vector_id": index.sidecar_vector_id,
        "index": index.identity,
        "fingerprint": index.fingerprint,
        "dimensions": index.dimensions,
        "references": index.references_token or None,
    }


def owner_of(engine: VectorEngine) -> str | None:
    """The identity of the index whose vectors an engine holds; None if it holds none, or nobody knows."""
    return _said(engine, "index")


def token_of(engine: VectorEngine) -> str | None:
    """The token of the commit that an engine holds; None if it holds none, or nobody knows."""
    return _said(engine, "token")


def is_only_copy(engine: VectorEngine) -> bool:
    """Whether a commit says that the database has not its vectors."""
    return _said(engine, "only") == str(True)


def _said(engine: VectorEngine, what: str) -> str | None:
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(engine.state() or "")[what])
    return None


@dataclass(frozen=True)
class EngineState:
    """Of an engine that holds what the database names: how many `vectors`, their state, and its tuning, measured on `tuned_for`."""

    engine: VectorEngine
    vectors: int
    generation: int | None
    tuning: Tuning | None
    tuned_for: TunedFor | None


class NotHeld(Exception):
    """The engine holds other vectors than the database names, or none; the message says which."""


def believed(index: Index, database: Path, *, at_once: bool = False) -> EngineState:
    """
    The engine of an index, if it holds what the database names. Raises NotHeld, and then for a while without a look at
    it, unless that is wanted `at_once`.
    """
    commit = commit_of(database, index)
    reason = None if at_once else reason_to_wait(commit)
    if reason is not None:
        raise NotHeld(reason)
    try:
        return _believed(index, database)
    except NotHeld as error:
        lose(commit, str(error))
        raise


def _believed(index: Index, database: Path) -> EngineState:
    try:
        engine = engine_of(index, database, token=index.sidecar)
        written, count = engine.state(), engine.count()
    except EngineError as error:
        _log(error.in_full())
        raise NotHeld(str(error)) from error
    name = f"what {index.engine} holds"
    if written is None:
        raise NotHeld(f"{name} is missing, or not whole")
    try:
        state = json.loads(written)
        if {**state, **_identity(index)} != state:
            raise NotHeld(f"{name} is not what the database names")
        written_tuning = state["tuning"]
        tuning = None if written_tuning is None else Tuning.believed(written_tuning, _PARAMETERS)
        measured = state["tuned_for"]
        tuned_for = (
            None if measured is None else TunedFor(**{k: int(measured[k]) for k in measured})
        )
        vectors = int(state["vectors"])
        found = EngineState(engine, vectors, state["generation"], tuning, tuned_for)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise NotHeld(f"{name} is damaged") from error
    if count != found.vectors:
        raise NotHeld(f"{name} is damaged: {count:,} vectors, not {found.vectors:,}")
    return found


@lru_cache(maxsize=64)
def _log(sentence: str) -> None:
    """Once: it is found at each opening."""
    logger.warning("%s", printable(sentence))


def tuned(held: Held, queries: np.ndarray, target: float, report: Report) -> Held:
    """With the least effort that reaches a recall of `target`, for queries of shape (n, dimensions), or the greatest."""
    efforts = held.engine.efforts()
    if not efforts or not len(held):
        return replace(held, tuning=None, tuned_for=None)
    queries = fitted(queries, held.dimensions)
    report("Tuning", 0, 1)
    best, _ = held.engine.nearest(queries, max(RECALL_AT))
    low, high = 0, len(efforts) - 1
    while low < high:
        middle = (low + high) // 2
        shares = _found(held.engine, efforts[middle], queries, best)
        # Above it by twice its standard error, so that other queries reach it as well.
        errors = shares.std(axis=1) / len(queries) ** 0.5
        enough = (shares.mean(axis=1) - 2 * errors >= target).all()
        low, high = (low, middle) if enough else (middle + 1, high)
    recalls = _found(held.engine, efforts[low], queries, best).mean(axis=1).tolist()
    report("Tuning", 1, 1)
    named = tuple(zip(RECALL_AT, recalls, strict=True))
    parameters = f"effort={efforts[low]}"
    tuning = Tuning(
        held.engine_name, held.engine_name, parameters, CANDIDATES, target, named, len(queries)
    )
    tuned_for = TunedFor(len(held), int(held.vector_ids[-1]), int(efforts[-1]))
    return replace(held, tuning=tuning, tuned_for=tuned_for)


def must_be_tuned(held: Held) -> bool:
    """Whether the vectors are a tenth others than those that the tuning was measured on, or the lists are others."""
    if held.tuning is None or held.tuned_for is None:
        return True
    same = int(np.count_nonzero(held.vector_ids <= held.tuned_for.last_id))
    most = max(held.engine.efforts(), default=0)
    return most != held.tuned_for.most or same < 0.9 * max(len(held), held.tuned_for.vectors)


def _found(
    engine: VectorEngine, effort: int, queries: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """The share of the best that is found, shape (len(RECALL_AT), queries). What ties with one of them is as good."""
    proposed, _ = engine.nearest(queries, CANDIDATES, effort=effort)
    shares = []
    for k in RECALL_AT:
        k = min(k, scores.shape[1])
        enough = proposed >= scores[:, k - 1 : k] - TIE
        shares.append(np.minimum(enough.sum(axis=1), k) / k)
    return np.array(shares)
