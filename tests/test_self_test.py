from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.embedders.protocol import Embedder, EmbedderError
from datasette_image_search.embedders.self_test import check_embedder, drawn_pictures

from .commands import command, embed_images
from .conftest import COLOURS
from .tiny_clip import make_tiny_clip


class Constructed(Embedder):
    """Gives what it is told to give."""

    id = "constructed"
    fingerprint = "constructed-1"
    image_size = 8
    dimensions = 3

    def __init__(self, vectors: Callable[[np.ndarray], np.ndarray], precision: str = "float32"):
        self.vectors = vectors
        self.precision = precision

    def preprocess(self, picture: Image.Image) -> np.ndarray:
        return np.asarray(picture, dtype=np.float32).mean(axis=(0, 1)) + 1

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        return self.vectors(inputs)


def unit(inputs: np.ndarray) -> np.ndarray:
    return inputs / np.linalg.norm(inputs, axis=1, keepdims=True)


@pytest.mark.parametrize("embedder", [Constructed(unit), PaletteEmbedder()])
def test_embedders_that_work_pass(embedder: Embedder):
    check_embedder(embedder)


def test_one_that_works_is_tried_once():
    tried = []
    embedder = Constructed(lambda inputs: tried.append(inputs) or unit(inputs))
    check_embedder(embedder)
    check_embedder(embedder)
    assert len(tried) == 1
    broken = Constructed(lambda inputs: inputs)
    for _ in range(2):
        with pytest.raises(EmbedderError):
            check_embedder(broken)


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        (
            lambda inputs: unit(np.ones_like(inputs)),
            "the same vector for unrelated pictures",
        ),
        (lambda inputs: inputs * np.nan, "not finite, or not of unit length"),
        (lambda inputs: inputs * 0, "not finite, or not of unit length"),
        (lambda inputs: inputs, "not finite, or not of unit length"),
        (
            lambda inputs: unit(inputs)[:, :2],
            r"shape \(5, 2\) and type float32, but declares \(5, 3\)",
        ),
        (lambda inputs: unit(inputs).astype(np.float64), "type float64"),
    ],
)
def test_embedders_that_do_not_are_refused(
    vectors: Callable[[np.ndarray], np.ndarray], sentence: str
):
    with pytest.raises(EmbedderError, match=f"constructed .*{sentence}.*nothing was embedded"):
        check_embedder(Constructed(vectors))


def test_half_precision_that_overflows_is_told_apart_from_broken_weights():
    with pytest.raises(EmbedderError, match="or try --precision float32"):
        check_embedder(Constructed(lambda inputs: inputs * np.inf, "float16"))


def test_the_pictures_have_the_size_that_is_asked_for_and_differ():
    pictures = drawn_pictures(40)
    assert {picture.size for picture in pictures} == {(40, 40)}
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_broken_checkpoint_is_refused_before_anything_is_written(
    tmp_path: Path, folder: Path, value: float
):
    """All its numbers are there and have the right shapes, so that torch loads it."""
    weights = make_tiny_clip(tmp_path)
    state = {name: torch.full_like(tensor, value) for name, tensor in load_file(weights).items()}
    save_file(state, weights)
    database = tmp_path / "photos.db"

    result = command(
        "embed-images", database, "images", folder, "--model", "tiny-test/x", "--weights", weights
    )

    assert result.exit_code == 1
    assert "tiny-test/x makes" in result.output
    assert "nothing was embedded" in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not database.exists()


def test_random_weights_pass(tmp_path: Path, folder: Path):
    """They are good for nothing too, but nobody can tell."""
    weights = make_tiny_clip(tmp_path)
    run = (tmp_path / "photos.db", "images", folder, "--model", "tiny-test/x", "--weights", weights)
    assert embed_images(*run).stdout.startswith(f"{len(COLOURS)} embedded, 0 unchanged, 0 failed")
