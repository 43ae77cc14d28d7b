"""Finds the engine of a name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from .. import hookspecs
from .places import check_place
from .protocol import EngineError, EngineFactory, EngineRequest, VectorEngine, guarded

BUILT_IN = "sidecar"
"""The files of FAISS beside the database, which need no engine."""


def engine_names() -> list[str]:
    """What people type as --engine."""
    return [BUILT_IN, *sorted(_factories())]


def check_engine(name: str) -> None:
    """Raises EngineError if there is none of this name."""
    if name not in engine_names():
        raise EngineError(f"there is no engine {name!r}; use one of {', '.join(engine_names())}")


def open_engine(name: str, request: EngineRequest, *, is_beside: bool) -> VectorEngine:
    """The engine of a name; `is_beside` says that its place is beside the database. Raises EngineError."""
    check_engine(name)
    check_place(name, request.uri, is_beside=is_beside)
    return guarded(_factories()[name])(request)


@cache
def _factories() -> dict[str, EngineFactory]:
    return hookspecs.registered("register_vector_engines", BuiltInEngines())


class BuiltInEngines:
    """Ours, through the same hook as everyone's."""

    @hookspecs.hookimpl
    def register_vector_engines(self, register: Callable[[str, EngineFactory], None]) -> None:
        register("lance", _lance)


def _lance(request: EngineRequest) -> VectorEngine:
    from .lance import LanceEngine

    return LanceEngine(request)
