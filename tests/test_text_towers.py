"""Words without torch: the exported text tower of an index, from the export to a search with it."""

from __future__ import annotations

from datasette_image_search.embedders import uncompiled  # noqa: F401

# isort: split
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import open_clip
import pytest
import sqlite_utils
from safetensors.torch import save_file

from datasette_image_search.api import Images
from datasette_image_search.embedders import tower_export as export_module
from datasette_image_search.embedders.protocol import Embedder, EmbedderError, ModelRequest
from datasette_image_search.embedders.registry import load_embedder
from datasette_image_search.embedders.text_tower import Described, NotATower, TextTower, metadata
from datasette_image_search.embedders.tower_export import export_tower
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.search import query as query_module
from datasette_image_search.search import text_towers, tower_export
from datasette_image_search.search.indexing import refresh_sidecars
from datasette_image_search.search.query import text_encoder_of
from datasette_image_search.search.sample_queries import sample_phrases
from datasette_image_search.store import find_index

from .commands import change, command, query
from .conftest import draw_picture
from .test_text_tokens import HARD
from .tiny_clip import ARCHITECTURE, CONFIG

MODEL = f"{ARCHITECTURE}/anything"
TOWER = "photos.db-image-search-1.text.onnx"


def words_of(weights: Path, model: str = MODEL) -> Embedder:
    return load_embedder(
        ModelRequest(model, weights, device="cpu", precision="float32", words_only=True)
    )


@pytest.fixture(scope="module")
def exported_once(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database and its exported text tower."""
    folder = tmp_path_factory.mktemp("exported")
    for colour in ("red", "green", "blue"):
        draw_picture(folder / "pictures" / f"{colour}.jpg", colour)
    with Images(folder / "photos.db") as images:
        images.embed([folder / "pictures"], model=MODEL, weights=weights)
        assert images.export_text_tower().worst > 0.9999
    return folder


@pytest.fixture
def database(exported_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported_once, tmp_path / "copy") / "photos.db"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without torch."""

    def load(request: ModelRequest) -> None:
        raise EmbedderError(f"{request.model_id} needs torch")

    monkeypatch.setattr(query_module, "load_embedder", load)


# --- The same vectors ------------------------------------------------------------------------------


def test_vectors_are_those_of_the_model(exported_once: Path, weights: Path):
    tower, model = TextTower((exported_once / TOWER).read_bytes()), words_of(weights)
    vectors = tower.encode_texts(HARD)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - model.encode_texts(HARD)).max() < 1e-5
    assert tower.logit_scale == model.logit_scale
    assert (tower.id, tower.fingerprint, tower.dimensions) == (MODEL, model.fingerprint, 32)


