"""Modules that take seconds to be imported, as torch: each process that runs tests collects all, and few ask for those."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Late:
    """A module that is imported as soon as something public of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        # Pytest looks for what would make it a fixture or a test.
        if name.startswith("_"):
            raise AttributeError(name)
        # Else what needs torch may take its compiler along.
        import_module("datasette_image_search.embedders.uncompiled")
        return getattr(import_module(self._name), name)
