"""
The architectures and published weights of open_clip, found without importing it, which loads torch and
takes seconds.
"""

from __future__ import annotations

import builtins
import importlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import most_similar
from .model_ids import HUB, unknown_model
from .protocol import EmbedderError, ModelRequest
from .weights import given_weights, hub_weights, missing_weights

HUB_CONFIG = "open_clip_config.json"
"""The configuration of a model on the hub."""

PARTS = ("embed_dim", "vision_cfg", "text_cfg")
"""The keys of a configuration of open_clip."""

USUAL_SIZE = 224
"""Pixels, if a configuration does not say."""


def architectures() -> list[str]:
    """All architectures, sorted by their names and the numbers in them."""
    if _is_loaded():
        return importlib.import_module("open_clip").list_models()
    return list(_configs())


def all_published() -> list[tuple[str, str]]:
    """(architecture, tag) of all published weights."""
    return _pretrained().list_pretrained()


def tags_of(architecture: str) -> list[str]:
    return _pretrained().list_pretrained_tags_by_model(architecture)


def tag_files(architecture: str, tag: str) -> tuple[str, Sequence[str]]:
    """The repository of published weights on the hub, or "", and the files that they may be in."""
    published = _pretrained().get_pretrained_cfg(architecture, tag)
    repo_id, _, filename = published["hf_hub"].rpartition("/")
    return repo_id, [filename] if filename else _usual_files()


def check_here(request: ModelRequest, others: Iterable[str]) -> None:
    """
    Raises EmbedderError if there is no such model, or if its files cannot be had: in a moment, while to import
    torch takes seconds. `others` are as in check_name().
    """
    if request.model_id.startswith(HUB):
        hub_config(request)
    else:
        check_name(request.model_id, others, has_weights=request.weights is not None)
    weights_file(request)


def hub_config(request: ModelRequest) -> Path:
    """The configuration of a model on the hub. Raises EmbedderError if it cannot be had."""
    return _hub_file(request, request.model_id.removeprefix(HUB), [HUB_CONFIG])


def weights_file(request: ModelRequest) -> Path:
    """The weights of a model that there is. Raises EmbedderError if they cannot be had."""
    if request.weights is not None:
        return given_weights(request.weights)
    if request.model_id.startswith(HUB):
        return _hub_file(request, request.model_id.removeprefix(HUB), _usual_files())
    architecture, _, tag = request.model_id.partition("/")
    repo_id, filenames = tag_files(architecture, tag)
    if not repo_id:
        raise missing_weights(request.model_id, "are not on the hub")
    return _hub_file(request, repo_id, filenames)


def _hub_file(request: ModelRequest, repo_id: str, filenames: Sequence[str]) -> Path:
    return hub_weights(request.model_id, repo_id, filenames, allow_download=request.allow_download)


def _usual_files() -> tuple[str, ...]:
    pretrained = _pretrained()
    return pretrained.HF_SAFE_WEIGHTS_NAME, pretrained.HF_WEIGHTS_NAME


def dimensions_of(architecture: str) -> int:
    return _config(architecture)["embed_dim"]


def image_size_of(architecture: str) -> int:
    """Pixels of the longer side."""
    size = _config(architecture)["vision_cfg"].get("image_size", USUAL_SIZE)
    return max(size) if isinstance(size, list) else size


def check_name(model_id: str, others: Iterable[str], *, has_weights: bool) -> None:
    """
    Raises UnknownModel if there is no such model, and EmbedderError if its weights are not named.
    `others` are registered names, which may be meant. `has_weights` is True if a file has its weights,
    as it must if open_clip publishes none.
    """
    architecture, _, tag = model_id.partition("/")
    if architecture not in (known := architectures()):
        whole = [name for name in others if not name.endswith("/")]
        similar = most_similar(architecture, [*known, *whole])
        raise unknown_model(model_id, similar and _with_tag(similar, tag))
    if has_weights:
        return
    tags = tags_of(architecture)
    if tag in tags:
        return
    if not tags:
        raise missing_weights(model_id, "are not published by open_clip")
    listed = ", ".join(f"{architecture}/{name}" for name in tags)
    if not tag:
        raise EmbedderError(f"name the weights of {architecture} too: {listed}, or --weights FILE")
    closest = _with_tag(architecture, tag)
    raise unknown_model(
        model_id, None if closest == architecture else closest, f"open_clip has {listed}"
    )


def _with_tag(architecture: str, tag: str) -> str:
    """The architecture with the most similar of its tags, if there is one."""
    similar = most_similar(tag, tags_of(architecture))
    return f"{architecture}/{similar}" if similar else architecture


# --- The files of open_clip ----------------------------------------------------------------------


def _is_loaded() -> bool:
    """Whether open_clip costs nothing to import; it may know more architectures than its files."""
    return "open_clip" in sys.modules or "torch" in sys.modules


def _config(architecture: str) -> dict[str, Any]:
    if _is_loaded():
        return importlib.import_module("open_clip").get_model_config(architecture)
    return _configs()[architecture]


@cache
def _configs() -> dict[str, dict[str, Any]]:
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in (_folder() / "model_configs").glob("*.json")
    }
    if not found:
        # Another version may have them elsewhere.
        open_clip = importlib.import_module("open_clip")
        return {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    names = sorted(found, key=_in_numbers)
    return {name: found[name] for name in names if set(PARTS) <= found[name].keys()}


def _in_numbers(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]


def _pretrained() -> ModuleType:
    """The module of open_clip that has the published weights."""
    if not _is_loaded():
        try:
            return _pretrained_alone()
        except (ImportError, AttributeError):
            pass  # Another version may have it elsewhere.
    return importlib.import_module("open_clip.pretrained")


@cache
def _pretrained_alone() -> ModuleType:
    """
    The module alone, under another package's name, so that the rest of open_clip is not loaded. It
    needs torch only to learn whether safetensors can be read, and works without: its own import
    statements do not find torch, those of other modules and threads do. So the names take 0.2 s of a
    processor; with torch they take 6 s, and with all of open_clip 10 s.
    """
    package = ModuleType("_open_clip_names")
    package.__path__ = [str(_folder())]
    sys.modules[package.__name__] = package
    spec = find_spec(f"{package.__name__}.pretrained")
    if spec is None or spec.loader is None:
        raise ImportError("open_clip has no module of published weights")
    module = module_from_spec(spec)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import_without_torch}
    spec.loader.exec_module(module)
    return module


def _import_without_torch(name: str, *args: Any, **kwargs: Any) -> ModuleType:
    if name == "safetensors.torch":
        raise ImportError(f"{name} is left out")
    return builtins.__import__(name, *args, **kwargs)


def _folder() -> Path:
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("open_clip is not installed", name="open_clip")
    return Path(spec.submodule_search_locations[0])
