"""
Any open_clip model: ARCHITECTURE/PRETRAINED as in open_clip.list_pretrained(), or hf-hub:OWNER/NAME
for one that is on the hub with a configuration of open_clip.
"""

from __future__ import annotations

# Before what imports timm.
from . import uncompiled  # noqa: F401

# isort: split
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from open_clip.transformer import TextTransformer

from .model_ids import DEFAULT_MODEL, HUB
from .open_clip_models import check_name, hub_config, weights_file
from .protocol import EmbedderError, ModelRequest
from .torch_embedder import TorchEmbedder, TorchModel, check_keys
from .torch_runtime import choose_runtime
from .weights import WeightsFile, fingerprint, from_hub

TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")

MOST_WORDS = 10_000
LONGEST_WORD = 64
"""The number of words whose tokens are remembered, in a few megabytes, and the bytes of the longest."""

NO_PICTURES = {"layers": 1, "width": 64, "head_width": 64, "patch_size": 32, "image_size": 32}
NO_WORDS = {"context_length": 1, "vocab_size": 1, "width": 64, "heads": 1, "layers": 1}
"""Configurations of tiny towers, which stand for the tower that is not needed."""


@dataclass(frozen=True)
class Plan:
    """
    A recipe for a model: `config` is open_clip's configuration of an architecture, `preprocessing` its
    PreprocessCfg, as dicts. `name` is that of the architecture in a sentence.
    """

    name: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]

    @property
    def dimensions(self) -> int:
        return self.config["embed_dim"]

    @property
    def image_size(self) -> int:
        """Pixels of the longer side."""
        return int(np.max(self.preprocessing["size"]))

    @property
    def text_config(self) -> dict[str, Any]:
        return self.config["text_cfg"]


def load_open_clip(request: ModelRequest, others: Iterable[str]) -> TorchEmbedder:
    """
    Raises EmbedderError for an unknown name, or if the weights cannot be had. `others` are as in
    open_clip_models.check_name().
    """
    runtime = choose_runtime(request.device, request.precision)
    plan, path = _planned(request, others)
    embedder = TorchEmbedder(
        TorchModel(
            request.model_id,
            plan.name,
            WeightsFile.at(path),
            fingerprint(path, architecture=plan.config, preprocessing=plan.preprocessing),
            plan.dimensions,
            plan.image_size,
            partial(image_transform_v2, PreprocessCfg(**plan.preprocessing), is_train=False),
            load_pictures=partial(_tower, plan, path, "visual", runtime.dtype),
            load_words=partial(
                _tower, _with_local_words(plan, request), path, "text", runtime.dtype
            ),
            tokenizer=_tokenizer(plan, request),
        ),
        runtime,
    )
    if not request.words_only:
        embedder.load_pictures()
    return embedder


# --- Names ---------------------------------------------------------------------------------------


def _planned(request: ModelRequest, others: Iterable[str]) -> tuple[Plan, Path]:
    """The plan of the model, and the location of its weights."""
    if request.model_id.startswith(HUB):
        plan = hub_plan(request.model_id.removeprefix(HUB), hub_config(request))
    else:
        check_name(request.model_id, others, has_weights=request.weights is not None)
        architecture, _, tag = request.model_id.partition("/")
        plan = plan_of(architecture, tag)
    return plan, weights_file(request)


def plan_of(architecture: str, tag: str) -> Plan:
    """The plan of an architecture of open_clip, with the preprocessing of the weights of this tag."""
    config = open_clip.get_model_config(architecture)
    published = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if published.get("quick_gelu"):
        config["quick_gelu"] = True
    return _plan(architecture, config, published)


