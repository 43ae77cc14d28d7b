from __future__ import annotations

from datasette_image_search.embedders import uncompiled  # noqa: F401

# isort: split
import json
import os
import pickle
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import sqlite_utils
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from datasette_image_search.embedders import open_clip as module
from datasette_image_search.embedders.model_ids import DEFAULT_MODEL
from datasette_image_search.embedders.open_clip import plan_of
from datasette_image_search.embedders.protocol import Embedder, EmbedderError, ModelRequest
from datasette_image_search.embedders.registry import load_embedder
from datasette_image_search.embedders.torch_embedder import TorchEmbedder
from datasette_image_search.ingest.pipeline import EmbedRequest, RunError, embed_images
from datasette_image_search.search.hits import Hit
from datasette_image_search.search.query import query_vector
from datasette_image_search.store import Index, find_index
from datasette_image_search.store.vectors import image_vector

from .conftest import COLOURS, draw_picture
from .planning import search_one
from .tiny_clip import ARCHITECTURE, CONFIG, add_architecture, make_tiny_clip

MODEL = f"{ARCHITECTURE}/anything"
TEXTS = ["a red car", "", "two dogs on a beach", "東京 🗼"]


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


def test_a_text_has_the_same_vector_alone_and_beside_a_longer_one(tiny: Embedder):
    texts = ["dog", "a very long description of a dog " * 20, "two dogs"]
    together = tiny.encode_texts(texts)
    alone = np.concatenate([tiny.encode_texts([text]) for text in texts])
    assert cosines(together, alone).min() > 0.999


# --- From files to hits --------------------------------------------------------------------------


@pytest.fixture
def embedded(folder: Path, tmp_path: Path, weights: Path) -> sqlite_utils.Database:
    """`folder`, embedded with the tiny model."""
    path = tmp_path / "tiny.db"
    summary = embed_images(EmbedRequest(path, "images", [folder], MODEL, weights))
    assert (summary.embedded, summary.failures) == (len(COLOURS), ())
    with closing(sqlite_utils.Database(path, execute_plugins=False)) as db:
        yield db


def search(db: sqlite_utils.Database, index: Index, query: str, k: int = 8) -> list[Hit]:
    vector = query_vector(db.conn, index, query).vector
    return list(search_one(db.conn, index, vector, k).hits)


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
        (
            "xyzzy",
            "there is no model 'xyzzy'; a model is 'things', 'palette', 'timm/NAME', 'hf-hub:",
        ),
        ("palete", "there is no model 'palete'; did you mean 'palette'?"),
        ("vit-b-32/OpenAi", "there is no model 'vit-b-32/OpenAi'; did you mean 'ViT-B-32/openai'?"),
        ("ViT-B-32/openia", "there is no model 'ViT-B-32/openia'; did you mean 'ViT-B-32/openai'?"),
        ("ViT-B-32/xyz", "no model 'ViT-B-32/xyz'; open_clip has ViT-B-32/openai, .*image-models"),
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
    assert repr(path.name) in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_weights_file_that_is_not_there_is_named(weights: Path, tmp_path: Path):
    with pytest.raises(EmbedderError, match=r"there is no weights file '.*missing\.pt'"):
        load_embedder(ModelRequest(MODEL, weights=tmp_path / "missing.pt"))


