"""Nothing reaches the network but what a person asked for, and a cache or a mirror is enough."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from datasette_image_search.embedders import registry
from datasette_image_search.embedders.protocol import EmbedderError, ModelRequest, WeightsMissing
from datasette_image_search.embedders.registry import load_embedder

from .commands import command, start
from .conftest import draw_picture
from .tiny_hub import MODEL, Hub, make_hub, serving

pytest.importorskip("transformers")


@dataclass(frozen=True)
class Machine:
    """A cache, two pictures and a database, what was asked of a mirror to embed them, and what was imported for that."""

    cache: Path
    folder: Path
    database: Path
    asked: tuple[str, ...]
    imported: frozenset[str]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serving(make_hub(tmp_path_factory.mktemp("hub"))) as hub:
        yield hub


@pytest.fixture(scope="module")
def machine(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine that has embedded with a model of a mirror."""
    work = tmp_path_factory.mktemp("machine")
    for colour in ("red", "blue"):
        draw_picture(work / "pictures" / f"{colour}.jpg", colour)
    cache, folder, database = work / "cache", work / "pictures", work / "photos.db"
    # These are read when huggingface_hub is imported.
    variables = {
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    with start(
        *("embed-images", database, "images", folder, "--model", MODEL, "-s"),
        env={**os.environ, **variables},
    ) as embedding:
        printed, said = embedding.communicate()
    imports = [line for line in said.splitlines() if line.startswith("import time:")]
    assert (embedding.returncode, len(imports)) == (0, len(said.splitlines())), said
    assert printed.startswith("2 embedded")
    return Machine(
        cache,
        folder,
        database,
        tuple(hub.asked),
        frozenset(line.rpartition(" ")[2] for line in imports),
    )


@pytest.fixture
def cache(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cache, for this process, which has loaded nothing of it yet."""
    monkeypatch.setattr(registry, "_loaded", {})
    copy = tmp_path / "cache"
    shutil.copytree(machine.cache, copy, symlinks=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(copy))
    return copy


def test_a_mirror_is_asked_for_weights_configuration_and_tokenizer(machine: Machine):
    for file in ("open_clip_model.safetensors", "tower/resolve", "tokenizer.json"):
        assert any(file in path for path in machine.asked)


def test_the_compiler_of_torch_is_not_imported(machine: Machine):
    """It takes a second."""
    assert {"open_clip", "timm.models", "torchvision"} <= machine.imported
    assert not {name for name in machine.imported if name.startswith("torch._dynamo")}


def test_what_is_cached_is_embedded_with_without_the_network(
    machine: Machine, cache: Path, no_network: None
):
    run = command(
        *("embed-images", machine.database, "images", machine.folder, "-s", "--replace-model")
    )
    assert run.output.startswith("2 embedded")


@pytest.mark.parametrize("offline", [False, True])
def test_what_is_cached_is_searched_with_without_the_network(
    machine: Machine,
    cache: Path,
    no_network: None,
    monkeypatch: pytest.MonkeyPatch,
    offline: bool,
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    run = command("search-images", machine.database, "images", "a red car", "--json")
    assert len(json.loads(run.output)) == 2


def test_words_are_told_apart(cache: Path, no_network: None):
    vectors = load_embedder(ModelRequest(MODEL, precision="float32")).encode_texts(
        ["a red car", "two dogs", "two dogs"]
    )
    assert vectors[1] @ vectors[2] == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] < 0.999


def test_a_search_without_the_weights_says_so_and_asks_nobody(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissing, match=f"weights of {MODEL} are not in the cache of this"):
        load_embedder(ModelRequest(MODEL, device="cpu", words_only=True))


@pytest.mark.parametrize(("lacking", "part"), [("tokens", "tokenizer"), ("tower", "text tower")])
def test_a_cache_without_the_words_is_one_sentence(
    cache: Path, no_network: None, lacking: str, part: str
):
    shutil.rmtree(cache / f"models--tiny--{lacking}")
    with pytest.raises(EmbedderError, match=f"the {part} of tiny/clip cannot be loaded; install"):
        load_embedder(ModelRequest(MODEL, device="cpu", words_only=True))


def test_a_file_of_the_cache_that_was_cut_short_is_named(cache: Path, no_network: None):
    (link,) = (cache / "models--tiny--clip").rglob("open_clip_model.safetensors")
    blob = link.resolve()
    blob.write_bytes(blob.read_bytes()[:-100])
    with pytest.raises(EmbedderError, match="check that the file is complete") as error:
        load_embedder(ModelRequest(MODEL, device="cpu"))
    # Its name only, as a page shows it to strangers too.
    assert repr(link.name) in str(error.value)
    assert str(link.parent) not in str(error.value)


def test_what_is_no_configuration_of_open_clip_is_named(cache: Path, no_network: None):
    (link,) = (cache / "models--tiny--clip").rglob("open_clip_config.json")
    link.resolve().write_text('{"architectures": ["ViTModel"]}')
    with pytest.raises(
        EmbedderError, match="is not a configuration of open_clip; check that tiny/cl"
    ):
        load_embedder(ModelRequest(MODEL, device="cpu"))
