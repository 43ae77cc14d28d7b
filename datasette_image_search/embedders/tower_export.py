"""The part of an open_clip model that reads words -> a file of ONNX: see text_tower.py."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .open_clip import Shortened
from .packages import packages_needed
from .protocol import Embedder, EmbedderError
from .text_tower import Described, metadata
from .torch_embedder import TorchEmbedder

LARGEST = 2**31 - 2**26
"""Bytes of the parameters in a file of ONNX, which has 2 GiB at most with its graph and its tokenizer."""


def export_tower(embedder: Embedder, path: Path, *, quantize: bool) -> None:
    """
    Write the file, in float32, or with most parameters as 8-bit integers. `embedder` computes in float32 on the CPU.

    Raises EmbedderError for a model that cannot be exported, PackageMissing, and OSError.
    """
    with packages_needed("the export of a text tower"):
        import onnx
        import onnxscript  # noqa: F401 (torch exports by it)
        from onnxruntime.quantization import QuantType, quantize_dynamic

        from .tokenizer_export import NotExportable, exported_tokens
    if not isinstance(embedder, TorchEmbedder) or embedder.tokenizer is None:
        raise _cannot_be_exported(embedder, "it is no model of open_clip that reads words")
    try:
        tokens = exported_tokens(embedder.tokenizer)
    except NotExportable as error:
        raise _cannot_be_exported(embedder, str(error)) from error
    tower = embedder.load_words().module
    size = sum(each.numel() * each.element_size() for each in tower.parameters())
    if size > LARGEST:
        raise _cannot_be_exported(
            embedder,
            f"its text tower has {size / 1e9:.1f} GB, and a file of ONNX has 2 GB at most",
        )
    reads_to_end = isinstance(tower, Shortened)
    described = Described(
        embedder.id,
        embedder.fingerprint,
        embedder.dimensions,
        embedder.logit_scale,
        reads_to_end,
        tokens.cleaning,
        tokens.zeroed,
    )
    example = torch.from_numpy(tokens(["a photo", "a red car"]))
    exported = _graph(
        tower.tower if isinstance(tower, Shortened) else tower, example, any_length=reads_to_end
    )
    if quantize:
        with _quiet():
            quantize_dynamic(exported, path, weight_type=QuantType.QInt8, per_channel=True)
        exported = onnx.load(path)
    onnx.helper.set_model_props(exported, metadata(described, tokens.tokenizer))
    onnx.save(exported, path)


def _cannot_be_exported(embedder: Embedder, reason: str) -> EmbedderError:
    return EmbedderError(
        f"the text tower of {embedder.id} cannot be exported: {reason}; serve it with torch"
    )


def _graph(tower: torch.nn.Module, example: torch.Tensor, *, any_length: bool) -> Any:
    """The ONNX of a tower for any number of texts, and of any number of tokens up to those of the example."""
    length = example.shape[1]
    shape: dict[int, Any] = {0: torch.export.Dim("texts")}
    if any_length:
        shape[1] = torch.export.Dim("tokens", min=2, max=length)
        # As long as the whole, it would be taken for the only length.
        example = example[:, : length // 2]
    with _quiet():
        program = torch.onnx.export(
            tower,
            (example,),
            input_names=["tokens"],
            output_names=["features"],
            dynamic_shapes=(shape,),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say to those who write models."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
