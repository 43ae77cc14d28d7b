"""
The embedder `things`: meaning from two models that are inside wheels, so pip is enough to get them.

Pictures are seen by an EfficientNet-Lite0 that was trained on the 1,000 classes of ImageNet. Words are
read by all-MiniLM-L6-v2, which knows no pictures: a text is compared with the name and the definition of
each class, and its vector is the mean of the directions in which the classifier looks for the classes,
each as often as it is like the text. So both lie in the space of the pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence

from . import things_wheels as wheels
from .protocol import ModelRequest
from .torch_embedder import TorchEmbedder, TorchModel
from .torch_runtime import choose_runtime
from .weights import WeightsFile

VERSION = 1
"""Raise it with any change of the code that changes vectors."""

ARCHITECTURE = "tf_efficientnet_lite0"
PREPROCESSING: dict[str, Any] = {
    "input_size": (3, wheels.SIDE, wheels.SIDE),
    "crop_mode": "squash",
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (127 / 255,) * 3,
    "std": (128 / 255,) * 3,
}

MINILM: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
"""The sizes of all-MiniLM-L6-v2, by their names in its config.json."""
EPSILON = 1e-12
ATTENTION = ("query", "key", "value")
PARTS = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
"""Of a layer: torch's name -> that of a BERT."""

MOST_TOKENS = 256
PADDING = 0

CLASSES_FILE = Path(__file__).with_name("things_classes.npz")


def load_things(request: ModelRequest) -> TorchEmbedder:
    """Raises EmbedderError if the wheels are not installed, or hold other files than ours."""
    pictures = wheels.PICTURES.here()
    wheels.WORDS.here()
    embedder = ThingsEmbedder(
        TorchModel(
            wheels.THINGS,
            wheels.THINGS,
            WeightsFile.at(pictures),
            fingerprint(),
            wheels.DIMENSIONS,
            wheels.SIDE,
            _transform,
            load_pictures=_pictures,
            load_words=Sentences,
            tokenizer=Tokens(),
        ),
        choose_runtime(request.device, request.precision),
    )
    if not request.words_only:
        embedder.load_pictures()
    return embedder


def fingerprint() -> str:
    """Of the files as they have to be: they are read and compared when they are needed."""
    known = [VERSION, PREPROCESSING, MINILM, MOST_TOKENS, [file.sha256 for file in wheels.FILES]]
    digest = hashlib.sha256(repr(known).encode() + CLASSES_FILE.read_bytes())
    return f"things-{VERSION}-{digest.hexdigest()[:12]}"


class ThingsEmbedder(TorchEmbedder):
    """Its word tower reads sentences; these become vectors by the classes that they are like."""

    logit_scale = 30.0

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """n texts -> (n, 1280) float32, unit norm."""
        return self._classes.directions(super().encode_texts(texts))

    @cached_property
    def _classes(self) -> Classes:
        *_, rows, _ = _picture_weights().values()
        with np.load(CLASSES_FILE) as file:
            return Classes(file["meanings"].astype(np.float32), rows.numpy())


# --- Pictures --------------------------------------------------------------------------------------


def _timm() -> Any:
    """The package, which takes as long to load as torch, and words need none of it."""
    from . import uncompiled  # noqa: F401, before timm

    # isort: split
    import timm

    return timm


def _transform() -> Any:
    return _timm().data.create_transform(**PREPROCESSING)


def _pictures() -> torch.nn.Module:
    """Raises EmbedderError, or RuntimeError if timm makes another model than the weights are for."""
    model: Any = _timm().create_model(ARCHITECTURE)
    # The parameters have other names than timm's, but the same order.
    model.load_state_dict(dict(zip(model.state_dict(), _picture_weights().values(), strict=True)))
    model.reset_classifier(0)
    return model


def _picture_weights() -> dict[str, torch.Tensor]:
    """By name; the last two are of the classifier: its rows, (1000, 1280), and its biases."""
    content = BytesIO(wheels.PICTURES.read())
    return torch.load(content, map_location="cpu", weights_only=True)