def hub_plan(repo_id: str, config_file: Path) -> Plan:
    """The plan of a model on the hub. Raises EmbedderError if its configuration is not open_clip's."""
    try:
        content = json.loads(config_file.read_text(encoding="utf-8"))
        return _plan(repo_id, content["model_cfg"], content.get("preprocess_cfg") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise EmbedderError(
            f"{str(config_file)!r} is not a configuration of open_clip; check that {repo_id} on the hub is "
            "a model of open_clip"
        ) from error


def _plan(name: str, config: dict[str, Any], published: dict[str, Any]) -> Plan:
    size = open_clip.CLIPVisionCfg(**config["vision_cfg"]).image_size
    usual = asdict(PreprocessCfg(size=size))
    merged = merge_preprocess_dict(usual, {**published, "size": size})
    return Plan(name, config, merged)


# --- Towers --------------------------------------------------------------------------------------


def _tower(plan: Plan, path: Path, name: str, dtype: torch.dtype) -> torch.nn.Module:
    """
    One of the towers, "visual" or "text", with its weights. Every kind of model (CLIP, CustomTextCLIP,
    CoCa) has the same two, which open_clip can combine as a CustomTextCLIP.
    """
    config = {
        key: value
        for key, value in plan.config.items()
        if key not in ("custom_text", "multimodal_cfg", "vision_cfg", "text_cfg")
    }
    vision = {**plan.config["vision_cfg"], "timm_model_pretrained": False}
    text = {**plan.text_config, "hf_model_pretrained": False}
    other = "text" if name == "visual" else "visual"
    model = open_clip.CustomTextCLIP(
        **config,
        vision_cfg=vision if name == "visual" else NO_PICTURES,
        text_cfg=text if name == "text" else NO_WORDS,
    )
    setattr(model, other, _Absent(open_clip.CLIPTextCfg(**text)))
    # Before the weights, which a file mostly has in 32 bits, are in memory too.
    getattr(model, name).to(dtype)
    found = open_clip.load_checkpoint(model, str(path), strict=False, weights_only=True)
    check_keys(found, (f"{other}.", "text_decoder."))
    tower = getattr(model, name)
    if name == "text":
        tower = Shortened(tower) if _reads_to_the_end_only(tower) else tower
        # It is no part of a tower, but comes with it: what is compared are words and pictures.
        tower.logit_scale = float(model.logit_scale.detach().float().exp())
    return tower


class _Absent(torch.nn.Module):
    """A stand-in for the tower that is not read, with the one attribute that open_clip looks at."""

    def __init__(self, text: open_clip.CLIPTextCfg) -> None:
        super().__init__()
        self.positional_embedding = torch.empty(text.context_length, text.width, device="meta")


# --- Words ---------------------------------------------------------------------------------------


def _reads_to_the_end_only(tower: torch.nn.Module) -> bool:
    """Whether the tokens after the end of a text, its highest token, have no effect, as in CLIP."""
    return (
        isinstance(tower, TextTransformer)
        and tower.pool_type == "argmax"
        and tower.attn_mask is not None
        and tower.cls_emb is None
        and not tower.use_pad_mask
    )


class Shortened(torch.nn.Module):
    """
    A text tower that drops the tokens after the end of the longest text: a query has about 6 of 77
    tokens, and takes a fifth of the time.
    """

    tower: TextTransformer

    def __init__(self, tower: TextTransformer) -> None:
        super().__init__()
        self.tower = tower
        tower.transformer.register_forward_pre_hook(_with_short_mask, with_kwargs=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.tower(tokens[:, : int(tokens.argmax(dim=-1).max()) + 1])


def _with_short_mask(
    _transformer: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]
) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
    """The causal mask as large as the texts, of shape (n, length, width)."""
    length = args[0].shape[1]
    return args, {**kwargs, "attn_mask": kwargs["attn_mask"][:length, :length]}


def _tokenizer(plan: Plan, request: ModelRequest) -> Callable[[list[str]], torch.Tensor]:
    settings = dict(plan.text_config.get("tokenizer_kwargs") or {})
    settings["context_length"] = open_clip.CLIPTextCfg(**plan.text_config).context_length
    repo_id = plan.text_config.get("hf_tokenizer_name")
    if not repo_id:
        return _clip_tokenizer(json.dumps(settings, sort_keys=True))
    mode = plan.text_config.get("tokenizer_mode")
    with _needed(plan, "tokenizer"):
        return from_hub(
            repo_id,
            TOKENIZER_FILES,
            lambda folder: HFTokenizer(str(folder), tokenizer_mode=mode, **settings),
            allow_download=request.allow_download,
        )


@cache
def _clip_tokenizer(settings: str) -> open_clip.SimpleTokenizer:
    """Models with the same settings, which are JSON, share it: to read its list of words takes 60 ms and 20 MB."""
    tokenizer = open_clip.SimpleTokenizer(**json.loads(settings))
    tokenizer.cache = _FewWords(tokenizer.cache)
    return tokenizer


class _FewWords(dict[str, str]):
    """A bounded cache for the tokens of words; open_clip's own grows for ever. The first ones stay."""

    def __setitem__(self, word: str, tokens: str) -> None:
        # Nothing is taken out: another thread may be about to read it.
        if len(self) < MOST_WORDS and len(word) <= LONGEST_WORD:
            super().__setitem__(word, tokens)


def _with_local_words(plan: Plan, request: ModelRequest) -> Plan:
    """
    The same plan, with the configuration of a transformers text tower read from the cache. By name,
    transformers would look for it on the hub.
    """
    repo_id = plan.text_config.get("hf_model_name")
    if not repo_id:
        return plan
    with _needed(plan, "text tower"):
        folder = from_hub(
            repo_id, ["config.json"], _checked_config, allow_download=request.allow_download
        )
    config = deepcopy(plan.config)
    config["text_cfg"]["hf_model_name"] = str(folder)
    return Plan(plan.name, config, plan.preprocessing)


def _checked_config(folder: Path) -> Path:
    from transformers import AutoConfig

    AutoConfig.from_pretrained(folder)
    return folder


@contextmanager
def _needed(plan: Plan, part: str) -> Iterator[None]:
    """Turns any failure of a part that another package reads from the hub into one sentence."""
    try:
        yield
    except Exception as error:
        raise EmbedderError(
            f"the {part} of {plan.name} cannot be loaded; install its reader (pip install "
            "'datasette-image-search[transformers]'), run embed-images once where the hub can be reached, "
            f"or use a model whose words need none, such as {DEFAULT_MODEL}"
        ) from error
