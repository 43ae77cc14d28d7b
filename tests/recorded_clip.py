"""
CLIP without its weights: an embedder that looks the vectors of known photos and captions up.

OpenAI's ViT-B/32 saw 100 photos and 500 captions of Flickr8k once, and its vectors are in SHARED. A
photo is known by its pixels, so that all around the model runs as it does for people.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasette_image_search import hookspecs
from datasette_image_search.decoding.decode import decode_file
from datasette_image_search.decoding.opening import DecodeSettings
from datasette_image_search.embedders import registry
from datasette_image_search.embedders.protocol import Embedder, ModelRequest, TextNotUnderstood
from datasette_image_search.hookspecs import hookimpl

from .conftest import SHARED
from .random_tables import random_vectors

FOLDER = SHARED / "flickr8k-clip"

MODEL = "recorded-clip"

needs_recorded_clip = pytest.mark.skipif(
    not FOLDER.exists(), reason="the recorded vectors are on some machines only"
)


def photos() -> list[Path]:
    """In the order of their vectors."""
    return [FOLDER / "photos" / name for name in (FOLDER / "photos.txt").read_text().split()]


def captions() -> list[tuple[str, str]]:
    """(name of the photo, caption), in the order of their vectors."""
    with (FOLDER / "captions.csv").open(newline="", encoding="utf-8") as file:
        return [(row["photo"], row["caption"]) for row in csv.DictReader(file)]


class RecordedClip(Embedder):
    id = MODEL
    fingerprint = "recorded"
    dimensions = 512
    # Larger than any of the photos, so that they are decoded as they are.
    image_size = 4096

    @staticmethod
    def preprocess(picture: Image.Image) -> np.ndarray:
        """What the pixels are known by, shape (32,), uint8."""
        digest = hashlib.sha256(str(picture.size).encode() + picture.tobytes()).digest()
        return np.frombuffer(digest, dtype=np.uint8)

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        return np.stack([self._encode_image(each.tobytes()) for each in inputs])

    def _encode_image(self, known_by: bytes) -> np.ndarray:
        if known_by not in self._pictures:
            # Of what CLIP never saw, such as the pictures of the self-test, a direction at random.
            return random_vectors(1, self.dimensions, seed=int.from_bytes(known_by[:4]))[0]
        return self._pictures[known_by]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        unknown = [text for text in texts if text not in self._texts]
        if unknown:
            raise TextNotUnderstood(f"{MODEL} was never told {unknown[0]!r}")
        return np.stack([self._texts[text] for text in texts])

    @cached_property
    def _pictures(self) -> dict[bytes, np.ndarray]:
        vectors = np.load(FOLDER / "image_vectors.npy").astype(np.float32)
        settings = DecodeSettings(self.preprocess, self.image_size, thumbnail_size=None)
        return {
            decode_file(path, settings).model_input.tobytes(): vector
            for path, vector in zip(photos(), vectors, strict=True)
        }

    @cached_property
    def _texts(self) -> dict[str, np.ndarray]:
        vectors = np.load(FOLDER / "text_vectors.npy").astype(np.float32)
        # As the grammar of queries has them: without blanks around.
        return {text.strip(): vector for (_, text), vector in zip(captions(), vectors, strict=True)}


class RecordedClipPlugin:
    """As another package would add the model."""

    @hookimpl
    def register_image_embedders(self, register) -> None:
        register(MODEL, _recorded_clip)


def _recorded_clip(request: ModelRequest) -> Embedder:
    return RecordedClip()


@contextmanager
def recorded_clip_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The model is there for as long as this lasts, and leaves nothing in the registry."""
    manager = hookspecs.pluggy.PluginManager

    class WithRecordedClip(manager):
        def load_setuptools_entrypoints(self, group: str, name: str | None = None) -> int:
            self.register(RecordedClipPlugin())
            return super().load_setuptools_entrypoints(group, name)

    with monkeypatch.context() as patch:
        patch.setattr(hookspecs.pluggy, "PluginManager", WithRecordedClip)
        patch.setattr(registry, "_loaded", {})
        registry._factories.cache_clear()
        try:
            yield
        finally:
            registry._factories.cache_clear()