def test_a_siglip_reads_the_same_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its words are read in both directions, up to the last token, and it has a bias for scores."""
    config = CONFIG | {
        "custom_text": True,
        "init_logit_bias": -10,
        "text_cfg": CONFIG["text_cfg"]
        | {"context_length": 16, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    }
    path = tmp_path / "tiny-siglip.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    save_file(open_clip.create_model("tiny-siglip").state_dict(), tmp_path / "weights.safetensors")
    model = words_of(tmp_path / "weights.safetensors", "tiny-siglip/x")
    export_tower(model, tmp_path / "tower.onnx", quantize=False)
    tower = TextTower((tmp_path / "tower.onnx").read_bytes())
    assert np.abs(tower.encode_texts(HARD) - model.encode_texts(HARD)).max() < 1e-5


def test_quantized_it_is_smaller_and_nearly_the_same(database: Path):
    before = database.with_name(TOWER).stat().st_size
    result = command("export-text-tower", database, "images", "--quantize")
    assert result.exit_code == 0, result.output
    assert "of 200 texts, the cosine to the model is 0.99" in result.output
    assert len(sample_phrases()) == 200
    assert database.with_name(TOWER).stat().st_size < before / 2


# --- Searching -------------------------------------------------------------------------------------


def test_words_are_read_without_the_model(database: Path, no_model: None):
    with Images(database) as images:
        assert len(images.search("a red car", k=3)) == 3
        assert images.status()["problem"] is None
        (tagged,) = images.tag(["red", "green"])
        assert tagged.done == 3
        with pytest.raises(ImageSearchError, match=f"{MODEL} needs torch"):
            images.search(database.parent / "pictures" / "red.jpg")


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def changed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut_short, "is not the file that the database names"),
        (changed, "is not the file that the database names"),
        (Path.unlink, "is missing"),
        (folder_instead, "cannot be read"),
    ],
)
def test_a_file_that_is_not_the_exported_one_is_not_used(
    database: Path,
    harm: Callable[[Path], None],
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    harm(database.with_name(TOWER))
    with Images(database) as images:
        index = images.index_of()
        assert not isinstance(text_encoder_of(index), TextTower)
        assert f"{TOWER} {said}" in images.status()["problem"]
        monkeypatch.setattr(
            query_module, "load_embedder", lambda request: pytest.fail("a second answer")
        )
    assert caplog.text.count(said) == 1


def test_without_the_model_both_are_said(database: Path, no_model: None):
    database.with_name(TOWER).unlink()
    with Images(database) as images, pytest.raises(EmbedderError) as error:
        images.search("a red car")
    for part in (f"{TOWER} is missing", "sqlite-utils export-text-tower", f"{MODEL} needs torch"):
        assert part in str(error.value)


def test_a_tower_of_other_weights_is_not_used(database: Path, no_model: None):
    change(database, "update image_search_indexes set fingerprint = '0123456789abcdef'")
    with Images(database) as images, pytest.raises(EmbedderError, match="is of other weights"):
        images.search("a red car")


def described(**changed: object) -> str:
    known = Described(MODEL, "0" * 16, 4, 100.0, False, "lower", None)
    return json.dumps(json.loads(known.to_json()) | changed)


def model_file(description: str, *, external: bool = False) -> bytes:
    """A graph that adds two numbers, which may be in another file."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    helper = onnx.helper
    number = helper.make_tensor("b", onnx.TensorProto.FLOAT, [1], [1.0])
    if external:
        number.ClearField("float_data")
        number.data_location = onnx.TensorProto.EXTERNAL
        number.external_data.add(key="location", value="b.bin")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ac"]
    nodes = [helper.make_node("Add", ["a", "b"], ["c"])]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], [number])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    tokenizer = Tokenizer(WordLevel({"a": 0}, unk_token="a")).to_str()
    known = metadata(Described.of_json(described()), tokenizer) | {"image_search": description}
    helper.set_model_props(model, known)
    return model.SerializeToString()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"these are no weights",
        model_file(described(), external=True),
        model_file("[]"),
        model_file("{"),
        model_file(described(dimensions="4")),
        model_file(described(cleaning="no such")),
        model_file(described(more=1)),
    ],
)
def test_what_is_no_tower_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.bin").write_bytes(bytes(4))
    with pytest.raises(NotATower):
        TextTower(content)


def test_a_graph_of_another_kind_makes_no_vectors():
    with pytest.raises(EmbedderError, match="export it again"):
        TextTower(model_file(described())).encode_texts(["a"])


def features_file(features: np.ndarray, pattern: str | None = None) -> bytes:
    """A graph that says the same of all words, whose tokenizer cuts them by a pattern."""
    from tokenizers import Regex, Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    helper, kinds = onnx.helper, onnx.TensorProto
    tokenizer = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    if pattern is not None:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    node = helper.make_node("Identity", ["x"], ["c"])
    ends = [
        helper.make_tensor_value_info("a", kinds.INT64, [None, None]),
        helper.make_tensor_value_info("c", kinds.FLOAT, None),
    ]
    constant = onnx.numpy_helper.from_array(features.astype(np.float32), "x")
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:], [constant])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    known = metadata(Described.of_json(described(reads_to_end=True)), tokenizer.to_str())
    helper.set_model_props(model, known)
    return model.SerializeToString()


@pytest.mark.parametrize(
    "features", [np.float32(1), np.ones(4), np.zeros((1, 4)), np.array([[np.inf, 1, 1, 1]])]
)
def test_features_that_are_no_vectors_are_a_sentence(features: np.ndarray):
    tower = TextTower(features_file(np.asarray(features)))
    with pytest.raises(EmbedderError, match="export it again"):
        tower.encode_texts(["a"])


