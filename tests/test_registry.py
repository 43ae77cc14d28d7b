from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.embedders.protocol import EmbedderError, ModelRequest
from datasette_image_search.embedders.registry import load_embedder

PLUGIN = '''
"""What another package needs to add a model: this module, and an entry point that names it."""

import threading
import time

import numpy as np

from datasette_image_search.embedders.protocol import Embedder
from datasette_image_search.hookspecs import hookimpl

loads = []


class MeanColour(Embedder):
    fingerprint = "mean-colour-1"
    dimensions = 3
    image_size = 8

    def __init__(self, request, registered_as):
        loads.append(request.model_id)
        time.sleep(0.1)
        self.id = request.model_id
        self.registered_as = registered_as

    def preprocess(self, picture):
        return np.asarray(picture.resize((1, 1)), dtype=np.float32).reshape(3) + 1

    def encode_images(self, inputs):
        return inputs / np.linalg.norm(inputs, axis=1, keepdims=True)


@hookimpl
def register_image_embedders(register):
    for name in ("mean", "mean/", "mean/deep/", "mean/deep/exactly", "timm/mean/"):
        register(name, lambda request, name=name: MeanColour(request, name))
'''


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Any]:
    """python(code, ...) runs code where the package of PLUGIN is installed; gives what it prints."""
    site = tmp_path / "site"
    info = site / "mean_colour-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mean-colour\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[datasette_image_search]\nmean = mean_colour\n")
    (site / "mean_colour.py").write_text(PLUGIN)

    def python(code: str, *arguments: Path | str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return python


def test_a_folder_is_embedded_with_the_model_of_another_package(
    python: Callable[..., Any], folder: Path, tmp_path: Path
):
    code = """
import json, sqlite3, sys
from pathlib import Path
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.store import find_index
from datasette_image_search.store.vectors import vector_batches

database, folder = map(Path, sys.argv[1:])
summary = embed_images(EmbedRequest(database, "images", [folder], "mean/colour"))
conn = sqlite3.connect(database)
index = find_index(conn)
(stored,) = vector_batches(conn, index)
print(json.dumps([summary.embedded, index.model, index.fingerprint, stored.vectors.shape]))
"""
    assert python(code, tmp_path / "photos.db", folder) == [
        8,
        "mean/colour",
        "mean-colour-1",
        [8, 3],
    ]


def test_a_model_of_another_package_that_has_no_words_says_so(python: Callable[..., Any]):
    code = """
import json
from datasette_image_search.embedders.protocol import TextNotUnderstood
from datasette_image_search.embedders.protocol import ModelRequest
from datasette_image_search.embedders.registry import load_embedder

try:
    load_embedder(ModelRequest("mean")).encode_texts(["a red car"])
except TextNotUnderstood as error:
    print(json.dumps(str(error)))
"""
    assert "mean sees pictures only and cannot read 'a red car'" in python(code)


def test_the_longest_name_that_fits_is_taken(python: Callable[..., Any]):
    code = """
import json
from datasette_image_search.embedders.protocol import ModelRequest
from datasette_image_search.embedders.registry import load_embedder

ids = ["mean", "mean/a", "mean/deep/a", "mean/deep/exactly", "mean/deep/exactly/not", "timm/mean/a"]
print(json.dumps({id: load_embedder(ModelRequest(id)).registered_as for id in ids}))
"""
    assert python(code) == {
        "mean": "mean",
        "mean/a": "mean/",
        "mean/deep/a": "mean/deep/",
        "mean/deep/exactly": "mean/deep/exactly",
        "mean/deep/exactly/not": "mean/deep/",
        "timm/mean/a": "timm/mean/",
    }


def test_eight_threads_share_one_model_that_is_loaded_once(python: Callable[..., Any]):
    code = """
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from datasette_image_search.embedders.protocol import ModelRequest
from datasette_image_search.embedders.registry import load_embedder

together = Barrier(8)

def load(number):
    together.wait()
    return load_embedder(ModelRequest("mean"))

with ThreadPoolExecutor(8) as executor:
    embedders = list(executor.map(load, range(8)))

import mean_colour
print(json.dumps([len(set(map(id, embedders))), mean_colour.loads]))
"""
    assert python(code) == [1, ["mean"]]


def test_a_model_is_loaded_once():
    first = load_embedder(ModelRequest("palette"))
    assert isinstance(first, PaletteEmbedder)
    assert load_embedder(ModelRequest("palette")) is first
    assert load_embedder(ModelRequest("palette", allow_download=True)) is first


def test_a_model_that_could_not_be_loaded_is_tried_again(tmp_path: Path):
    request = ModelRequest("timm/test_vit", weights=tmp_path / "weights.pt")
    with pytest.raises(EmbedderError, match="there is no weights file"):
        load_embedder(request)
    request.weights.write_text("these are no weights")
    with pytest.raises(EmbedderError, match="does not hold weights"):
        load_embedder(request)


@pytest.mark.parametrize("model_id", ["Palette", "palette/", "palettes", "", "/", "timm"])
def test_what_nobody_has_registered_is_no_model(model_id: str):
    with pytest.raises(EmbedderError, match=f"there is no model '{model_id}'"):
        load_embedder(ModelRequest(model_id))


def test_palette_takes_no_weights(tmp_path: Path):
    with pytest.raises(EmbedderError, match="palette is built in and has no weights"):
        load_embedder(ModelRequest("palette", weights=tmp_path / "weights.pt"))


@pytest.mark.parametrize(("option", "asked"), [("device", "cuda"), ("precision", "float16")])
def test_palette_does_not_pretend_to_compute_otherwise(option: str, asked: str):
    with pytest.raises(EmbedderError, match=f"computes with .* only; leave --{option} {asked} out"):
        load_embedder(ModelRequest("palette", **{option: asked}))
    same = {"device": "cpu", "precision": "float32"}
    assert load_embedder(ModelRequest("palette", **same)).dimensions


def test_importing_the_registry_imports_no_torch():
    code = """
import sys
from datasette_image_search.embedders.protocol import ModelRequest
from datasette_image_search.embedders.registry import load_embedder
load_embedder(ModelRequest("palette"))
sys.exit("torch" in sys.modules or "datasette" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_not_here_is_told_without_torch_which_takes_seconds(
    python: Callable[..., Any], tmp_path: Path
):
    code = """
import json, sys
from pathlib import Path
from huggingface_hub import constants
from datasette_image_search.embedders.protocol import EmbedderError, ModelRequest
from datasette_image_search.embedders.registry import load_embedder

constants.HF_HUB_CACHE, absent = sys.argv[1:]
requests = [
    ModelRequest("ViT-B-32/openai"),
    ModelRequest("hf-hub:somebody/some-model"),
    ModelRequest("ViT-B-32/mine", Path(absent)),
    ModelRequest("timm/resnet18", Path(absent)),
    ModelRequest("timm/../resnet18"),
]
said = []
for request in requests:
    try:
        load_embedder(request)
    except EmbedderError as error:
        said.append(str(error).partition(";")[0])
print(json.dumps([said, "torch" in sys.modules]))
"""
    said, with_torch = python(code, tmp_path, tmp_path / "absent.pt")
    assert said == [
        "the weights of ViT-B-32/openai are not in the cache of this machine",
        "the weights of hf-hub:somebody/some-model are not in the cache of this machine",
        "there is no weights file 'absent.pt'",
        "there is no weights file 'absent.pt'",
        "there is no model 'timm/../resnet18'",
    ]
    assert not with_torch
