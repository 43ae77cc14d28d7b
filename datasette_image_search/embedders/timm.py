"""Picture-only backbones of timm, named timm/NAME: pooled features, any dimension, no words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import timm
import torch
from PIL import Image

from . import torch_runtime
from .protocol import Embedder, EmbedderError
from .registry import ModelRequest
from .torch_runtime import Runtime, TransformPreprocess
from .weights import fingerprint, given_weights, hub_weights


class TimmEmbedder(Embedder):
    def __init__(
        self,
        model_id: str,
        model: torch.nn.Module,
        transform: Callable[[Image.Image], torch.Tensor],
        image_size: int,
        fingerprint: str,
        runtime: Runtime,
    ):
        self.id = model_id
        self.fingerprint = fingerprint
        self.image_size = image_size
        self.device = runtime.device
        self.precision = runtime.precision
        self._model = model.to(runtime.device, runtime.dtype).eval()
        self.preprocess = TransformPreprocess(transform)
        self._runtime = runtime
        blank = Image.new("RGB", (image_size, image_size))
        self.dimensions = self.encode_images(self.preprocess(blank)[None]).shape[1]

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        return torch_runtime.encode(self._model, inputs, self._runtime)


def load_timm(request: ModelRequest) -> TimmEmbedder:
    """Raises EmbedderError for an unknown name, and for weights that are not to be had."""
    name = request.model_id.removeprefix("timm/")
    if not timm.is_model(name):
        raise EmbedderError(
            f"timm has no model {name!r}; try --model timm/resnet50 or see timm.list_models()"
        )
    runtime = torch_runtime.choose_runtime(request.device)
    published = timm.get_pretrained_cfg(name)
    if request.weights is not None:
        path = given_weights(request.weights)
    else:
        path = hub_weights(
            request.model_id,
            (published.hf_hub_id if published else None) or f"timm/{name}",
            ["model.safetensors", "pytorch_model.bin"],
            allow_download=request.allow_download,
        )
    try:
        # The published head is loaded and then dropped: strict loading notices another model's file.
        model = timm.create_model(name, checkpoint_path=str(path))
    except Exception as error:
        raise EmbedderError(
            f"{str(path)!r} does not hold weights of timm's {name}; "
            "check that the file is complete and belongs to this model"
        ) from error
    model.reset_classifier(0)
    preprocessing = timm.data.resolve_data_config(model=model)
    return TimmEmbedder(
        request.model_id,
        model,
        timm.data.create_transform(**preprocessing),
        min(preprocessing["input_size"][1:]),
        fingerprint(path, name=name, preprocessing=preprocessing),
        runtime,
    )
