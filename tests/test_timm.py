from __future__ import annotations

from datasette_image_search.embedders import uncompiled  # noqa: F401

# isort: split
import socket
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from datasette_image_search.embedders.protocol import EmbedderError, ModelRequest, TextNotUnderstood
from datasette_image_search.embedders.registry import load_embedder
from datasette_image_search.embedders.timm import load_timm
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

NAMES = ["test_vit", "test_resnet"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a model -> a file of random weights, with the head that published ones have."""
    folder = tmp_path_factory.mktemp("timm")
    paths = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in NAMES:
            paths[name] = folder / f"{name}.safetensors"
            save_file(timm.create_model(name).state_dict(), paths[name])
    return paths


@pytest.fixture
def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (3, 200, 240, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_become_pooled_features_of_unit_length(
    weights: dict[str, Path], pictures: list[Image.Image], name: str
):
    embedder = load_embedder(ModelRequest(f"timm/{name}", weights=weights[name]))
    model = timm.create_model(name, checkpoint_path=str(weights[name]), num_classes=1000)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    model.eval()
    model.reset_classifier(0)
    with torch.inference_mode():
        expected = model(torch.stack([transform(picture) for picture in pictures])).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)

    vectors = embedder.encode_images(np.stack([embedder.preprocess(p) for p in pictures]))

    assert (embedder.id, embedder.dimensions) == (f"timm/{name}", model.num_features)
    assert (vectors.shape, vectors.dtype) == ((3, model.num_features), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert (vectors * expected).sum(axis=1).min() > 0.99


def test_pictures_that_cannot_be_prepared_are_one_sentence(
    weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = timm.data.resolve_data_config
    monkeypatch.setattr(
        timm.data,
        "resolve_data_config",
        lambda **options: usual(**options) | {"interpolation": "foo"},
    )
    with pytest.raises(EmbedderError, match=r"for timm's test_vit as its preprocessing .*'foo'"):
        load_timm(ModelRequest("timm/test_vit", weights=weights["test_vit"]))


def test_a_folder_can_be_embedded(weights: dict[str, Path], folder: Path, tmp_path: Path):
    summary = embed_images(
        EmbedRequest(
            tmp_path / "photos.db", "images", [folder], "timm/test_vit", weights["test_vit"]
        )
    )
    assert (summary.embedded, summary.failures) == (8, ())


def test_words_are_refused_with_what_to_do_instead(weights: dict[str, Path]):
    embedder = load_embedder(ModelRequest("timm/test_vit", weights=weights["test_vit"]))
    with pytest.raises(TextNotUnderstood, match="timm/test_vit sees pictures only") as error:
        embedder.encode_texts(["a red car"])
    assert "'a red car'" in str(error.value)
    assert "#ID" in str(error.value)


def test_models_have_fingerprints_of_their_own(weights: dict[str, Path]):
    fingerprints = {
        load_embedder(ModelRequest(f"timm/{name}", weights=weights[name])).fingerprint
        for name in NAMES
    }
    assert len(fingerprints) == len(NAMES)


@pytest.mark.parametrize("name", ["no_such_model", "", "test_vit/", "résumé", "resnet18.x"])
def test_a_name_that_timm_does_not_have_is_named(name: str):
    with pytest.raises(EmbedderError, match=f"there is no model 'timm/{name}'"):
        load_embedder(ModelRequest(f"timm/{name}"))


def test_weights_of_another_model_are_refused(weights: dict[str, Path]):
    with pytest.raises(EmbedderError, match="does not hold weights of timm's test_vit"):
        load_embedder(ModelRequest("timm/test_vit", weights=weights["test_resnet"]))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, suffix: str):
    path = tmp_path / f"weights{suffix}"
    path.write_text("these are no weights")
    with pytest.raises(EmbedderError, match="does not hold weights of timm's test_vit"):
        load_embedder(ModelRequest("timm/test_vit", weights=path))


def test_without_weights_and_network_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*args, **options):
        raise AssertionError("the network was touched")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(EmbedderError, match="the weights of timm/test_vit are not in the cache"):
        load_embedder(ModelRequest("timm/test_vit"))


@pytest.mark.parametrize("classes", [0, 7])
def test_a_file_may_have_a_head_for_any_classes_or_none(tmp_path: Path, classes: int):
    """As a fine-tune has."""
    path = tmp_path / "tuned.safetensors"
    model = timm.create_model("test_resnet", num_classes=classes).eval()
    save_file(model.state_dict(), path)
    model.reset_classifier(0)
    inputs = np.random.default_rng(0).normal(size=(2, 3, 160, 160)).astype(np.float32)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model(torch.from_numpy(inputs))).numpy()
    embedder = load_embedder(ModelRequest("timm/test_resnet", weights=path, precision="float32"))
    assert embedder.encode_images(inputs) == pytest.approx(expected, abs=1e-4)


def test_the_backbone_is_not_read_for_words(weights: dict[str, Path], tmp_path: Path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights["test_vit"].read_bytes())
    embedder = load_embedder(ModelRequest("timm/test_vit", weights=copy, words_only=True))
    with pytest.raises(TextNotUnderstood):
        embedder.encode_texts(["a red car"])
    assert embedder._pictures is None
    assert embedder.dimensions == 64
