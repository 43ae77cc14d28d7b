"""Any open_clip model, named ARCHITECTURE/PRETRAINED as in open_clip.list_pretrained()."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from . import torch_runtime
from .protocol import Embedder, EmbedderError
from .registry import DEFAULT_MODEL, ModelRequest
from .torch_runtime import Runtime, TransformPreprocess
from .weights import fingerprint, given_weights, hub_weights, missing_weights

PREPROCESSING = {
    "mean": "image_mean",
    "std": "image_std",
    "interpolation": "image_interpolation",
    "resize_mode": "image_resize_mode",
}
"""open_clip's names for the preprocessing of a pretrained tag -> its arguments for the same."""

PRECISIONS = {
    torch.float32: "fp32",
    torch.float16: "pure_fp16",
    torch.bfloat16: "pure_bf16",
}
"""open_clip's names for a model all of whose parameters are of one type. Said when the model is made,
because two copies in float32, the model and its file, are what most memory is needed for."""


class OpenClipEmbedder(Embedder):
    """A contrastive model with a picture tower and a text tower."""

    def __init__(
        self,
        model_id: str,
        model: torch.nn.Module,
        transform: Callable[[Image.Image], torch.Tensor],
        tokenizer: Callable[[list[str]], torch.Tensor],
        fingerprint: str,
        runtime: Runtime,
    ):
        self.id = model_id
        self.fingerprint = fingerprint
        self.device = runtime.device
        self.precision = runtime.precision
        self._model = model.to(runtime.device, runtime.dtype).eval()
        self.preprocess = TransformPreprocess(transform)
        self._tokenizer = tokenizer
        self._runtime = runtime
        self.image_size = int(max(np.atleast_1d(model.visual.image_size)))
        self.dimensions = self.encode_texts([""]).shape[1]
        self.logit_scale = float(model.logit_scale.detach().float().exp())

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        return torch_runtime.encode(self._model.encode_image, inputs, self._runtime)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        tokens = self._tokenizer(list(texts))
        return torch_runtime.encode(self._model.encode_text, tokens, self._runtime)


def load_open_clip(request: ModelRequest) -> OpenClipEmbedder:
    """Raises EmbedderError for an unknown name, and for weights that are not to be had."""
    architecture, _, tag = request.model_id.partition("/")
    _check_architecture(request.model_id, architecture)
    runtime = torch_runtime.choose_runtime(request.device)
    tag_config = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if request.weights is not None:
        path = given_weights(request.weights)
    else:
        _check_tag(request.model_id, architecture, tag)
        path = _tag_weights(request, tag_config)
    settings: dict[str, Any] = {
        argument: tag_config[name] for name, argument in PREPROCESSING.items() if name in tag_config
    }
    settings["force_quick_gelu"] = bool(tag_config.get("quick_gelu"))
    try:
        # A path, never a tag: given a tag, open_clip asks the hub even for what is in the cache.
        model, _, transform = open_clip.create_model_and_transforms(
            architecture, pretrained=str(path), precision=PRECISIONS[runtime.dtype], **settings
        )
    except Exception as error:
        # A file that is no checkpoint, or another model's, fails in many ways inside torch.
        raise EmbedderError(
            f"{str(path)!r} does not hold weights of {architecture}; "
            "check that the file is complete and belongs to this architecture"
        ) from error
    try:
        tokenizer = _tokenizer(architecture, allow_download=request.allow_download)
    except Exception as error:
        # Some are on the hub and read by another package, whose errors are of many kinds.
        raise EmbedderError(
            f"the tokenizer of {architecture} cannot be loaded; install transformers, run once "
            "with a network, or use a model whose words need none, such as " + DEFAULT_MODEL
        ) from error
    return OpenClipEmbedder(
        request.model_id,
        model,
        transform,
        tokenizer,
        fingerprint(
            path,
            architecture=open_clip.get_model_config(architecture),
            preprocessing=open_clip.get_model_preprocess_cfg(model),
            quick_gelu=settings["force_quick_gelu"],
        ),
        runtime,
    )


def _tokenizer(architecture: str, *, allow_download: bool) -> Callable[[list[str]], torch.Tensor]:
    from_hub = "hf_tokenizer_name" in open_clip.get_model_config(architecture)["text_cfg"]
    # Only the tokenizers of the hub know the argument; the others come with open_clip.
    settings = {"local_files_only": True} if from_hub and not allow_download else {}
    return open_clip.get_tokenizer(architecture, **settings)


def _check_architecture(model_id: str, architecture: str) -> None:
    known = open_clip.list_models()
    if architecture in known:
        return
    closest = difflib.get_close_matches(architecture, known, n=1)
    suggestion = f"did you mean {closest[0]!r}? " if closest else ""
    raise EmbedderError(
        f"there is no model {model_id!r}; {suggestion}a model is 'palette', 'timm/NAME', "
        f"or ARCHITECTURE/PRETRAINED of open_clip such as {DEFAULT_MODEL!r}"
    )


def _check_tag(model_id: str, architecture: str, tag: str) -> None:
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if tag in known:
        return
    if not known:
        raise missing_weights(model_id, "are not published by open_clip")
    listed = ", ".join(f"{architecture}/{name}" for name in known)
    if not tag:
        raise EmbedderError(f"name the weights of {architecture} too: {listed}, or --weights FILE")
    raise EmbedderError(f"open_clip has no weights {tag!r} for {architecture}; it has {listed}")


def _tag_weights(request: ModelRequest, tag_config: dict[str, Any]) -> Path:
    repo_id, _, filename = tag_config["hf_hub"].rpartition("/")
    if not repo_id:
        raise missing_weights(request.model_id, "are not on the hub")
    filenames = (
        [filename]
        if filename
        else [open_clip.constants.HF_SAFE_WEIGHTS_NAME, open_clip.constants.HF_WEIGHTS_NAME]
    )
    return hub_weights(request.model_id, repo_id, filenames, allow_download=request.allow_download)
