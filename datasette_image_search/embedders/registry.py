"""Finds the embedder for a model id and keeps it: a process loads a model once."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from .. import hookspecs
from .model_ids import TIMM
from .open_clip_models import check_here
from .packages import packages_needed
from .protocol import Embedder, EmbedderError, EmbedderFactory, ModelRequest
from .things_wheels import THINGS
from .timm_names import check_may_be_here

_loaded: dict[ModelRequest, Embedder] = {}
_loading: defaultdict[ModelRequest, threading.Lock] = defaultdict(threading.Lock)
"""The embedders of this process, and a lock for each while it is loaded."""


def load_embedder(request: ModelRequest) -> Embedder:
    """
    The embedder of a model id, loaded at most once per process and then shared by all threads; and again
    where another file took the place of its weights.

    Raises EmbedderError with one sentence when there is no such model or it cannot be loaded.
    """
    key = replace(request, allow_download=False, words_only=False)
    with _loading[key]:
        if key not in _loaded or not _loaded[key].is_current():
            _loaded.pop(key, None)
            with packages_needed(request.model_id):
                _loaded[key] = _factory_for(request.model_id)(request)
        return _loaded[key]


def _factory_for(model_id: str) -> EmbedderFactory:
    name = registered_name(model_id)
    return _open_clip if name is None else _factories()[name]


def registered_name(model_id: str) -> str | None:
    """The longest registered name that fits; None for open_clip, which takes what nobody else claims."""
    fitting = [
        name
        for name in _factories()
        if model_id == name or (name.endswith("/") and model_id.startswith(name))
    ]
    return max(fitting, key=len, default=None)


def registered_names() -> list[str]:
    """The registered names: model ids, and prefixes that end in "/"."""
    return sorted(_factories())


@cache
def _factories() -> dict[str, EmbedderFactory]:
    return hookspecs.registered("register_image_embedders", BuiltInEmbedders())


class BuiltInEmbedders:
    """Ours, through the same hook as everyone's; each imports what it needs when it is asked for."""

    @hookspecs.hookimpl
    def register_image_embedders(self, register: Callable[[str, EmbedderFactory], None]) -> None:
        register("palette", _palette)
        register(THINGS, _things)
        register(TIMM, _timm)


def _palette(request: ModelRequest) -> Embedder:
    from .palette import PaletteEmbedder

    if request.weights is not None:
        raise EmbedderError("palette is built in and has no weights; leave --weights out")
    for option, asked, only in (
        ("--device", request.device, PaletteEmbedder.device),
        ("--precision", request.precision, PaletteEmbedder.precision),
    ):
        if asked not in (None, only):
            raise EmbedderError(f"palette computes with {only} only; leave {option} {asked} out")
    return PaletteEmbedder()


def _things(request: ModelRequest) -> Embedder:
    if request.weights is not None:
        raise EmbedderError("things has its weights from pip; leave --weights out")
    from .things import load_things

    return load_things(request)


def _timm(request: ModelRequest) -> Embedder:
    if not request.allow_download:
        check_may_be_here(request)
    from .timm import load_timm

    return load_timm(request)


def _open_clip(request: ModelRequest) -> Embedder:
    if not request.allow_download:
        check_here(request, registered_names())
    from .open_clip import load_open_clip

    return load_open_clip(request, registered_names())
