"""Imports go one way, and what is to be known in one place only is known there only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import datasette_image_search
from datasette_image_search.store import INDEXES, ROOTS
from datasette_image_search.store.tables import LABEL_SETS

PACKAGE = Path(datasette_image_search.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

BASE = {"errors", "hookspecs"}
MAY_IMPORT = {
    "errors": set(),
    "hookspecs": set(),
    "embedders": BASE,
    "store": BASE,
    "ingest": {"embedders", "store"} | BASE,
    # A picture to search by is decoded as those that were embedded.
    "search": {"embedders", "store", "ingest"} | BASE,
    "maps": {"search", "store"} | BASE,
    "api": {"maps", "search", "ingest", "embedders", "store"} | BASE,
    "sql": {"api", "search", "store"} | BASE,
    "web": {"api", "maps", "search", "ingest", "embedders", "store"} | BASE,
    "cli": {"api", "sql", "maps", "search", "ingest", "embedders", "store"} | BASE,
    "__init__": {"sql", "web"},
}
"""Room -> rooms: cli, sql, web -> api -> maps -> ingest, search -> embedders, store."""


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(file: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports, in whatever place, as the parts of absolute names."""
    package = ("datasette_image_search", *file.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(text_of(file))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)


def test_every_room_has_its_place():
    assert {room_of(file) for file in MODULES} == set(MAY_IMPORT)


def test_imports_go_one_way():
    wrong = [
        (str(file.relative_to(PACKAGE)), ".".join(name))
        for file in MODULES
        for name in imports(file)
        if name[0] == PACKAGE.name and name[1] not in MAY_IMPORT[room_of(file)] | {room_of(file)}
    ]
    assert wrong == []


WEB = ("", "access", "server", "facets", "media", "pages", "datasette_pages")
"""The modules of web/ itself, then its packages: each imports from those before it."""


def test_within_the_web_imports_go_one_way_too():
    def place_in(parts: tuple[str, ...]) -> int:
        return WEB.index(parts[0] if parts[0] in WEB else "")

    wrong = [
        (str(file.relative_to(PACKAGE)), ".".join(name))
        for file in MODULES
        if room_of(file) == "web"
        for name in imports(file)
        if name[:2] == (PACKAGE.name, "web")
        and place_in(name[2:]) > place_in(file.relative_to(PACKAGE / "web").parts)
    ]
    assert wrong == []


def test_datasette_is_known_to_the_hooks_and_the_web_and_click_to_the_commands_only():
    assert rooms_that_import("datasette") == {"web", "__init__"}
    assert rooms_that_import("click") == {"cli"}


def rooms_that_import(package: str) -> set[str]:
    return {room_of(file) for file in MODULES for name in imports(file) if name[0] == package}


def test_the_names_of_tables_are_known_to_the_store_only():
    for table in (ROOTS, INDEXES, LABEL_SETS):
        assert {room_of(file) for file in MODULES if table in text_of(file)} == {"store"}


def test_a_search_is_composed_in_one_place_only():
    for call in ("live_index(", "query_vector(", "planner.search"):
        calling = [file for file in MODULES if call in text_of(file) and room_of(file) != "search"]
        assert calling == [PACKAGE / "api.py"], call


def test_what_differs_between_datasettes_is_known_to_compat_only():
    asking = [file for file in MODULES if "hasattr(datasette" in text_of(file)]
    assert asking == [PACKAGE / "web" / "compat.py"]


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")
