"""Imports go one way, and what is to be known in one place only is known there only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import datasette_image_search
from datasette_image_search.store.tables import INDEXES, LABEL_SETS, ROOTS

PACKAGE = Path(datasette_image_search.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

BASE = {"errors", "checked", "hookspecs", "quantities"}
MAY_IMPORT = {
    "errors": set(),
    "checked": {"errors"},
    "quantities": set(),
    "progress": set(),
    "child_process": set(),
    "hookspecs": set(),
    "files": BASE,
    "cluster": BASE,
    "metadata": set(),
    "decoding": {"child_process", "metadata", "files"} | BASE,
    "embedders": {"files"} | BASE,
    "engines": {"cluster", "files"} | BASE,
    "store": {"engines", "files", "metadata"} | BASE,
    "ingest": {"cluster", "decoding", "embedders", "store", "files"} | BASE,
    "search": {"progress", "child_process", "decoding", "embedders", "engines", "store", "files"}
    | BASE,
    "places": {"store"} | BASE,
    "reading": {"child_process", "decoding", "store", "files"} | BASE,
    "maps": {"progress", "search", "store"} | BASE,
    "runs": {"progress", "cluster", "ingest", "places", "reading", "search", "store", "files"}
    | BASE,
    "api": {
        "progress",
        "runs",
        "maps",
        "ingest",
        "places",
        "reading",
        "search",
        "embedders",
        "store",
        "files",
    }
    | BASE,
    "albums": {"api", "store"} | BASE,
    "sql": {"api", "search", "store"} | BASE,
    "web": {
        "api",
        "maps",
        "search",
        "decoding",
        "embedders",
        "engines",
        "store",
        "files",
        "metadata",
    }
    | BASE,
    "cli": {
        "progress",
        "albums",
        "api",
        "sql",
        "maps",
        "ingest",
        "places",
        "reading",
        "search",
        "decoding",
        "embedders",
        "engines",
        "store",
        "files",
    }
    | BASE,
    "__init__": {"api", "sql", "web", "errors"},
}
"""
Room -> rooms: cli, sql, web -> api -> maps -> ingest, places, reading, search -> decoding, embedders, store -> engines, cluster,
files, metadata. Ingest, places, reading and search stand side by side, and web ingests nothing.
"""


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def imports(file: Path) -> tuple[tuple[str, ...], ...]:
    """What a file imports, in whatever place, as the parts of absolute names."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[tuple[str, ...]]:
    package = ("datasette_image_search", *file.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(text_of(file))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)


def test_no_module_is_too_long_to_be_known():
    long = [
        file.relative_to(PACKAGE).as_posix()
        for file in MODULES
        if len(text_of(file).splitlines()) > 500
    ]
    assert long == []


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


def test_no_two_modules_import_each_other():
    """Not even in a circle of several, or within functions, or for their types only."""
    graph = {
        file: {module_of(name) for name in imports(file) if name[0] == PACKAGE.name} - {file}
        for file in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = [str(file.relative_to(PACKAGE)) for file in error.args[1]]
        pytest.fail(" imports ".join(reversed(circle)))


def module_of(name: tuple[str, ...]) -> Path:
    """The module of this package that an absolute name is, or is of."""
    path = PACKAGE.joinpath(*name[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file in MODULES:
            return file
    return module_of(name[:-1])


def test_what_takes_the_compiler_of_torch_along_is_imported_after_uncompiled():
    firsts = {
        file.relative_to(PACKAGE).as_posix(): [
            name[-1] == "uncompiled"
            for name in imports(file)
            if name[-1] == "uncompiled" or name[0] in ("open_clip", "timm", "torchvision")
        ][:1]
        for file in MODULES
    }
    assert firsts["embedders/open_clip.py"]
    assert [name for name, is_uncompiled in firsts.items() if is_uncompiled == [False]] == []


def test_only_the_commands_that_ingest_import_ingest():
    commands = {file.stem for file in MODULES if room_of(file) == "cli" and "ingest" in rooms(file)}
    assert commands == {"embedding", "importing"}


def rooms(file: Path) -> set[str]:
    return {name[1] for name in imports(file) if name[0] == PACKAGE.name}


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


def test_storage_elsewhere_is_known_to_one_module_only():
    wrong = [
        file.relative_to(PACKAGE).as_posix()
        for file in MODULES
        for name in imports(file)
        if name[0] == "fsspec"
    ]
    assert set(wrong) == {"files/remote.py"}


def test_the_names_of_tables_are_known_to_the_store_only():
    for table in (ROOTS, INDEXES, LABEL_SETS):
        assert {room_of(file) for file in MODULES if table in text_of(file)} == {"store"}


def test_a_search_is_composed_in_one_place_only():
    for call in ("live_index(", "query_vector(", "planner.search_live"):
        calling = [file for file in MODULES if call in text_of(file) and room_of(file) != "search"]
        assert set(calling) <= {PACKAGE / "api.py"}, call


def test_databases_are_opened_in_one_place_only():
    """sqlite3 and sqlite-utils open them; Datasette's own Database class is another thing."""
    opening = {"sqlite3.connect", "sqlite_utils.Database", "sqlite_utils.db.Database"}
    openers = {file for file in MODULES if opening & set(calls(file))}
    assert openers == {PACKAGE / "store" / "connections.py"}


def calls(file: Path) -> Iterator[str]:
    """What a file calls, by the names that the modules of other packages have for it."""
    nodes = list(ast.walk(ast.parse(text_of(file))))
    names = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in nodes:
        if isinstance(node, ast.Call):
            first, *others = ast.unparse(node.func).split(".")
            yield ".".join([names.get(first, first), *others])


def test_what_differs_between_datasettes_is_known_to_compat_only():
    asking = [file for file in MODULES if "hasattr(datasette" in text_of(file)]
    assert asking == [PACKAGE / "web" / "compat.py"]


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def test_tests_that_ask_a_datasette_are_marked():
    """`make test` runs those on both versions."""
    unmarked = [
        file.name
        for file in Path(__file__).parent.rglob("test_*.py")
        if asks_datasette(file) and "mark.datasette" not in text_of(file)
    ]
    assert unmarked == []


def asks_datasette(file: Path) -> bool:
    imported = {
        (node.module or "").partition(".")[0]: {alias.name for alias in node.names}
        for node in ast.walk(ast.parse(text_of(file)))
        if isinstance(node, ast.ImportFrom)
    }
    asking = imported.get("serving", set()) - {"HANGS", "Server", "ends", "is_running", "pictures"}
    return bool("datasette" in imported or asking)
