"""The README runs from top to bottom; it and the pages behind it show what commands print; links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from PIL import Image

from .commands import change
from .documents import (
    PROJECT,
    Block,
    assert_prints,
    be_at_home,
    blocks_of,
    install_recipe_models,
)
from .serving import HANGS, PATIENTLY, running

README = PROJECT / "README.md"
PAGES = sorted((PROJECT / "docs").glob("*.md"))

EMBED = Block("bash", "", "sqlite-utils embed-images photos.db images demo/photos --model palette")

LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")


def test_help_texts_are_current() -> None:
    check = [sys.executable, "-m", "cogapp", "--check", *map(str, PAGES)]
    result = subprocess.run(check, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"run: make docs\n{result.stdout}"


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), (path, anchor)


def anchors(page: Path) -> set[str]:
    """What headings are called in links."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def home(demo_photos: Path, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with demo/photos, where commands are at hand."""
    shutil.copytree(demo_photos, tmp_path / "demo" / "photos")
    be_at_home(monkeypatch, tmp_path, program)
    return tmp_path


@pytest.fixture(scope="module")
def embedded(demo_photos: Path, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What EMBED makes of a home, to be copied."""
    home = tmp_path_factory.mktemp("embedded")
    shutil.copytree(demo_photos, home / "demo" / "photos")
    with pytest.MonkeyPatch.context() as monkeypatch:
        be_at_home(monkeypatch, home, program)
        EMBED.run(home)
    return home


@pytest.fixture
def embedded_home(embedded: Path, home: Path) -> Path:
    """A home after EMBED."""
    for file in embedded.glob("photos.db*"):
        shutil.copy2(file, home)
    root = home / "demo" / "photos"
    change(home / "photos.db", f"update image_search_roots set path = '{root}'")
    return home


def examples(page: Path) -> list[tuple[Block, Block]]:
    """The blocks after which a page shows what they print, and that."""
    return [
        (block, output)
        for block, output in pairwise(blocks_of(page.read_text(encoding="utf-8")))
        if output.is_output and block.language in ("bash", "sql")
    ]


def run_as_shown(page: Path, home: Path) -> None:
    for block, output in examples(page):
        assert_prints(block.run(home), output.text)


@pytest.fixture
def clone(
    demo_photos: Path, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A clone of this project, installed, of a person with photos in ~/Pictures and the default model."""
    clone = tmp_path / "datasette-image-search"
    shutil.copytree(PROJECT / "demo", clone / "demo", ignore=shutil.ignore_patterns("photo*"))
    # It takes seconds to draw them, which the README asks for, and which is in test_demo.py.
    shutil.copytree(demo_photos, clone / "demo" / "photos")
    shutil.copytree(demo_photos, tmp_path / "Pictures")
    be_at_home(monkeypatch, tmp_path, program, install_recipe_models(tmp_path / "site"))
    return clone


@pytest.mark.datasette
def test_the_readme_runs_from_top_to_bottom(clone: Path) -> None:
    assert len(examples(README)) >= 7
    installed = README.read_text(encoding="utf-8").partition("\n## Quick start\n")[2]
    assert not re.search(r"^ {4}", re.sub(r"^```.*?^```$", "", installed, flags=re.M | re.S), re.M)
    blocks = blocks_of(installed)
    for block, output in zip(blocks, [*blocks[1:], None], strict=True):
        if block.is_output:
            continue
        served = re.search(r"^datasette .*$", block.text, re.MULTILINE)
        text = block.text.replace(served[0], "") if served else block.text
        printed = replace(block, text=text).run(clone)
        if output is not None and output.is_output:
            assert_prints(printed, output.text)
        if served:
            with running([*shlex.split(served[0]), *PATIENTLY], cwd=clone) as server:
                page = httpx.get(
                    f"{server.url}/-/image-search", follow_redirects=True, timeout=HANGS
                )
            assert page.status_code == 200
            assert page.url.path.endswith("/images")


def test_examples_of_tagging_print_what_it_shows(embedded_home: Path) -> None:
    run_as_shown(PROJECT / "docs" / "tagging.md", embedded_home)


def test_examples_of_albums_print_what_it_shows(embedded_home: Path) -> None:
    run_as_shown(PROJECT / "docs" / "albums.md", embedded_home)


def test_examples_of_the_map_print_what_it_shows(embedded_home: Path) -> None:
    run_as_shown(PROJECT / "docs" / "map.md", embedded_home)


def test_examples_of_sql_print_what_it_shows(embedded_home: Path) -> None:
    run_as_shown(PROJECT / "docs" / "sql.md", embedded_home)


def test_examples_of_duplicates_print_what_it_shows(home: Path) -> None:
    # As the page says: a copy and a smaller version.
    photos = home / "demo" / "photos"
    (photos / "sent").mkdir()
    shutil.copy(photos / "garden" / "blue anemones.jpg", photos / "sent")
    with Image.open(photos / "2020 New York" / "blue night.jpg") as picture:
        picture.resize((270, 270)).save(photos / "sent" / "for the family.jpg", quality=75)
    EMBED.run(home)
    run_as_shown(PROJECT / "docs" / "duplicates.md", home)
