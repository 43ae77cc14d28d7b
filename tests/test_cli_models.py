from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasette_image_search.embedders import open_clip_models
from datasette_image_search.embedders.catalogue import RECOMMENDED, listed_models
from datasette_image_search.embedders.model_ids import DEFAULT_MODEL
from datasette_image_search.embedders.open_clip_models import tag_files

from .commands import command
from .late import Late

module = Late("datasette_image_search.embedders.open_clip")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def models(*arguments: str) -> dict[str, dict]:
    result = command("image-models", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return {model["id"]: model for model in json.loads(result.stdout)}


def put_in_cache(cache: Path, repo_id: str, filename: str, size: int) -> None:
    folder = cache / f"models--{repo_id.replace('/', '--')}"
    path = folder / "snapshots" / "abc" / filename
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")


def test_a_model_is_listed_with_what_is_known_of_it(cache: Path):
    put_in_cache(cache, *tag_of("ViT-B-16-SigLIP-384", "webli"), size=1000)
    model = models("b-16-siglip-384")["ViT-B-16-SigLIP-384/webli"]
    assert model == {
        "id": "ViT-B-16-SigLIP-384/webli",
        "dimensions": 768,
        "image_size": 384,
        "words": True,
        "download": 1000,
        "cached": True,
        "recommended": None,
        "licence": None,
    }


def tag_of(architecture: str, tag: str) -> tuple[str, str]:
    repo_id, filenames = tag_files(architecture, tag)
    return repo_id, filenames[0]


def test_picture_only_models_say_so():
    listed = models("timm/vgg16")
    assert {"timm/vgg16.tv_in1k", "timm/vgg16_bn.tv_in1k"} <= listed.keys()
    model = listed["timm/vgg16.tv_in1k"]
    assert (model["words"], model["dimensions"], model["image_size"]) == (False, 4096, 224)
    assert (model["download"], model["cached"]) == (None, False)


def test_the_recommended_come_first_with_a_sentence_and_a_licence():
    listed = list(models("--all").values())
    count = len(RECOMMENDED)
    assert [model["id"] for model in listed[:count]] == [each.model_id for each in RECOMMENDED]
    assert listed[0]["id"] == DEFAULT_MODEL
    assert all(model["recommended"] and model["licence"] for model in listed[:count])
    assert not any(model["recommended"] for model in listed[count:])


@pytest.mark.parametrize(
    "model_id", [each.model_id for each in RECOMMENDED if "/" in each.model_id]
)
def test_what_is_recommended_is_published_and_as_large_as_it_says(model_id: str):
    import open_clip
    import torch

    (model,) = (model for model in listed_models(model_id) if model.id == model_id)
    config = module.plan_of(*model_id.split("/")).config
    towers = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    with torch.device("meta"):
        made = open_clip.CustomTextCLIP(**towers)
    parameters = sum(parameter.numel() for parameter in made.parameters())
    assert model.download == pytest.approx(4 * parameters, rel=0.01)


def test_people_get_what_is_recommended_and_where_the_rest_is():
    output = command("image-models").stdout
    assert output.startswith(f"{DEFAULT_MODEL}\n    The default: ")
    assert "ViT-L-14/openai" not in output
    assert len(output.splitlines()) < 24
    assert output.endswith("\nAll others: sqlite-utils image-models --all\n")
    assert models().keys() == {each.model_id for each in RECOMMENDED}


def test_people_get_a_table_of_all_if_they_ask():
    output = command("image-models", "--all").stdout
    assert output.startswith(f"{DEFAULT_MODEL}\n    The default: ")
    assert "ViT-L-14/openai" in output
    assert "picture-only models of timm: sqlite-utils image-models timm" in output
    assert "\ntimm/" not in output


WITHOUT_TORCH = """
import json, sys
from dataclasses import astuple
from datasette_image_search.embedders.catalogue import check_model, known_dimensions, listed_models

check_model("ViT-B-32/openai")
models = [astuple(model)[:4] for model in listed_models(with_timm=False) if model.dimensions]
dimensions = {id: known_dimensions(id) for id, *_ in models if "/" in id}
loaded = [name for name in ("torch", "open_clip", "timm") if name in sys.modules]
print(json.dumps([models, dimensions, loaded]))
"""


def test_what_open_clip_has_is_known_without_loading_it():
    import open_clip

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True
    )
    models, dimensions, loaded = json.loads(done.stdout)
    expected = {}
    for architecture, tag in open_clip.list_pretrained():
        plan = module.plan_of(architecture, tag)
        expected[f"{architecture}/{tag}"] = (plan.dimensions, plan.image_size)
    assert {id: (d, size) for id, d, size, _ in models if "/" in id} == expected
    assert dimensions == {id: d for id, (d, _) in expected.items()}
    assert loaded == []


MEANWHILE = """
import json, sys
from importlib.util import find_spec
from datasette_image_search.embedders.open_clip_models import all_published

found = {}

class Watching:
    def find_spec(self, name, *where):
        if name.startswith("_open_clip_names."):
            # None where importing it would fail.
            found[name] = find_spec("safetensors.torch") is not None

sys.meta_path.insert(0, Watching())
all_published()
print(json.dumps([found, "torch" in sys.modules]))
"""


def test_other_threads_may_import_what_is_done_without():
    done = subprocess.run(
        [sys.executable, "-c", MEANWHILE], capture_output=True, text=True, check=True
    )
    found, torch_is_loaded = json.loads(done.stdout)
    assert found["_open_clip_names.constants"]
    assert set(found.values()) == {True}
    assert not torch_is_loaded


NAMES = """
import json
from datasette_image_search.embedders.open_clip_models import all_published, architectures

print(json.dumps([architectures(), all_published()]))
"""


def test_it_is_the_same_once_open_clip_is_loaded():
    import open_clip

    done = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True, check=True)
    before, published = json.loads(done.stdout)
    loaded = open_clip_models.architectures()
    assert loaded == open_clip.list_models()
    # Other tests of this process have added some.
    configs = Path(open_clip.__file__).with_name("model_configs")
    assert before == [name for name in loaded if (configs / f"{name}.json").exists()]
    assert open_clip_models.all_published() == open_clip.list_pretrained()
    assert list(map(tuple, published)) == open_clip.list_pretrained()


def test_the_text_may_be_in_what_is_said_of_a_model():
    assert "ViT-B-16-SigLIP2-256/webli" in models("many languages")


def test_a_text_that_no_model_has_is_one_sentence():
    result = command("image-models", "xyzzy")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: no model has 'xyzzy' in its name; sqlite-utils image-models --all lists them all\n",
    )
    assert models("xyzzy") == {}
