"""Pictures that the tests draw, and databases made of them by the same code that people run."""

from __future__ import annotations

import fcntl
import gc
import os
import secrets
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlite_utils
from datasette.app import DEFAULT_SETTINGS, Datasette
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, settings
from PIL import Image, ImageDraw

from datasette_image_search import child_process
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.engines import places
from datasette_image_search.files import remote
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.search.indexing import refresh_sidecars
from datasette_image_search.search.sidecar import sidecar_path
from datasette_image_search.store import find_index, transactions
from datasette_image_search.web.server import starting

from .documents import draw_demo
from .faults.forked import Forker
from .only_ours import (
    START_WARM_UP,
    close,
    closed_in_the_end,
    forget_other_plugins,
    keep_apps,
    keep_metadata,
    keep_plugins,
    leave_cold,
    wait_for_decoders,
    wait_for_models,
)
from .quick_program import quick_program
from .serving import PATIENT_SETTINGS, datasette_of
from .tiny_clip import make_tiny_clip

_numbers = count()

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real photos, on machines that have them; tests that want them skip elsewhere."""


SLOW = """
    browser faults security test_album_pages test_api test_changed_tables test_cli
    test_cli_duplicates test_cli_embed test_cli_import test_cli_index test_cli_locate
    test_cli_models test_cli_progress test_cli_read test_cli_waiting test_cluster
    test_cluster_head test_cluster_worker test_database_files test_decode
    test_decoding_process test_demo test_duplicates_page test_eight_bits test_engines
    test_examples test_facets test_film_pages test_films test_freshness test_held_vectors
    test_image_page test_indexing test_lineage test_migrations test_offline test_open_clip
    test_own_images test_packaging test_permissions test_pictures test_planner test_private
    test_projection test_readme test_recipes test_recognition test_recorded_clip test_reuse
    test_s3 test_search_page test_side_tables test_sql_errors test_starting test_table_page
    test_tags test_text_tokens test_text_towers test_things test_timm test_torch_runtime test_umap_process
    test_uploads test_views
