"""Text for people as tests read it: blocks of commands and SQL, and what is said to come of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import recipe_models

PROJECT = Path(__file__).parent.parent

_BLOCK = re.compile(r"^```(\w*) ?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIME = re.compile(r"in [\d.]+ s\b.*")
_DECIMAL = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Block:
    """`argument` is what stands after the language: the database of SQL that is not photos.db."""

    language: str
    argument: str
    text: str

    @property
    def is_output(self) -> bool:
        """Whether it is what the block before it prints."""
        return self.language in ("", "json")

    def run(self, folder: Path) -> str:
        """What it prints in a folder. It may not fail."""
        if self.language == "sql":
            database = self.argument or "photos.db"
            command = ["sqlite-utils", "query", database, self.text]
        else:
            assert self.language == "bash", self.text
            command = ["bash", "-euo", "pipefail", "-c", self.text]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def blocks_of(text: str) -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(text)]


def names_in_tables(text: str) -> set[str]:
    """What stands as code in the first column of any table."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(.+?)`", cell)}


def assert_prints(printed: str, shown: str) -> None:
    """The same, but for times, and for what another processor or JPEG library makes of decimals."""
    printed, shown = _TIME.sub("", printed), _TIME.sub("", shown)
    assert _DECIMAL.sub("0.0", printed) == _DECIMAL.sub("0.0", shown)
    numbers = [float(number) for number in _DECIMAL.findall(shown)]
    assert [float(number) for number in _DECIMAL.findall(printed)] == pytest.approx(
        numbers, rel=0.02, abs=0.002
    )


def draw_demo(folder: Path) -> Path:
    """The photos of `make demo`."""
    script = PROJECT / "demo" / "draw_photos.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return folder


def be_at_home(monkeypatch: pytest.MonkeyPatch, home: Path, program: Path, *packages: Path) -> None:
    """The environment of a person whose commands are these, with more packages installed."""
    monkeypatch.setenv("HOME", str(home))
    programs = [str(program), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(programs))
    path = [*filter(None, [os.environ.get("PYTHONPATH")]), str(PROJECT), *map(str, packages)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def install_recipe_models(site: Path) -> Path:
    """A folder for PYTHONPATH with a package that has the models of the recipes, as installed."""
    package = site / "recipe_models-1.dist-info"
    package.mkdir(parents=True)
    shutil.copy(Path(recipe_models.__file__), site / "recipe_models.py")
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: recipe-models\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[datasette_image_search]\nrecipes = recipe_models\n")
    return site
