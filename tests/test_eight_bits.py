"""`--precision int8`: nearly the vectors of float32, the same for a picture wherever it is, and never mixed with others."""

from __future__ import annotations

from datasette_image_search.embedders import uncompiled  # noqa: F401

# isort: split
from contextlib import closing
from pathlib import Path

import numpy as np
import open_clip
import pytest
import sqlite_utils
import torch

from datasette_image_search.api import Images
from datasette_image_search.embedders import eight_bits, torch_embedder
from datasette_image_search.embedders.eight_bits import in_eight_bits
from datasette_image_search.embedders.fingerprints import in_precision, precision_of
from datasette_image_search.embedders.protocol import EmbedderError, ModelRequest
from datasette_image_search.embedders.registry import load_embedder
from datasette_image_search.embedders.torch_runtime import choose_runtime
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.search.query import embedder_of
from datasette_image_search.store import find_index

from .conftest import draw_picture
from .tiny_clip import ARCHITECTURE

MODEL = f"{ARCHITECTURE}/anything"
PICTURES = np.random.default_rng(0).normal(size=(9, 3, 32, 32)).astype(np.float32)


def unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features, dim=-1).numpy()


# --- Vectors ---------------------------------------------------------------------------------------


def test_vectors_are_nearly_those_of_float32_and_words_are_the_same(weights: Path):
    eight = load_embedder(ModelRequest(MODEL, weights, precision="int8"))
    whole = load_embedder(ModelRequest(MODEL, weights, device="cpu", precision="float32"))
    vectors = eight.encode_images(PICTURES)
    assert vectors.dtype == np.float32
    cosines = (vectors * whole.encode_images(PICTURES)).sum(axis=1)
    assert 0.999 < cosines.min() < 1
    assert np.array_equal(eight.encode_texts(["a car"]), whole.encode_texts(["a car"]))
    assert (eight.device, eight.precision) == ("cpu", "int8")
    assert eight.fingerprint != whole.fingerprint


@pytest.mark.skipif(not eight_bits.has_fbgemm(), reason="torch has no such numbers here")
def test_without_such_numbers_in_torch_the_vectors_are_the_same(
    weights: Path, monkeypatch: pytest.MonkeyPatch
):
    fast = load_embedder(ModelRequest(MODEL, weights, precision="int8"))
    monkeypatch.setattr(eight_bits, "has_fbgemm", lambda: False)
    slow = load_embedder(ModelRequest(f"{ARCHITECTURE}/slow", weights, precision="int8"))
    cosines = (fast.encode_images(PICTURES) * slow.encode_images(PICTURES)).sum(axis=1)
    assert cosines.min() > 0.99999
    assert fast.fingerprint == slow.fingerprint


def test_a_picture_has_the_same_vector_whatever_is_beside_it(weights: Path):
    eight = load_embedder(ModelRequest(MODEL, weights, precision="int8"))
    # Brighter than all others, so that a scale of all together would be another.
    together = np.concatenate([PICTURES, 50 * PICTURES[:1]])
    assert np.array_equal(eight.encode_images(together)[:9], eight.encode_images(PICTURES))


def test_components_that_are_much_larger_than_the_others_cost_them_nothing():
    """As trained models have them; here they compute the same."""
    torch.manual_seed(0)
    tower = open_clip.transformer.VisionTransformer(
        image_size=32, patch_size=8, width=64, layers=2, heads=2, mlp_ratio=4, output_dim=32
    ).eval()
    with torch.no_grad():
        for block in tower.transformer.resblocks:
            for norm, weight in (
                (block.ln_1, block.attn.in_proj_weight),
                (block.ln_2, block.mlp.c_fc.weight),
            ):
                norm.weight[:4] *= 50
                weight[:, :4] /= 50
        photos = torch.from_numpy(PICTURES)
        right = unit(tower(photos))
        in_eight_bits(tower, "a tower")
        found = np.concatenate([unit(tower(photo[None])) for photo in photos])
    assert (found * right).sum(axis=1).min() > 0.999


# --- Refused ---------------------------------------------------------------------------------------


def test_a_tower_of_another_kind_is_a_sentence():
    with pytest.raises(
        EmbedderError, match=r"for the transformers of open_clip.*not for timm's x;"
    ):
        in_eight_bits(torch.nn.Linear(3, 3), "timm's x")


def test_a_fingerprint_of_another_package_says_nothing_of_the_precision():
    for fingerprint in ("siglip-onnx-int8", "int8"):
        assert precision_of(fingerprint) is None
        assert precision_of(in_precision(fingerprint, "float32")) is None
        assert precision_of(in_precision(fingerprint, "int8")) == "int8"


def test_a_device_that_is_no_processor_is_a_sentence():
    with pytest.raises(
        EmbedderError, match=r"only processors make the .* int8; leave --device cuda out"
    ):
        choose_runtime("cuda", "int8")


def test_a_model_that_sees_other_things_with_8_bits_is_a_sentence(
    weights: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch_embedder, "LEAST_COSINE", 1.1)
    with pytest.raises(
        EmbedderError, match=r"with a cosine of [01]\.\d+ to those of float32; leave"
    ):
        load_embedder(ModelRequest(f"{ARCHITECTURE}/other", weights, precision="int8"))


# --- Tables ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for colour in ("red", "green", "blue"):
        draw_picture(folder / f"{colour}.jpg", colour)
    return folder


def test_later_runs_and_searches_take_the_precision_of_the_table(
    photos: Path, weights: Path, tmp_path: Path
):
    path = tmp_path / "photos.db"
    with Images(path) as images:
        first = images.embed([photos / "red.jpg"], model=MODEL, weights=weights, precision="int8")
        second = images.embed([photos])
        assert (first.device, second.device) == ("cpu, int8", "cpu, int8")
        assert second.embedded == 2
        alike = images.search(photos / "red.jpg", k=3)[0]
        assert (alike.id, alike.score) == (1, pytest.approx(1, abs=1e-5))
        by_model = [(hit.id, hit.score) for hit in images.search("a red car", k=3)]
        assert images.export_text_tower().worst > 0.9999
        by_tower = [(hit.id, hit.score) for hit in images.search("a red car", k=3)]
        assert [id for id, _ in by_tower] == [id for id, _ in by_model]
    with closing(sqlite_utils.Database(path, execute_plugins=False)) as db:
        assert embedder_of(find_index(db.conn)).precision == "int8"


@pytest.mark.parametrize(("before", "after"), [("int8", "float32"), ("float32", "int8")])
def test_vectors_of_two_precisions_are_never_mixed(
    photos: Path, weights: Path, tmp_path: Path, before: str, after: str
):
    with Images(tmp_path / "photos.db") as images:
        images.embed([photos / "red.jpg"], model=MODEL, weights=weights, precision=before)
        with pytest.raises(
            ImageSearchError, match="precision int8, and its vectors are others; lea"
        ):
            images.embed([photos], precision=after)
        again = images.embed([photos], weights=weights, precision=after, replace_model=True)
        assert (again.embedded, again.device) == (3, f"cpu, {after}")
