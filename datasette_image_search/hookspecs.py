"""The hooks of this plugin: other packages add embedders and vector engines through them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pluggy
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


def registered(hook: str, built_in: object) -> dict[str, Callable[..., Any]]:
    """What is registered through one of these hooks, by name: by a plugin that is built in, and by installed packages."""
    plugins = pluggy.PluginManager(NAMESPACE)
    plugins.add_hookspecs(sys.modules[__name__])
    plugins.register(built_in)
    plugins.load_setuptools_entrypoints(NAMESPACE)
    factories: dict[str, Callable[..., Any]] = {}
    getattr(plugins.hook, hook)(register=factories.__setitem__)
    return factories
