"""The package in examples/ is installed, and goes the whole way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasette_image_search.embedders import registry

from .commands import command

EXAMPLE = Path(__file__).parent.parent / "examples" / "average-colour"

Run = Callable[..., subprocess.CompletedProcess]

PAGE = """
import asyncio, sys
from datasette.app import Datasette

datasette = Datasette([sys.argv[1]])
path = "/-/image-search/photos/images?q=" + sys.argv[2]
print(asyncio.run(datasette.client.get(path)).text)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which the example is installed."""
    work = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, work / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", work / "site", work / "source"], check=True
    )
    return work / "site"


@pytest.fixture
def run(site: Path) -> Run:
    def run(*arguments: object) -> subprocess.CompletedProcess:
        before = os.environ.get("PYTHONPATH")
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [before, str(site)]))},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_model_of_the_example_is_embedded_searched_and_shown(
    run: Run, folder: Path, tmp_path: Path
):
    database = tmp_path / "photos.db"
    tool = ("-m", "sqlite_utils")
    embedded = run(
        *tool, "embed-images", database, "images", folder, "--model", "average-colour", "-s"
    )
    assert embedded.stdout.startswith("8 embedded"), embedded.stderr

    found = run(*tool, "search-images", database, "images", "gold", "-k", "2", "--json")
    assert [hit["path"] for hit in json.loads(found.stdout)] == ["yellow.jpg", "orange.jpg"]

    page = run("-c", PAGE, database, "gold").stdout
    assert page.index("yellow.jpg") < page.index("orange.jpg") < page.index("blue.jpg")

    refused = run(*tool, "search-images", database, "images", "a cat")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: average-colour knows no colour 'a cat'; try one like")


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this process, which has loaded timm, whose models are looked through too."""
    monkeypatch.syspath_prepend(site)
    registry._factories.cache_clear()
    yield
    registry._factories.cache_clear()


@pytest.mark.usefixtures("installed")
def test_the_model_of_the_example_is_listed():
    listed = command("image-models", "average-colour", "--json")
    assert [model["id"] for model in json.loads(listed.stdout)] == ["average-colour"]
