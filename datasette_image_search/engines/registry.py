"""Finds the engine of a name, and says which places a server may ask."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pluggy

from .. import hookspecs
from .protocol import EngineError, EngineFactory, EngineRequest, VectorEngine

BUILT_IN = "sidecar"
"""The files of FAISS beside the database, which need no engine."""

_allowed: list[frozenset[str]] = []
"""The places that this process asks, all if it is empty."""


def engine_names() -> list[str]:
    """What people type as --engine."""
    return [BUILT_IN, *sorted(_factories())]


def check_engine(name: str) -> None:
    """Raises EngineError if there is none of this name."""
    if name not in engine_names():
        raise EngineError(f"there is no engine {name!r}; use one of {', '.join(engine_names())}")


def place_of(uri: str) -> str:
    """A URL as it is, a path as an absolute one. Raises EngineError for a URL with a password, which no database is for."""
    if "://" not in uri:
        return str(Path(uri).expanduser().absolute())
    parts = urlsplit(uri)
    if parts.username is not None or parts.password is not None or parts.query:
        raise EngineError(
            "--uri has a user, a password or a signature in it, which the database would keep; give these to the engine "
            "in the environment, such as AWS_ACCESS_KEY_ID"
        )
    return uri


def allow_only(places: Collection[str]) -> None:
    """
    From now on this process asks only these places, and what is beside a database: a server's database may be a
    stranger's, who must not choose what it reads.
    """
    _allowed[:] = [frozenset(places)]


def open_engine(name: str, request: EngineRequest, *, is_beside: bool) -> VectorEngine:
    """The engine of a name; `is_beside` says that its place is beside the database. Raises EngineError."""
    check_engine(name)
    if not is_beside and any(request.uri not in allowed for allowed in _allowed):
        raise EngineError(
            f"the server may not read the place of its {name} vectors; name it in Datasette's configuration: "
            "plugins, datasette-image-search, engines"
        )
    return _factories()[name](request)


@cache
def _factories() -> dict[str, EngineFactory]:
    plugins = pluggy.PluginManager(hookspecs.NAMESPACE)
    plugins.add_hookspecs(hookspecs)
    plugins.register(BuiltInEngines())
    plugins.load_setuptools_entrypoints(hookspecs.NAMESPACE)
    factories: dict[str, EngineFactory] = {}
    plugins.hook.register_vector_engines(register=factories.__setitem__)
    return factories


class BuiltInEngines:
    """Ours, through the same hook as everyone's."""

    @hookspecs.hookimpl
    def register_vector_engines(self, register: Callable[[str, EngineFactory], None]) -> None:
        register("lance", _lance)


def _lance(request: EngineRequest) -> VectorEngine:
    from .lance import LanceEngine

    return LanceEngine(request)
