"""A machine without torch, open_clip and timm: all works that needs no model of theirs, and the rest says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasette_image_search.embedders.packages import PackageMissing, packages_needed

WITHOUT = """
import asyncio, json, sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "open_clip", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())

from click.testing import CliRunner
from datasette.app import Datasette
from sqlite_utils import Database
from sqlite_utils.cli import cli

database, folder = sys.argv[1:]
told = {}


def run(name, *arguments):
    result = CliRunner().invoke(cli, [str(each) for each in arguments])
    told[name] = [result.exit_code, result.output, repr(result.exception)]


run("embed", "embed-images", database, "images", folder, "--model", "palette", "-s")
run("words", "search-images", database, "images", "red", "-k", 1)
run("like", "search-images", database, "images", "#1", "-k", 1)
run("duplicates", "find-duplicates", database, "images")
run("index", "index-images", database, "images")
run("default", "embed-images", folder + ".db", "images", folder)
run("timm", "embed-images", folder + ".db", "images", folder, "--model", "timm/resnet18")
run("models", "image-models")
with Database(database) as db:
    db.execute("update image_search_indexes set model = 'ViT-B-32-256/datacomp_s34b_b86k'")


async def pages():
    datasette = Datasette([database])
    for name, path in (
        ("page", "/-/image-search/{}/images"),
        ("like page", "/-/image-search/{}/images?q=%231"),
        ("words page", "/-/image-search/{}/images?q=dog"),
        ("sql", "/{}.json?sql=select+image_similarity(id,'%231')+as+score+from+images&_shape=array"),
    ):
        page = await datasette.client.get(path.format("photos"))
        told[name] = [page.status_code, page.text, ""]


asyncio.run(pages())
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(drawn_once: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name -> exit code or status, output, and exception."""
    folder = tmp_path_factory.mktemp("without")
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, colour in enumerate([(200, 0, 0), (0, 0, 200)]):
        Image.new("RGB", (40, 30), colour).save(pictures / f"{number}.png")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, folder / "photos.db", pictures],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["embed", "words", "like", "duplicates", "index"])
def test_commands_work(told: dict[str, Any], name: str):
    code, output, exception = told[name]
    assert code == 0, output + exception


@pytest.mark.parametrize("name", ["page", "like page", "sql"])
def test_pages_work(told: dict[str, Any], name: str):
    status, text, _ = told[name]
    assert status == 200, text


@pytest.mark.parametrize(
    ("name", "package"),
    [("default", "open-clip-torch"), ("timm", "timm"), ("models", "open-clip-torch")],
)
def test_a_command_that_needs_a_package_names_it(told: dict[str, Any], name: str, package: str):
    code, output, _ = told[name]
    assert code == 1
    said = f"needs the package {package}, which is not installed; install it with: pip install {package}"
    assert said in output
    assert len(output.splitlines()) == 1


def test_the_page_names_it_too(told: dict[str, Any]):
    status, text, _ = told["words page"]
    assert status < 500
    assert "needs the package open-clip-torch, which is not installed" in text


def test_the_packages_of_others_are_theirs():
    with pytest.raises(ModuleNotFoundError), packages_needed("a model"):
        import no_such_package  # noqa: F401  # type: ignore[import-not-found]
    with pytest.raises(PackageMissing, match="a model needs the package torch"):  # noqa: SIM117
        with packages_needed("a model"):
            raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
