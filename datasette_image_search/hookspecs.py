"""The hook of this plugin: other packages add embedders through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pluggy import HookimplMarker, HookspecMarker

NAMESPACE = "datasette_image_search"
"""Also the name of the entry point group that other packages declare."""

hookspec = HookspecMarker(NAMESPACE)
hookimpl = HookimplMarker(NAMESPACE)


@hookspec
def register_image_embedders(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """
    Call `register(name, factory)` once per model, or once per family of models.

    `name` is a model id such as "palette", or a prefix that ends in "/" such as "timm/".
    `factory` takes a `protocol.ModelRequest` and returns an `Embedder`.
    """


@hookspec
def register_vector_engines(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """
    Call `register(name, factory)` once per engine that keeps vectors.

    `name` is what people type as --engine, such as "lance". `factory` takes an `engines.protocol.EngineRequest` and
    returns a `VectorEngine`.
    """