"""
"""Folders and modules with browsers, models, servers, processes, or much chance: not for --fast."""


SELDOM = {
    *("browser", "faults", "security"),
    *("test_pictures", "test_readme", "test_recipes", "test_uploads"),
}
"""Folders and modules of which a run of all tests on 1.0 takes a third, as they are slow."""


NOT_FOR_US = Path(__file__).with_name("not_for_us")
"""Modules that take the place of packages which the environment of tests has, and others have not."""

FIRST = (
    *("test_cluster", "test_readme", "test_recipes", "test_offline", "test_packaging"),
    *("test_cluster_head", "test_cli", "test_things", "test_hostile_databases"),
)
"""Modules with tests of ten seconds, which come first: as the last ones they would leave other processes with nothing to do."""


WITH_TORCH = (
    *("test_api", "test_cli_embed", "test_cli_import", "test_cli_models", "test_correction"),
    *("test_eight_bits", "test_open_clip", "test_pipeline", "test_preprocessing"),
    *("test_registry", "test_self_test", "test_starting", "test_text_tokens", "test_text_towers"),
    *("test_timm", "test_torch_runtime", "test_uncompiled", "test_vector_import"),
)
"""Modules that load torch in the process of the tests, for two seconds: they come next, so that one process has most of them."""


MEMORY = Path("/dev/shm")
"""Where a commit need not wait for a disk. What a killed process wrote is there as it is on any."""

ROOM = 3 * 2**30
"""Bytes that must be free in MEMORY: all tests at once need less."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only what takes no more than seconds")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What has none of the tests that are asked for is not imported either, which takes seconds."""
    if config.getoption("fast") and collection_path.stem in SLOW.split():
        return True
    if config.getoption("markexpr") == "datasette" and collection_path.match("test_*.py"):
        return "mark.datasette" not in collection_path.read_text(encoding="utf-8") or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.path.stem not in FIRST, item.path.stem not in WITH_TORCH))
    is_of_all = not any(Path(each).exists() for each in config.invocation_params.args)
    is_second = config.getoption("markexpr") == "datasette" and hasattr(Datasette, "allowed")
    if not (is_of_all and is_second) or "SOAK_MINUTES" in os.environ:
        return
    left_out = list(_left_out(items))
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


def _left_out(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """By FAULT_SEED: two thirds of SELDOM, and of all other tests every set of parameters but one."""
    chances = {item: Random(os.environ["FAULT_SEED"] + item.nodeid).random() for item in items}
    by_test: dict[str, list[pytest.Item]] = {}
    for item in items:
        if SELDOM & {item.path.stem, item.path.parent.name}:
            if chances[item] < 2 / 3:
                yield item
        else:
            by_test.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for of_test in by_test.values():
        yield from sorted(of_test, key=chances.__getitem__)[1:]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays, and need not be looked through for what may go."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        # What a test leaves goes with the next ones: seven hundred new objects are too few to look for it.
        gc.set_threshold(10_000)
        gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """More than processors: tests of servers, of kills and of locks wait more than they work."""
    return (os.cpu_count() or 1) * 3 // 2


def pytest_configure(config: pytest.Config) -> None:
    # A shell lets what it runs in the background ignore Ctrl-C, which some tests send to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No test fails because the machine is busy.
    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("patient", patient)
    settings.load_profile("patient")
    forget_other_plugins()
    keep_apps()
    keep_plugins()
    keep_metadata()
    leave_cold()
    wait_for_decoders()
    wait_for_models()
    DEFAULT_SETTINGS.update(PATIENT_SETTINGS)
    # UMAP compiles for 20 seconds, and places the few points of a test in some without.
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        # For what the tests start, not for the processes that run them.
        paths = [str(NOT_FOR_US), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    # Before there are other processes, so that all have the same.
    os.environ.setdefault("FAULT_SEED", str(secrets.randbelow(10**9)))
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_report_header() -> str:
    return f"FAULT_SEED={os.environ['FAULT_SEED']}"


def draw_picture(path: Path, colour: str, size: tuple[int, int] = (80, 60), **save) -> Path:
    """A picture of one colour with a grey dot in it, saved in the format that the suffix names."""
    picture = Image.new("RGB", size, colour)
    width, height = size
    ImageDraw.Draw(picture).ellipse((width // 3, height // 3, width // 2, height // 2), "gray")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **save)
    return path


def embed_into(database: Path, table: str, *paths: Path) -> Path:
    embed_images(EmbedRequest(database, table, paths, model="palette"))
    with closing(sqlite_utils.Database(database, execute_plugins=False)) as db:
        refresh_sidecars(db, table)
    return database


@pytest.fixture(scope="session")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied for each test: pictures/, photos.db and its sidecar."""
    place = tmp_path_factory.mktemp("drawn_once")
    for colour in COLOURS:
        draw_picture(place / "pictures" / f"{colour}.jpg", colour)
    embed_into(place / "photos.db", "images", place / "pictures")
    return place


@pytest.fixture(autouse=True, scope="module")
def no_server_yet() -> None:
    """A process that has served may read only what its configuration names, from then on."""
    places._served.clear()


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """
    A folder of a name that no other test of this process has: pytest gives the name of one that passed to the next, and what a
    process knows of a database, an index or an engine it knows by the path.
    """
    path = tmp_path / f"test-{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def datasettes() -> Iterator[None]:
    """Those of a test end with it."""
    with closed_in_the_end():
        yield


