from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import open_clip
import pytest
import sqlite_utils
import torch
from PIL import Image

from datasette_image_search.embedders.protocol import Embedder, EmbedderError
from datasette_image_search.embedders.registry import (
    DEFAULT_MODEL,
    ModelRequest,
    load_embedder,
)
from datasette_image_search.ingest.pipeline import EmbedRequest, RunError, embed_images
from datasette_image_search.search import planner
from datasette_image_search.search.query import query_vector
from datasette_image_search.store import Index, find_index, image_vector

from .conftest import COLOURS, draw_picture
from .tiny_clip import ARCHITECTURE, add_architecture, make_tiny_clip

MODEL = f"{ARCHITECTURE}/anything"
TEXTS = ["a red car", "", "two dogs on a beach", "東京 🗼"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(weights: Path) -> Embedder:
    return load_embedder(ModelRequest(MODEL, weights=weights))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (4, 50, 70, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise] + [Image.new("RGB", (40, 40), "red")]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))


def picture_vectors(embedder: Embedder, pictures: list[Image.Image]) -> np.ndarray:
    return embedder.encode_images(np.stack([embedder.preprocess(p) for p in pictures]))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# --- The real path -------------------------------------------------------------------------------


def test_vectors_are_those_of_open_clip(tiny: Embedder, weights: Path, pictures: list[Image.Image]):
    model, _, transform = open_clip.create_model_and_transforms(
        ARCHITECTURE, pretrained=str(weights)
    )
    model.eval()
    with torch.inference_mode():
        images = model.encode_image(torch.stack([transform(p) for p in pictures])).numpy()
        texts = model.encode_text(open_clip.get_tokenizer(ARCHITECTURE)(TEXTS)).numpy()

    assert cosines(picture_vectors(tiny, pictures), images).min() > 0.99
    assert cosines(tiny.encode_texts(TEXTS), texts).min() > 0.99


def test_vectors_are_float32_of_unit_length(tiny: Embedder, pictures: list[Image.Image]):
    assert (tiny.id, tiny.dimensions, tiny.image_size) == (MODEL, 32, 32)
    for vectors in (picture_vectors(tiny, pictures), tiny.encode_texts(TEXTS)):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(vectors), 32)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_picture_has_the_same_vector_alone_and_in_a_batch(
    tiny: Embedder, pictures: list[Image.Image]
):
    together = picture_vectors(tiny, pictures)
    alone = np.concatenate([picture_vectors(tiny, [picture]) for picture in pictures])
    assert cosines(together, alone).min() > 0.999


def test_both_formats_of_weights_give_the_same_vectors(
    tiny: Embedder, tmp_path: Path, pictures: list[Image.Image]
):
    pickled = load_embedder(ModelRequest(MODEL, weights=make_tiny_clip(tmp_path, "tiny.pt")))
    assert picture_vectors(pickled, pictures) == pytest.approx(picture_vectors(tiny, pictures))


def test_other_weights_have_another_fingerprint(tiny: Embedder, weights: Path, tmp_path: Path):
    other = load_embedder(ModelRequest(MODEL, weights=make_tiny_clip(tmp_path, seed=1)))
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    same = load_embedder(ModelRequest(MODEL, weights=copy))

    assert other.fingerprint != tiny.fingerprint
    assert same.fingerprint == tiny.fingerprint


# --- From files to hits --------------------------------------------------------------------------


@pytest.fixture
def embedded(folder: Path, tmp_path: Path, weights: Path) -> sqlite_utils.Database:
    """`folder`, embedded with the tiny model."""
    path = tmp_path / "tiny.db"
    summary = embed_images(EmbedRequest(path, "images", [folder], MODEL, weights))
    assert (summary.embedded, summary.failures) == (len(COLOURS), ())
    with closing(sqlite_utils.Database(path, execute_plugins=False)) as db:
        yield db


def search(db: sqlite_utils.Database, index: Index, query: str, k: int = 8) -> list[planner.Hit]:
    vector = query_vector(db.conn, index, query).vector
    return list(planner.search(db.conn, index, vector, k).hits)


def test_words_find_what_is_closest_to_them(embedded: sqlite_utils.Database, tiny: Embedder):
    index = find_index(embedded.conn)

    hits = search(embedded, index, "a red car")

    text = tiny.encode_texts(["a red car"])[0]
    scores = {id: float(image_vector(embedded.conn, index, id) @ text) for id in range(1, 9)}
    assert [hit.id for hit in hits] == sorted(scores, key=lambda id: (-scores[id], id))
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores.values())[::-1], abs=1e-4)


