"""
Imports torchvision and timm without the compiler of torch, which takes a second to import. They have it for a question about
devices, and to mark functions that it is to leave alone; nothing here is compiled. Whatever imports them, or open_clip, which does,
imports this before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo.utils"


class _Later(ModuleType):
    """Stands for the compiler while others are imported, and imports it if anything of it is really wanted."""

    def is_compile_supported(self, device: Any) -> Any:
        return self._real().is_compile_supported(device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        self.leave()
        return import_module(COMPILER)

    def leave(self) -> None:
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]


@contextmanager
def _without_compiler() -> Iterator[None]:
    """As if it were never to be used. If it is imported already, nothing is gained."""
    import torch

    if COMPILER in sys.modules:
        yield
        return
    sys.modules[COMPILER] = later = _Later(COMPILER)
    marks = torch.compiler.disable
    torch.compiler.disable = _unmarked  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compiler.disable = marks
        later.leave()


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """The function, or a decorator that gives it back."""
    return _unmarked if function is None else function


# What is not installed is said by those who want it.
with suppress(ImportError), _without_compiler():
    for package in ("timm", "torchvision"):
        with suppress(ImportError):
            import_module(package)
