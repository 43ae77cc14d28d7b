"""A CLIP that is small enough to be made in a test, and goes the whole way of a real one."""

from __future__ import annotations

import json
from pathlib import Path

from .late import Late

open_clip = Late("open_clip")
safetensors_torch = Late("safetensors.torch")
torch = Late("torch")

ARCHITECTURE = "tiny-test"

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 64,
        "head_width": 32,
        "patch_size": 8,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
    },
}


def add_architecture(folder: Path, architecture: str = ARCHITECTURE, **text_cfg) -> None:
    """Tell open_clip of an architecture like CONFIG; `text_cfg` replaces settings of its words."""
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | text_cfg}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{architecture}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)


def make_tiny_clip(folder: Path, name: str = "tiny.safetensors", seed: int = 0) -> Path:
    """
    A file of random weights for the model "tiny-test/anything", which open_clip then knows. The
    suffix of `name`, .pt or .safetensors, is its format; the same seed makes the same weights.
    """
    add_architecture(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = open_clip.create_model(ARCHITECTURE).state_dict()
    path = folder / name
    if path.suffix == ".safetensors":
        safetensors_torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path
