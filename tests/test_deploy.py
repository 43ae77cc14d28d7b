"""The recipe in examples/deploy/ asks for what this package asks for, less torch, and serves below a path."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .serving import datasette_of, get

pytestmark = pytest.mark.datasette

ROOT = Path(__file__).parent.parent
WITHOUT = {"huggingface-hub", "open-clip-torch", "timm", "torch"}


def required() -> tuple[list[str], list[str]]:
    """What setup.py asks for, and the extra `serve`."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (serve,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SERVE"
    )
    (always,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "install_requires"
    )
    return ast.literal_eval(always), ast.literal_eval(serve)


def test_the_requirements_are_those_of_the_package_less_torch():
    always, serve = required()
    file = ROOT / "examples" / "deploy" / "requirements-serve.txt"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert {line.partition(">")[0] for line in always} > WITHOUT
    assert lines == [each for each in always if each.partition(">")[0] not in WITHOUT] + serve


@pytest.mark.asyncio
async def test_all_links_are_below_the_path_of_the_proxy(database: Path):
    datasette = datasette_of(database, settings={"base_url": "/photos/"})
    page = await get(datasette, "/-/image-search/photos/images?q=red")
    links = [part.partition('"')[0] for part in page.text.split(' href="')[1:]]
    sources = [part.partition('"')[0] for part in page.text.split(' src="')[1:]]
    local = [link for link in links + sources if link.startswith("/")]
    assert len(local) > 20
    assert [link for link in local if not link.startswith("/photos/")] == []