@pytest.mark.parametrize(("pattern", "text"), [(None, ""), (r"(x+x+)+y", "x" * 40)])
def test_words_that_a_tokenizer_fails_at_are_a_sentence(pattern: str | None, text: str):
    """It makes no tokens of them, or panics, which is no Exception."""
    tower = TextTower(features_file(np.ones((1, 4)), pattern))
    with pytest.raises(EmbedderError, match="cannot read words"):
        tower.encode_texts([text])


def test_a_file_that_is_too_large_is_not_read_to_its_end(
    database: Path, no_model: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(text_towers, "LARGEST", 1000)
    with Images(database) as images, pytest.raises(EmbedderError, match="is larger than any text"):
        images.search("a red car")


SERVED = """
import asyncio, json, sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "open_clip", "timm", "huggingface_hub", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())

from datasette.app import Datasette


async def get(path):
    datasette = Datasette([sys.argv[1]], settings={"sql_time_limit_ms": 60_000})
    page = await datasette.client.get(path)
    return page.text


print(json.dumps(asyncio.run(get("/photos.json?sql=select+image_search('a+red+car',3)&_shape=arrayfirst"))))
print(json.dumps(asyncio.run(get("/-/image-search/photos/images?q=a+red+car"))))
"""


def test_a_server_without_torch_finds_the_same(database: Path):
    with Images(database) as images:
        hits = images.search("a red car")
    done = subprocess.run(
        [sys.executable, "-c", SERVED, database], capture_output=True, text=True, check=True
    )
    rows, page = map(json.loads, done.stdout.splitlines()[-2:])
    (found,) = json.loads(rows)
    assert [hit["id"] for hit in json.loads(found)] == [hit.id for hit in hits]
    assert page.count('class="image-search-picture"') == 3


# --- Writing ---------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_file_of_before(database: Path, monkeypatch: pytest.MonkeyPatch):
    before = database.with_name(TOWER).read_bytes()

    def full(temporary: Path, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tower_export, "put_in_place", full)
    monkeypatch.setattr(
        export_module, "export_tower", lambda embedder, path, quantize: path.write_bytes(before)
    )
    named = query(database, "select text_tower from image_search_indexes")
    with Images(database) as images, pytest.raises(ImageSearchError, match="No space left"):
        images.export_text_tower()
    assert database.with_name(TOWER).read_bytes() == before
    assert query(database, "select text_tower from image_search_indexes") == named
    assert not list(database.parent.glob("*.tmp"))


def test_a_tower_of_other_vectors_is_not_kept(
    database: Path, exported_once: Path, monkeypatch: pytest.MonkeyPatch
):
    content = (exported_once / TOWER).read_bytes()
    monkeypatch.setattr(
        export_module, "export_tower", lambda embedder, path, quantize: path.write_bytes(content)
    )
    monkeypatch.setattr(
        TextTower, "encode_texts", lambda self, texts: np.eye(len(texts), 32, dtype=np.float32)
    )
    with Images(database) as images, pytest.raises(EmbedderError, match="without --quantize"):
        images.export_text_tower(quantize=True)
    assert not list(database.parent.glob("*.tmp"))


def test_models_without_such_a_tower_say_so(
    path: Path, folder: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Images(path) as images:
        images.embed([folder], model="palette")
        with pytest.raises(
            EmbedderError, match="palette cannot be exported: it is no model of open"
        ):
            images.export_text_tower()
    monkeypatch.setattr(export_module, "LARGEST", 1000)
    with pytest.raises(EmbedderError, match="a file of ONNX has 2 GB at most"):
        export_tower(words_of(weights), tmp_path / "tower.onnx", quantize=False)


def test_a_run_removes_the_tower_of_an_index_that_is_gone(database: Path):
    other = database.with_name("photos.db-image-search-7.text.onnx")
    other.write_bytes(b"of an index that was dropped")
    with closing(sqlite_utils.Database(database)) as db:
        refresh_sidecars(db, "images")
        assert not other.exists()
        assert isinstance(text_encoder_of(find_index(db.conn)), TextTower)
