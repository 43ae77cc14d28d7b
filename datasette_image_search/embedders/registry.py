"""Finds the embedder for a model id and keeps it: a process loads a model once."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pluggy

from .. import hookspecs
from .protocol import Embedder, EmbedderError

DEFAULT_MODEL = "ViT-B-32-256/datacomp_s34b_b86k"


@dataclass(frozen=True)
class ModelRequest:
    """
    What a person asked for. `device` is a torch device and `precision` a number type of torch, None
    for the best there are. With `words_only` there will be words first, and perhaps no picture ever:
    what only pictures need may be left for later.
    """

    model_id: str
    weights: Path | None = None
    device: str | None = None
    precision: str | None = None
    allow_download: bool = False
    words_only: bool = False


EmbedderFactory = Callable[[ModelRequest], Embedder]

_loaded: dict[ModelRequest, Embedder] = {}
_loading: defaultdict[ModelRequest, threading.Lock] = defaultdict(threading.Lock)
"""The embedders of this process, and a lock for each while it is loaded."""


def load_embedder(request: ModelRequest) -> Embedder:
    """
    The embedder of a model id, loaded at most once per process and then shared by all threads.

    Raises EmbedderError with one sentence when there is no such model or it cannot be loaded.
    """
    key = replace(request, allow_download=False, words_only=False)
    with _loading[key]:
        if key not in _loaded:
            _loaded[key] = _factory_for(request.model_id)(request)
        return _loaded[key]


def _factory_for(model_id: str) -> EmbedderFactory:
    """The longest registered name that fits; open_clip takes what nobody else claims."""
    factories = _factories()
    fitting = [
        name
        for name in factories
        if model_id == name or (name.endswith("/") and model_id.startswith(name))
    ]
    return factories[max(fitting, key=len)] if fitting else _open_clip


def registered_names() -> list[str]:
    """What has been registered: model ids, and prefixes that end in "/"."""
    return sorted(_factories())


@cache
def _factories() -> dict[str, EmbedderFactory]:
    plugins = pluggy.PluginManager(hookspecs.NAMESPACE)
    plugins.add_hookspecs(hookspecs)
    plugins.register(BuiltInEmbedders())
    plugins.load_setuptools_entrypoints(hookspecs.NAMESPACE)
    factories: dict[str, EmbedderFactory] = {}
    plugins.hook.register_image_embedders(register=factories.__setitem__)
    return factories


class BuiltInEmbedders:
    """Ours, through the same hook as everyone's; each imports what it needs when it is asked for."""

    @hookspecs.hookimpl
    def register_image_embedders(self, register: Callable[[str, EmbedderFactory], None]) -> None:
        register("palette", _palette)
        register("timm/", _timm)


def _palette(request: ModelRequest) -> Embedder:
    from .palette import PaletteEmbedder

    if request.weights is not None:
        raise EmbedderError("palette is built in and has no weights; leave --weights out")
    return PaletteEmbedder()


def _timm(request: ModelRequest) -> Embedder:
    from .timm import load_timm

    return load_timm(request)


def _open_clip(request: ModelRequest) -> Embedder:
    from .open_clip import load_open_clip

    return load_open_clip(request)