# --- Words -----------------------------------------------------------------------------------------


class Tokens:
    """Texts -> ids of tokens, shape (n, the most of a text), filled up with PADDING."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_str(wheels.TOKENIZER.read().decode())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MOST_TOKENS)

    def __call__(self, texts: list[str]) -> torch.Tensor:
        # One by one: a batch would start threads, of which a later fork warns.
        ids = [torch.tensor(self._tokenizer.encode(text).ids) for text in texts]
        return pad_sequence(ids, batch_first=True, padding_value=PADDING)


class Sentences(torch.nn.Module):
    """
    Ids of tokens, shape (n, length) -> the mean of their meanings, (n, 384).

    The layers are torch's: a BERT of transformers has the same, but takes three seconds to load.
    """

    def __init__(self) -> None:
        super().__init__()
        weights = _of_torch(load_safetensors(wheels.WORDS.read()))
        width = MINILM["hidden_size"]
        # Drawn at random, the many words would take as long as all else here.
        self.words = torch.nn.Embedding.from_pretrained(weights["words.weight"])
        self.positions = torch.nn.Embedding.from_pretrained(weights["positions.weight"])
        self.norm = torch.nn.LayerNorm(width, eps=EPSILON)
        layer = torch.nn.TransformerEncoderLayer(
            width,
            MINILM["num_attention_heads"],
            MINILM["intermediate_size"],
            activation="gelu",
            layer_norm_eps=EPSILON,
            batch_first=True,
        )
        self.encoder = torch.nn.TransformerEncoder(
            layer, MINILM["num_hidden_layers"], enable_nested_tensor=False
        )
        self.load_state_dict(weights)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        real = ids != PADDING
        places = torch.arange(ids.shape[1], device=ids.device)
        each = self.norm(self.words(ids) + self.positions(places))
        each = self.encoder(each, src_key_padding_mask=~real)
        counted = real[..., None].to(each.dtype)
        return (each * counted).sum(dim=1) / counted.sum(dim=1)


def _of_torch(bert: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters of a BERT by the names of `Sentences`. Raises KeyError if one is missing."""
    # All tokens are of the first of two texts.
    first = bert["embeddings.token_type_embeddings.weight"][0]
    found = {
        "words.weight": bert["embeddings.word_embeddings.weight"],
        "positions.weight": bert["embeddings.position_embeddings.weight"] + first,
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = bert[f"embeddings.LayerNorm.{kind}"]
        for at in range(MINILM["num_hidden_layers"]):
            ours, theirs = f"encoder.layers.{at}", f"encoder.layer.{at}"
            found[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(
                [bert[f"{theirs}.attention.self.{each}.{kind}"] for each in ATTENTION]
            )
            for name, part in PARTS.items():
                found[f"{ours}.{name}.{kind}"] = bert[f"{theirs}.{part}.{kind}"]
    return found


@dataclass(frozen=True)
class Classes:
    """
    `meanings` are the sentences of the classes, shape (classes, 384), unit norm; `rows` are those of
    the classifier, (classes, 1280).
    """

    meanings: np.ndarray
    rows: np.ndarray

    def directions(self, sentences: np.ndarray) -> np.ndarray:
        """Sentences, shape (n, 384), unit norm -> where their classes are, (n, 1280), unit norm."""
        scores = sentences @ self.meanings.T
        scores -= scores.mean(axis=1, keepdims=True)
        shares = np.exp(scores / scores.std(axis=1, keepdims=True))
        directions = shares @ (self.rows - self.rows.mean(axis=0))
        return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def sentences_of_classes() -> list[str]:
    """What `meanings` are made of: the name of each class of ImageNet, and its definition."""
    info = _timm().data.ImageNetInfo()
    sentences = []
    for at in range(info.num_classes()):
        names = info.index_to_description(at)
        definition = info.index_to_description(at, detailed=True).removeprefix(f"{names}: ")
        sentences.append(f"a photo of a {names.partition(',')[0]}. {definition}")
    return sentences