@pytest.fixture
def warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasettes read at their start what they need for the first searches, as they do for people."""
    monkeypatch.setattr(starting, "_start_warm_up", START_WARM_UP)


@pytest.fixture
def folder(drawn_once: Path, tmp_path: Path) -> Path:
    """A folder with a picture of each of COLOURS, named red.jpg and so on."""
    return shutil.copytree(drawn_once / "pictures", tmp_path / "pictures")


@pytest.fixture(scope="session")
def demo_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos of `make demo`, to be copied: the first process that wants them draws them for all."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    photos = place / "demo-photos"
    with (place / "demo-photos.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # It draws what is not there.
        draw_demo(photos)
    return photos


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for PATH with a sqlite-utils and a datasette that start in milliseconds."""
    with quick_program(tmp_path_factory.mktemp("program")) as folder:
        yield folder


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Starts processes that are there in milliseconds, to be killed."""
    forker = Forker()
    yield forker
    forker.close()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the model "tiny-test/anything", which take seconds to make."""
    return make_tiny_clip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test makes its database."""
    return tmp_path / "photos.db"


@pytest.fixture
def embed(tmp_path: Path) -> Callable[..., Path]:
    """embed(folder, ...) embeds with palette into a database, writes the sidecar, gives its path."""

    def embed(*paths: Path, table: str = "images", name: str = "photos.db") -> Path:
        return embed_into(tmp_path / name, table, *paths)

    return embed


@pytest.fixture
def database(drawn_once: Path, folder: Path, tmp_path: Path) -> Path:
    """photos.db with the table images of `folder`; ids are 1 to 8 in alphabetical order."""
    return copied_database(drawn_once, folder, tmp_path)


def copied_database(drawn_once: Path, folder: Path, place: Path) -> Path:
    for file in drawn_once.glob("photos.db*"):
        shutil.copy2(file, place)
    database = place / "photos.db"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("update image_search_roots set path = ?", [str(folder)])
    return database


@pytest.fixture(scope="module")
def of_colours(drawn_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Datasette]:
    """
    Serves what `database` is. The same for all tests of a module that only ask: to start one takes longer than most answers.
    They share a loop, too, loop_scope="module".
    """
    place = shutil.copytree(drawn_once, tmp_path_factory.mktemp("served"), dirs_exist_ok=True)
    datasette = datasette_of(place / "photos.db")
    yield datasette
    close(datasette)


@pytest.fixture
def db(database: Path) -> Iterator[sqlite_utils.Database]:
    db = sqlite_utils.Database(database, execute_plugins=False)
    yield db
    db.close()


@pytest.fixture
def palette() -> PaletteEmbedder:
    return PaletteEmbedder()


WITHOUT_SOCKETS = """
import socket, sys

def refuse(*args, **options):
    sys.exit("the network was touched")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
"""Python that ends its process when that opens a connection."""


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the network for anything fails the test; a process that decodes pictures fails with the picture."""

    def refuse(*args, **options):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(child_process, "_START", WITHOUT_SOCKETS + child_process._START)


def sidecar_of(database: Path, table: str = "images") -> Path:
    """Where the sidecar of a table is."""
    db = sqlite_utils.Database(database, execute_plugins=False)
    path = sidecar_path(database.resolve(), find_index(db.conn, table))
    db.close()
    return path


async def query_json(datasette: Datasette, sql: str, shape: str = "array", **params: str) -> Any:
    """What the JSON of Datasette's SQL page answers; it moved in 1.0."""
    path = "/photos/-/query.json" if hasattr(datasette, "allowed") else "/photos.json"
    response = await datasette.client.get(path, params={"sql": sql, "_shape": shape, **params})
    return response.json()


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """That of fsspec in memory, as memory://, empty and without long pauses between tries."""
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def bucket(storage: MemoryFileSystem, folder: Path) -> MemoryFileSystem:
    """The pictures of `folder` in memory://photos, half of them in 2020/."""
    for file in folder.iterdir():
        above = "2020/" if file.stem in ("blue", "green", "orange", "purple") else ""
        storage.pipe_file(f"/photos/{above}{file.name}", file.read_bytes())
    return storage


@pytest.fixture
def ctrl_c_after_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that comes during a commit is heard after it."""
    commit = transactions._commit

    def commit_and_hear(*arguments: Any) -> None:
        commit(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(transactions, "_commit", commit_and_hear)