def test_the_words_that_tokens_are_remembered_of_are_few_and_short(
    tiny: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server is asked for new words for as long as it runs."""
    tokenizer = tiny._model.tokenizer
    monkeypatch.setattr(module, "MOST_WORDS", len(tokenizer.cache) + 3)
    texts = ["aardvark", "z" * 500, "basilisk", "chimera", "dromedary", "aardvark emu", "emu"]
    expected = open_clip.SimpleTokenizer(context_length=tokenizer.context_length)
    for text in texts:
        assert torch.equal(tokenizer([text]), expected([text]))
    remembered = set(tokenizer.cache)
    assert {"aardvark", "basilisk", "chimera"} <= remembered
    assert len(remembered) == module.MOST_WORDS
    assert not {"z" * 500, "dromedary", "emu"} & remembered


def test_the_default_model_without_its_weights_says_what_to_do(
    empty_cache: None, no_network: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it waits {seconds} s"))
    with pytest.raises(EmbedderError, match="not in the cache") as error:
        load_embedder(ModelRequest(DEFAULT_MODEL))
    for part in (DEFAULT_MODEL, "search by an image", "run embed-images", "HF_ENDPOINT"):
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


# --- Every kind of model that open_clip has ------------------------------------------------------

TINY_TIMM = {
    "image_size": 160,
    "timm_model_name": "test_vit",
    "timm_model_pretrained": False,
    "timm_pool": "",
    "timm_proj": "linear",
}

KINDS = {
    "tiny-resnet": {
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    },
    "tiny-custom": {"custom_text": True, "init_logit_bias": -10, "vision_cfg": TINY_TIMM},
    "tiny-coca": {
        "custom_text": True,
        "vision_cfg": CONFIG["vision_cfg"]
        | {"attentional_pool": True, "attn_pooler_heads": 2}
        | {"output_tokens": True},
        "text_cfg": CONFIG["text_cfg"]
        | {"embed_cls": True, "output_tokens": True}
        | {"context_length": 76},
        "multimodal_cfg": CONFIG["text_cfg"] | {"context_length": 76, "attn_pooler_heads": 2},
    },
    "tiny-quickgelu": {"quick_gelu": True},
}


@pytest.mark.parametrize("architecture", KINDS)
def test_other_kinds_have_the_vectors_of_open_clip_too(tmp_path: Path, architecture: str):
    path = tmp_path / f"{architecture}.json"
    path.write_text(json.dumps(CONFIG | KINDS[architecture]))
    open_clip.add_model_config(path)
    torch.manual_seed(0)
    model = open_clip.create_model(architecture).eval()
    weights = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), weights)
    size = model.visual.image_size[0] if architecture != "tiny-resnet" else 32
    inputs = np.random.default_rng(0).normal(size=(3, 3, size, size)).astype(np.float32)
    with torch.inference_mode():
        images = model.encode_image(torch.from_numpy(inputs)).numpy()
        texts = model.encode_text(open_clip.get_tokenizer(architecture)(TEXTS)).numpy()

    embedder = load_embedder(
        ModelRequest(f"{architecture}/x", weights=weights, precision="float32")
    )

    assert cosines(embedder.encode_images(inputs), images).min() > 0.9999
    assert cosines(embedder.encode_texts(TEXTS), texts).min() > 0.9999
    assert embedder.dimensions == 32


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"resize_mode": "other"}, "AssertionError"),
        ({"interpolation": "foo"}, "AssertionError"),
        ({"size": [64]}, "list index out of range"),
    ],
    ids=str,
)
def test_pictures_that_cannot_be_prepared_are_one_sentence_before_the_first_comes(
    weights: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict, said: str
) -> None:
    def planned(*args: str) -> module.Plan:
        plan = plan_of(*args)
        return replace(plan, preprocessing=plan.preprocessing | wrong)

    monkeypatch.setattr(module, "plan_of", planned)
    with pytest.raises(EmbedderError, match=f"preprocessing configuration says .{said}"):
        module.load_open_clip(ModelRequest(MODEL, weights=weights), [])
    # Words need no picture.
    embedder = module.load_open_clip(ModelRequest(MODEL, weights=weights, words_only=True), [])
    assert embedder.encode_texts(["a car"]).shape == (1, embedder.dimensions)


def test_preprocessing_is_that_of_the_tag():
    """SigLIP squashes, CLIP crops: the same architecture may do both."""
    squashed = plan_of("ViT-B-16-SigLIP", "webli").preprocessing
    cropped = plan_of("ViT-B-32", "openai").preprocessing
    assert (squashed["resize_mode"], squashed["mean"]) == ("squash", (0.5, 0.5, 0.5))
    assert (cropped["resize_mode"], cropped["interpolation"]) == ("shortest", "bicubic")
    assert plan_of("ViT-B-32", "openai").config["quick_gelu"] is True
    assert "quick_gelu" not in plan_of("ViT-B-32", "laion2b_s34b_b79k").config


@pytest.mark.parametrize(
    ("architecture", "tag"),
    [("ViT-B-16-SigLIP", "webli"), ("ViT-B-32", "openai"), ("RN50", "openai")],
)
def test_the_transform_is_open_clips_own(architecture: str, tag: str, monkeypatch, pictures):
    plan = plan_of(architecture, tag)
    published = open_clip.get_pretrained_cfg(architecture, tag)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *args, **options: "")
    config = CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | {"image_size": plan.image_size}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, architecture, config)
    _, _, transform = open_clip.create_model_and_transforms(
        architecture,
        image_mean=published["mean"],
        image_std=published["std"],
        image_interpolation=published["interpolation"],
        image_resize_mode=published["resize_mode"],
    )
    ours = image_transform_v2(PreprocessCfg(**plan.preprocessing), is_train=False)
    assert torch.equal(ours(pictures[0]), transform(pictures[0]))


# --- Towers --------------------------------------------------------------------------------------


def towers(embedder: Embedder) -> tuple[bool, bool]:
    """Whether the tower for pictures is in memory, and whether that for words is."""
    return embedder._pictures is not None, embedder._words is not None


def test_each_tower_is_read_when_it_is_needed(tmp_path: Path, pictures: list[Image.Image]):
    weights = make_tiny_clip(tmp_path, seed=2)
    embedder = load_embedder(ModelRequest(MODEL, weights=weights, words_only=True))
    assert towers(embedder) == (False, False)
    embedder.encode_texts(["a red car"])
    assert towers(embedder) == (False, True)
    assert load_embedder(ModelRequest(MODEL, weights=weights)) is embedder
    picture_vectors(embedder, pictures)
    assert towers(embedder) == (True, True)


def test_to_embed_pictures_no_words_are_read(tmp_path: Path):
    embedder = load_embedder(ModelRequest(MODEL, weights=make_tiny_clip(tmp_path, seed=3)))
    assert towers(embedder) == (True, False)


def test_half_precision_is_that_of_the_weights(tmp_path: Path):
    """Whichever is done first: the conversion or the reading."""
    weights = make_tiny_clip(tmp_path, seed=4)
    full, half = (
        load_embedder(ModelRequest(MODEL, weights=weights, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    for load in (TorchEmbedder.load_pictures, TorchEmbedder.load_words):
        expected = load(full).module.state_dict()
        found = load(half).module.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key].bfloat16()) for key in expected)
    assert half.logit_scale == full.logit_scale


def test_a_search_for_words_reads_no_pictures(embedded: sqlite_utils.Database, tmp_path: Path):
    copy = tmp_path / "copy.safetensors"
    index = find_index(embedded.conn)
    copy.write_bytes(Path(index.weights).read_bytes())
    query_vector(embedded.conn, index, "a red car", lambda index: copy)
    assert towers(load_embedder(ModelRequest(MODEL, weights=copy))) == (False, True)


def test_a_file_that_changes_in_between_is_refused(tmp_path: Path, pictures: list[Image.Image]):
    """Else the words of one model would search pictures of another."""
    weights = make_tiny_clip(tmp_path)
    embedder = load_embedder(ModelRequest(MODEL, weights=weights))
    picture_vectors(embedder, pictures)
    make_tiny_clip(tmp_path, "other.safetensors", seed=1).replace(weights)
    with pytest.raises(EmbedderError, match="has changed since this program was started"):
        embedder.encode_texts(["a red car"])
    assert len(picture_vectors(embedder, pictures)) == len(pictures)


class Harmful:
    """What a pickle may do when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_can_run_no_code(tmp_path: Path):
    path, trace = tmp_path / "weights.pt", tmp_path / "was here"
    torch.save({"state_dict": {"visual.proj": Harmful(trace)}}, path)
    make_tiny_clip(tmp_path)
    with pytest.raises(EmbedderError, match="does not hold weights"):
        load_embedder(ModelRequest(MODEL, weights=path))
    assert not trace.exists()


def test_other_weights_are_refused_by_a_search(embedded: sqlite_utils.Database, tmp_path: Path):
    other = make_tiny_clip(tmp_path, "other.safetensors", seed=1)
    with pytest.raises(
        EmbedderError, match=f"of {MODEL} with fingerprint .*search with the weights"
    ):
        query_vector(embedded.conn, find_index(embedded.conn), "a red car", lambda index: other)


def test_weights_that_were_replaced_are_noticed_by_who_has_them_loaded(
    embedded: sqlite_utils.Database, tmp_path: Path
):
    """And those that are put back, both without a restart."""
    index = find_index(embedded.conn)
    right = Path(index.weights)
    served = tmp_path / "served.safetensors"
    served.write_bytes(right.read_bytes())
    before = query_vector(embedded.conn, index, "a red car", lambda index: served).vector
    other = make_tiny_clip(tmp_path, "other.safetensors", seed=1)
    os.utime(other, ns=(0, served.stat().st_mtime_ns))
    assert other.stat().st_size == served.stat().st_size
    other.replace(served)
    with pytest.raises(EmbedderError, match=r"with fingerprint .*search with the weights"):
        query_vector(embedded.conn, index, "a red car", lambda index: served)
    served.write_bytes(right.read_bytes())
    after = query_vector(embedded.conn, index, "a red car", lambda index: served).vector
    assert np.array_equal(before, after)


def test_a_model_that_is_loaded_does_without_its_file(
    embedded: sqlite_utils.Database, tmp_path: Path
):
    index = find_index(embedded.conn)
    served = tmp_path / "served.safetensors"
    served.write_bytes(Path(index.weights).read_bytes())
    query_vector(embedded.conn, index, "a red car", lambda index: served)
    served.unlink()
    assert query_vector(embedded.conn, index, "a blue car", lambda index: served).vector.any()
