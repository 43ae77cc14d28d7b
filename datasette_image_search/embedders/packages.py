"""Packages that models are made with. A server that needs no model can do without these gigabytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .protocol import EmbedderError

PIP = {
    "ftfy": "ftfy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "open_clip": "open-clip-torch",
    "safetensors": "safetensors",
    "timm": "timm",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
}
"""Module -> name of its package for pip."""


class PackageMissing(EmbedderError):
    """A model cannot be loaded here before a package is installed."""


@contextmanager
def packages_needed(by: str) -> Iterator[None]:
    """Raises PackageMissing with a sentence if one of these packages is imported in it and is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = PIP.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise PackageMissing(
            f"{by} needs the package {package}, which is not installed; install it with: pip install {package}"
        ) from error
