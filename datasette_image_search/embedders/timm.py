"""Picture-only backbones of timm, named timm/NAME: pooled features, any dimension, no words."""

from __future__ import annotations

# Before what imports timm.
from . import uncompiled  # noqa: F401

# isort: split
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

from ..errors import most_similar
from .model_ids import TIMM, unknown_model
from .protocol import ModelRequest
from .torch_embedder import TorchEmbedder, TorchModel, check_keys
from .torch_runtime import choose_runtime
from .weights import WeightsFile, fingerprint, given_weights, hub_weights

WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")


def load_timm(request: ModelRequest) -> TorchEmbedder:
    """Raises EmbedderError for an unknown name, or if the weights cannot be had."""
    check_name(request.model_id)
    name = request.model_id.removeprefix(TIMM)
    runtime = choose_runtime(request.device, request.precision)
    if request.weights is not None:
        path = given_weights(request.weights)
    else:
        path = hub_weights(
            request.model_id,
            repository(name),
            WEIGHTS_NAMES,
            allow_download=request.allow_download,
        )
    outline = outline_of(name)
    preprocessing = timm.data.resolve_data_config(model=outline)
    embedder = TorchEmbedder(
        TorchModel(
            request.model_id,
            f"timm's {name}",
            WeightsFile.at(path),
            fingerprint(path, name=name, preprocessing=preprocessing),
            outline.head_hidden_size,
            min(preprocessing["input_size"][1:]),
            partial(timm.data.create_transform, **preprocessing),
            load_pictures=partial(_backbone, name, path),
        ),
        runtime,
    )
    if not request.words_only:
        embedder.load_pictures()
    return embedder


def check_name(model_id: str) -> None:
    """Raises UnknownModel if timm has no such model."""
    name = model_id.removeprefix(TIMM)
    if not _is_known(name):
        similar = most_similar(name, timm.list_pretrained() if "." in name else timm.list_models())
        raise unknown_model(model_id, similar and TIMM + similar, "timm has none of this name")


def _is_known(name: str) -> bool:
    """Whether timm has a model of this name, and the weights that may follow a dot."""
    if not timm.is_model(name):
        return False
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:
        return False
    return True


def repository(name: str) -> str:
    """The repository of the published weights on the hub."""
    published = timm.get_pretrained_cfg(name)
    return (published.hf_hub_id if published else None) or f"timm/{name}"


def outline_of(name: str) -> Any:
    """The model without its parameters, a Module with timm's additions."""
    with torch.device("meta"):
        return timm.create_model(name)


def _backbone(name: str, path: Path) -> torch.nn.Module:
    """The model with its weights and without its head: a file may have one for any classes, or none."""
    model: Any = timm.create_model(name)
    heads = model.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    model.reset_classifier(0)
    found = timm.models.load_checkpoint(model, str(path), strict=False, weights_only=True)
    check_keys(found, tuple(f"{head}." for head in heads))
    return model
