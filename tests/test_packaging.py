"""The source distribution is whole, and the wheel made of it works where nothing else is of this tree."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution, packages_distributions
from pathlib import Path

import datasette
import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .oldest_versions import oldest_versions
from .serving import HANGS, pictures, served

ROOT = Path(__file__).parent.parent
PACKAGE = "datasette_image_search"
# What .gitignore leaves out, hidden files, and what an editable install makes.
NOT_SOURCE = (
    "*.egg-info",
    "*.py[cod]",
    ".*",
    "__pycache__",
    "build",
    "dist",
    "photographs",
    "photos",
    "photos.db*",
)


@dataclass(frozen=True)
class Built:
    source: Path
    sdist: Path
    wheel: Path

    def files(self, folder: str = "") -> set[str]:
        """The files of a folder of the source tree, by their paths below its root."""
        found = (self.source / folder).rglob("*")
        return {path.relative_to(self.source).as_posix() for path in found if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """As a release is built: the sdist of the tree, and the wheel of the sdist."""
    work = tmp_path_factory.mktemp("built")
    source = work / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    files = {path for path in source.rglob("*") if path.is_file()}
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "dist", source]
    made = subprocess.run(build, cwd=work, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    for path in [path for path in source.rglob("*") if path.is_file() and path not in files]:
        path.unlink()
    (sdist,) = (work / "dist").glob("*.tar.gz")
    (wheel,) = (work / "dist").glob("*.whl")
    return Built(source, sdist, wheel)


@pytest.fixture
def distribution(built: Built) -> Iterator[Distribution]:
    """What the wheel says of itself."""
    with zipfile.ZipFile(built.wheel) as archive:
        (info,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        yield PathDistribution(zipfile.Path(archive, f"{info}/"))


@dataclass(frozen=True)
class Installed:
    """A Python with the wheel and what it requires, and without this tree."""

    site: Path
    elsewhere: Path
    python: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *arguments: object) -> str:
        done = subprocess.run(
            [*self.python, *map(str, arguments)],
            cwd=self.elsewhere,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    work = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", work / "site", built.wheel], check=True)

    # The environment of the tests less this package, which is installed there for development.
    # `-S` leaves its .pth files aside. sqlite-utils imports pandas if it is there, which nothing here wants.
    dependencies = work / "dependencies"
    dependencies.mkdir()
    # First the folder of the Datasette that is tested.
    folders = [
        Path(datasette.__file__).parents[1],
        *map(sysconfig.get_path, ("purelib", "platlib")),
    ]
    for entry in (entry for folder in folders for entry in Path(folder).iterdir()):
        link = dependencies / entry.name
        if not link.is_symlink() and not entry.name.startswith((PACKAGE, "__editable__", "pandas")):
            link.symlink_to(entry)

    (work / "elsewhere").mkdir()
    path = os.pathsep.join(map(str, (work / "site", dependencies)))
    return Installed(
        work / "site",
        work / "elsewhere",
        (sys.executable, "-S"),
        {**os.environ, "PYTHONPATH": path},
    )


def test_the_source_distribution_has_the_whole_tree(built: Built):
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert built.files() <= names


def test_the_wheel_has_the_package_and_nothing_else(built: Built):
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == built.files(PACKAGE)
    assert any(name.endswith("/LICENSE") for name in about)


def test_what_is_imported_is_required(built: Built, distribution: Distribution):
    required = {
        canonicalize_name(Requirement(line).name)
        for line in distribution.requires or ()
        if not line.endswith('extra == "test"')
    }
    providers = packages_distributions()
    for file in built.files(PACKAGE):
        if file.endswith(".py"):
            for module in imported(built.source / file) - sys.stdlib_module_names - {PACKAGE}:
                names = {canonicalize_name(name) for name in providers[module]}
                assert names & required, f"{file} imports {module}"


def test_each_requirement_says_which_version_is_the_oldest(distribution: Distribution):
    pinned = [each.partition("==")[0] for each in oldest_versions(distribution.requires or ())]
    assert len(pinned) == len(set(pinned)), "one package has several lowest versions"
    assert {"datasette", "torch", "pyarrow", "ray"} <= set(pinned)


def imported(file: Path) -> set[str]:
    """The packages that a file imports by their names."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_the_extras_are_those_that_the_readme_names(built: Built, distribution: Distribution):
    readme = (built.source / "README.md").read_text(encoding="utf-8")
    extras = set(distribution.metadata.get_all("Provides-Extra") or ()) - {"test"}
    installed = re.findall(r"pip install '\.\[([\w,]+)\]'", readme)
    named = {name for names in installed for name in names.split(",")}
    assert named <= extras
    assert {extra for extra in extras - named if f"| `{extra}` |" not in readme} == set()


def test_the_changelog_begins_with_this_version(built: Built, distribution: Distribution):
    changelog = (built.source / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == distribution.version


@pytest.mark.datasette
def test_the_wheel_is_embedded_searched_and_served_with(
    installed: Installed, folder: Path, tmp_path: Path
):
    where = installed.run("-c", f"import {PACKAGE}; print({PACKAGE}.__file__)")
    assert Path(where.strip()).parent == installed.site / PACKAGE

    database = tmp_path / "photos.db"
    tool = ("-m", "sqlite_utils")
    embedded = installed.run(
        *tool, "embed-images", database, "images", folder, "--model", "palette", "-s"
    )
    assert embedded.startswith("8 embedded")
    found = installed.run(*tool, "search-images", database, "images", "red", "-k", "1", "--json")
    assert [hit["path"] for hit in json.loads(found)] == ["red.jpg"]

    with served(
        database, python=installed.python, env=installed.environment, cwd=installed.elsewhere
    ) as server:
        page = httpx.get(f"{server.url}/-/image-search/photos/images?q=red", timeout=HANGS)
        assert pictures(page)[0] == "red.jpg"
        links = re.findall(r'(?:href|src)="([^"]*/image-search\.(?:css|js)[^"]*)"', page.text)
        for link, name in zip(links, ("image-search.css", "image-search.js"), strict=True):
            static = httpx.get(server.url + link)
            assert static.content == (ROOT / PACKAGE / "static" / name).read_bytes()
        thumbnail = httpx.get(server.url + re.search(r'src="([^"]+/thumbnail[^"]*)"', page.text)[1])
        assert thumbnail.headers["content-type"] == "image/webp"