def test_an_image_finds_itself_first(embedded: sqlite_utils.Database):
    hits = search(embedded, find_index(embedded.conn), "#3", k=2)
    assert (len(hits), hits[0].id) == (2, 3)
    assert hits[0].score == pytest.approx(1, abs=1e-4)


def test_the_next_run_finds_the_weights_by_itself(
    embedded: sqlite_utils.Database, folder: Path, tmp_path: Path, no_network: None
):
    draw_picture(folder / "pink.jpg", "pink")
    summary = embed_images(EmbedRequest(tmp_path / "tiny.db", "images", [folder]))
    assert (summary.embedded, summary.unchanged, summary.model) == (1, 8, MODEL)


def test_other_weights_for_a_table_are_refused(
    embedded: sqlite_utils.Database, folder: Path, tmp_path: Path
):
    draw_picture(folder / "pink.jpg", "pink")
    other = make_tiny_clip(tmp_path, "other.safetensors", seed=1)
    with pytest.raises(RunError, match=f"other weights of {MODEL}; use those"):
        embed_images(EmbedRequest(tmp_path / "tiny.db", "images", [folder], weights=other))


# --- What cannot be loaded -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "sentence"),
    [
        ("ViT-B-23/openai", "there is no model 'ViT-B-23/openai'; did you mean 'ViT-B-"),
        ("xyzzy", "there is no model 'xyzzy'; a model is 'palette', 'timm/NAME', or"),
        ("ViT-B-32/no-such-tag", "no weights 'no-such-tag' for ViT-B-32; it has .*ViT-B-32/openai"),
        ("ViT-B-32", "name the weights of ViT-B-32 too: .*ViT-B-32/laion2b_s34b_b79k"),
        (MODEL, f"the weights of {MODEL} are not published by open_clip; .*--weights FILE"),
    ],
)
def test_names_that_open_clip_does_not_have(
    weights: Path, no_network: None, model_id: str, sentence: str
):
    with pytest.raises(EmbedderError, match=sentence):
        load_embedder(ModelRequest(model_id, allow_download=True))


def text_file(path: Path) -> None:
    path.write_text("these are no weights")


def empty_file(path: Path) -> None:
    path.touch()


def weights_of_another_model(path: Path) -> None:
    torch.save(torch.nn.Linear(3, 3).state_dict(), path)


def half_a_download(path: Path) -> None:
    make_tiny_clip(path.parent, "whole.pt")
    whole = path.with_name("whole.pt").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "write", [text_file, empty_file, weights_of_another_model, half_a_download]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_holds_other_things_is_one_sentence(
    weights: Path, tmp_path: Path, write: Callable[[Path], None], suffix: str
):
    path = tmp_path / f"wrong{suffix}"
    write(path)
    with pytest.raises(EmbedderError, match=f"does not hold weights of {ARCHITECTURE}") as error:
        load_embedder(ModelRequest(MODEL, weights=path))
    assert repr(str(path)) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_weights_file_that_is_not_there_is_named(weights: Path, tmp_path: Path):
    with pytest.raises(EmbedderError, match=r"there is no weights file '.*missing\.pt'"):
        load_embedder(ModelRequest(MODEL, weights=tmp_path / "missing.pt"))


def test_the_default_model_without_its_weights_says_what_to_do(empty_cache: None, no_network: None):
    started = time.monotonic()
    with pytest.raises(EmbedderError, match="not in the cache") as error:
        load_embedder(ModelRequest(DEFAULT_MODEL))
    assert time.monotonic() - started < 5
    for part in (DEFAULT_MODEL, "--model palette", "--weights FILE"):
        assert part in str(error.value)


def test_a_device_that_is_not_there_is_one_sentence(weights: Path):
    for device in ("cuda:99", "no-such-device"):
        with pytest.raises(EmbedderError, match=f"cannot use the device '{device}'"):
            load_embedder(ModelRequest(MODEL, weights=weights, device=device))


def test_a_tokenizer_that_cannot_be_had_is_one_sentence(
    weights: Path, tmp_path: Path, empty_cache: None, no_network: None
):
    """As of all SigLIP models, whose tokenizer is on the hub and needs another package."""
    add_architecture(
        tmp_path, "tiny-with-tokenizer", hf_tokenizer_name="no-such-org/no-such-tokenizer"
    )
    with pytest.raises(EmbedderError, match="tokenizer"):
        load_embedder(ModelRequest("tiny-with-tokenizer/x", weights=weights))


def test_preprocessing_pickles_without_the_model(tiny: Embedder) -> None:
    """So that other processes and machines can decode."""
    pickled = pickle.dumps(tiny.preprocess)
    assert len(pickled) < 10_000
    picture = Image.new("RGB", (80, 60), "orange")
    assert np.array_equal(pickle.loads(pickled)(picture), tiny.preprocess(picture))
