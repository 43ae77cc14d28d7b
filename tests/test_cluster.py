"""
Runs on a Ray cluster of two nodes, both on this machine, beside the same run without one. CLUSTER_PICTURES=2000 takes
more pictures, and some minutes.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlite_utils import Database

from datasette_image_search.api import Images
from datasette_image_search.cluster import head, nodes
from datasette_image_search.embedders import registry
from datasette_image_search.engines import lance, lance_on_ray, places
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.ingest import batches
from datasette_image_search.ingest import cluster as module
from datasette_image_search.ingest.own_images import OwnImage
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.ingest.report import Progress, Summary

from .commands import query
from .conftest import draw_picture
from .random_tables import add_images, random_vectors
from .ray_processes import CLUSTER, kill_all
from .serving import HANGS

PLUGIN = '''
import os, signal, time
from pathlib import Path
import numpy as np
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.hookspecs import hookimpl
from datasette_image_search.ingest import batches

# On a busy machine a batch is committed before it is full, and its vectors differ by rounding.
batches.COMMIT_SECONDS = 600
HERE = Path(__file__).parent


def taken(name):
    try:
        (HERE / name).unlink()
    except FileNotFoundError:
        return False
    return True


def preprocess(picture):
    """Ends its process for a file called "once", and for each magenta picture; waits while there is one called "hold"."""
    if taken("once"):
        os.kill(os.getpid(), signal.SIGKILL)
    while (HERE / "hold").exists():
        time.sleep(0.05)
    if picture.getpixel((0, 0)) == (255, 0, 255):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.005)
    return PaletteEmbedder.preprocess(picture)


class Fatal(PaletteEmbedder):
    id = "fatal"
    preprocess = staticmethod(preprocess)


def load(request):
    """Not on the nodes while there is a file called "slow"; never in the process that takes one called "late"."""
    if taken("late"):
        time.sleep(3600)
    slow = HERE / "slow"
    while slow.exists() and slow.read_text() != str(os.getpid()):
        time.sleep(0.05)
    return Fatal()


@hookimpl
def register_image_embedders(register):
    register("fatal", load)
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the package with the model "fatal" is installed, for this process and those that it starts."""
    site = tmp_path_factory.mktemp("site")
    info = site / "fatal-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fatal\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[datasette_image_search]\nfatal = fatal\n")
    (site / "fatal.py").write_text(PLUGIN)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(site)
        paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        monkeypatch.setattr(batches, "COMMIT_SECONDS", HANGS)
        # A busy machine starts them late.
        monkeypatch.setattr(module, "JOIN_SECONDS", HANGS)
        registry._factories.cache_clear()
        yield site
    registry._factories.cache_clear()


@contextmanager
def limited() -> Iterator[None]:
    """What waits for Ray without an end raises TimeoutError, and does not keep all other tests waiting."""

    def fail(*signalled: object) -> None:
        raise TimeoutError(f"nothing has come of the cluster for {HANGS} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    with limited():
        yield


PICTURES = int(os.environ.get("CLUSTER_PICTURES", "300"))

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}

HEAD = {**NODE, "no_monitor": True, "include_log_monitor": False}
"""A node that starts no process to add nodes, and none that reads what the others say."""


def wait_for_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives up a node that the cluster does not know after 30 seconds, which a busy machine takes."""
    services = import_module("ray._private.services")
    ask = services.get_node

    def get_node(*arguments: Any) -> Any:
        while True:
            try:
                return ask(*arguments)
            except RuntimeError:
                time.sleep(0.1)

    monkeypatch.setattr(services, "get_node", get_node)


def add_node(cluster: Any) -> Any:
    """A node that the cluster knows. Ray's own way waits for 30 seconds at most."""
    node = cluster.add_node(wait=False, **NODE)
    cluster.wait_for_nodes(timeout=HANGS)
    return node


@pytest.fixture(scope="module")
def cluster(site: Path) -> Iterator[Any]:
    """Two nodes with a processor each. What is started here is on loopback, and tells nobody."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        monkeypatch.setenv("RAY_enable_metrics_collection", "0")
        monkeypatch.setenv(CLUSTER, str(site))
        # It kills actors if something else on the machine takes its memory.
        monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
        utils = pytest.importorskip("ray.cluster_utils")
        wait_for_nodes(monkeypatch)
        cluster = utils.Cluster()
        try:
            with limited():
                cluster.add_node(**HEAD)
                add_node(cluster)
            yield cluster
        finally:
            try:
                with limited():
                    cluster.shutdown()
            finally:
                # If a node did not start, Ray knows nothing of the processes that it has.
                kill_all(site)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of 100 pictures, one of which is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(PICTURES):
        colour = (number % 250, number % 256, number // 250)
        draw_picture(folder / str(number // 100) / f"{number:03}.png", colour, (60, 45))
    (folder / "1" / "150.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def tell(site: Path) -> Iterator[Callable[[str], None]]:
    """Tells the processes of the cluster something, by the name of a file."""
    yield lambda name: (site / name).write_text(str(os.getpid()))
    for name in ("once", "hold", "slow", "late"):
        (site / name).unlink(missing_ok=True)


Run = Callable[..., Summary]


def request_of(database: Path, photos: Path) -> EmbedRequest:
    return EmbedRequest(database, "images", (photos,), model="fatal", batch_size=20, workers=1)


@pytest.fixture
def run(photos: Path, path: Path, site: Path) -> Run:
    def run(*, on_progress: Callable[[Progress], None] = lambda _: None, **changes: Any) -> Summary:
        return embed_images(replace(request_of(path, photos), **changes), on_progress)

    return run


@pytest.fixture(scope="module")
def here(photos: Path, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a run without a cluster, which nobody changes."""
    database = tmp_path_factory.mktemp("here") / "photos.db"
    embed_images(request_of(database, photos))
    return database


def rows_of(database: Path) -> dict[str, list[tuple]]:
    """All that a run writes but tokens, which are random."""
    with closing(sqlite3.connect(database)) as conn:
        tables = ("images", "_images_vectors", "_images_thumbnails", "_images_failures")
        return {table: sorted(conn.execute(f'select * from "{table}"')) for table in tables}


@pytest.fixture
def ray(cluster: Any) -> dict[str, Any]:
    return {"ray": cluster.address}


# --- The same as on one machine ------------------------------------------------------------------


def test_a_cluster_writes_what_one_machine_does(run: Run, ray: dict, here: Path, path: Path):
    seen: list[Progress] = []

    summary = run(**ray, on_progress=seen.append)

    assert rows_of(path) == rows_of(here)
    assert (summary.embedded, len(summary.failures), summary.device) == (
        PICTURES - 1,
        1,
        "2 nodes, 2 actors",
    )
    assert seen[0] == Progress(0, PICTURES, 0, "waiting for 2 actors", is_cluster=True)
    assert seen[-1] == Progress(PICTURES, PICTURES, 1, "2 nodes, 2 actors", is_cluster=True)
    assert [(node.actors, node.device, node.lost) for node in summary.nodes] == [
        (1, "cpu, float32", 0)
    ] * 2
    assert sum(node.images for node in summary.nodes) == PICTURES
    assert run(**ray).unchanged == PICTURES - 1


def test_images_in_the_table_are_sent_and_not_read_by_the_nodes(
    ray: dict, run: Run, photos: Path, tmp_path: Path
):
    databases = [tmp_path / "local.db", tmp_path / "cluster.db"]
    for database, where in zip(databases, ({}, ray), strict=True):
        with closing(sqlite3.connect(database)) as conn, conn:
            conn.execute("create table images (id integer primary key, picture blob)")
            contents = [(file.read_bytes(),) for file in sorted(photos.glob("1/*"))]
            conn.executemany("insert into images (picture) values (?)", contents)
        summary = run(database=database, paths=(), content_column="picture", **where)
        assert (summary.embedded, len(summary.failures)) == (99, 1)
    assert rows_of(databases[0]) == rows_of(databases[1])


def test_large_images_in_the_table_are_sent_in_small_batches(monkeypatch: pytest.MonkeyPatch):
    """So memory stays flat."""
    monkeypatch.setattr(module, "CONTENT", 100)
    images = iter([OwnImage(number, 60, "", content=b"x" * 60) for number in range(5)])
    batches = [list(module.sent_together(images, size)) for size in (20, 1, 20)]
    assert [[image.image_id for image in batch] for batch in batches] == [[0, 1], [2], [3, 4]]


# --- What ends in the middle ---------------------------------------------------------------------


def after(done: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    """An on_progress that acts once, when so many images are done."""
    left = [act]

    def on_progress(progress: Progress) -> None:
        if progress.done >= done and left:
            left.pop()()

    return on_progress


def test_the_batches_of_an_actor_and_a_node_that_are_killed_go_to_others(
    cluster: Any,
    run: Run,
    ray: dict,
    here: Path,
    path: Path,
    site: Path,
    tell: Callable[[str], None],
):
    node = add_node(cluster)
    kill_an_actor = after(40, partial(tell, "once"))
    kill_the_node = after(120, partial(cluster.remove_node, node, allow_graceful=False))

    def on_progress(progress: Progress) -> None:
        kill_an_actor(progress)
        kill_the_node(progress)

    summary = run(**ray, on_progress=on_progress)

    assert not (site / "once").exists()
    assert rows_of(path) == rows_of(here)
    assert sum(node.lost for node in summary.nodes) >= 1
    assert len(summary.nodes) == 3


def test_a_file_that_ends_processes_takes_only_its_batch_along(
    run: Run, ray: dict, photos: Path, path: Path, tmp_path: Path
):
    folder = shutil.copytree(photos / "0", tmp_path / "fatal")
    draw_picture(folder / "050.png", (255, 0, 255), (60, 45))

    summary = run(paths=(folder,), **ray)

    assert (summary.embedded, len(summary.failures)) == (80, 20)
    assert {failure.reason for failure in summary.failures} == {module.LOST}
    assert {failure.path for failure in summary.failures} == {
        f"{number:03}.png" for number in range(40, 60)
    }
    # Without it, the next run embeds the others, wherever that is.
    (folder / "050.png").unlink()
    assert run(paths=(folder,)).embedded == 19


DRIVER = """
import os, signal, sys
from pathlib import Path
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

def kill(progress):
    if progress.done >= 100:
        os.kill(os.getpid(), signal.SIGKILL)

database, photos, ray = sys.argv[1:]
request = EmbedRequest(
    Path(database), "images", (Path(photos),), model="fatal", batch_size=20, workers=1, ray=ray
)
embed_images(request, kill)
"""


def test_runs_that_are_killed_and_interrupted_are_picked_up_by_the_next(
    run: Run, ray: dict, here: Path, path: Path, photos: Path
):
    killed = subprocess.run(
        [sys.executable, "-c", DRIVER, path, photos, ray["ray"]], check=False, timeout=HANGS
    )
    assert killed.returncode == -signal.SIGKILL
    assert query(path, "select count(*) from _images_vectors") == [(100,)]

    def interrupt() -> None:
        raise KeyboardInterrupt

    interrupted = run(**ray, on_progress=after(40, interrupt))

    assert (interrupted.embedded, interrupted.unchanged, interrupted.interrupted) == (40, 100, True)
    assert query(path, "select count(*) from _images_vectors") == [(140,)]
    # More has come back than was committed.
    assert sum(node.images for node in interrupted.nodes) == 40

    summary = run()

    assert (summary.embedded, summary.unchanged) == (PICTURES - 141, 140)
    assert rows_of(path) == rows_of(here)


def test_a_ctrl_c_while_nothing_comes_back_is_heard(
    run: Run, ray: dict, path: Path, tell: Callable[[str], None]
):
    def hold() -> None:
        tell("hold")
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    summary = run(**ray, on_progress=after(40, hold))

    assert summary.interrupted
    assert 40 <= summary.embedded < PICTURES
    assert query(path, "select count(*) from _images_vectors") == [(summary.embedded,)]


# --- What cannot begin ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ray_cpus": 2}, "an actor needs 2 processors, and no node has more than 1"),
        ({"ray": "127.0.0.1:9"}, "there is no Ray at '127.0.0.1:9'"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_written(
    run: Run, ray: dict, path: Path, changes: dict, sentence: str
):
    with pytest.raises(ImageSearchError, match=sentence):
        run(**{**ray, **changes})
    assert not path.exists()


def test_a_cluster_that_is_busy_does_not_make_a_run_hang(
    cluster: Any, run: Run, ray: dict, path: Path, monkeypatch: pytest.MonkeyPatch
):
    api = pytest.importorskip("ray")
    monkeypatch.setattr(nodes, "ROOM_SECONDS", 2.0)
    api.init(address=cluster.address, log_to_driver=False)
    try:
        group = api.util.placement_group([{"CPU": 1}] * 2)
        assert group.wait(HANGS)
        with pytest.raises(ImageSearchError, match="no node has more than 0 free; wait"):
            run(**ray)
    finally:
        api.shutdown()
    assert not path.exists()


def test_an_actor_that_never_loads_the_model_is_given_up(
    run: Run, ray: dict, tell: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "PREPARE_SECONDS", 2.0)
    tell("slow")
    with pytest.raises(ImageSearchError, match=r"an actor on node .* has not loaded the model in"):
        run(**ray)


def test_an_actor_that_others_did_without_is_told(
    run: Run,
    ray: dict,
    photos: Path,
    tell: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
):
    def on_progress(progress: Progress) -> None:
        if progress.device == "waiting for 2 actors" and not told:
            told.append("late")
            tell("late")
        if progress.device.startswith("1 node"):
            monkeypatch.setattr(module, "PREPARE_SECONDS", 0.0)

    told: list[str] = []
    summary = run(paths=(photos / "0",), **ray, on_progress=on_progress)

    late, works = sorted(summary.nodes, key=lambda node: node.actors)
    assert (works.actors, works.images, works.problem) == (1, 100, None)
    assert (late.actors, late.device, late.images) == (0, "", 0)
    assert late.problem is not None
    assert late.problem.startswith(f"an actor on node {late.name} has not loaded the model in")


# --- Indexes -------------------------------------------------------------------------------------


def test_an_index_of_an_engine_is_built_by_the_nodes(
    ray: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("lance_ray")
    monkeypatch.setattr(places, "_served", [])
    monkeypatch.setattr(lance, "FEWEST", 64)
    monkeypatch.setattr(lance_on_ray, "LIST", 100)
    path = tmp_path / "photos.db"
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, random_vectors(400))
    with Images(path, "images") as images:
        queries = random_vectors(20, seed=2)
        with mock.patch.object(lance_on_ray, "build", side_effect=lance_on_ray.build) as built:
            made = images.index("ivf_rq", engine="lance", queries=queries, **ray)
        assert built.call_count == 1
        assert made.tuning.recall >= 0.98
        assert images.search("#7", 1)[0].id == 7
        assert images.status()["problem"] is None

        lost = RuntimeError("Failed")
        lost.__cause__ = pytest.importorskip("ray").exceptions.WorkerCrashedError()
        monkeypatch.setattr("lance_ray.create_index", mock.Mock(side_effect=lost))
        with pytest.raises(
            ImageSearchError, match=r"the cluster did not build the index \(.*again"
        ):
            images.index("ivf_pq", engine="lance", queries=queries, **ray)
        assert images.search("#7", 1)[0].id == 7

        # As Ray waits for a head that is away.
        has_answered = threading.Event()
        monkeypatch.setattr("lance_ray.create_index", lambda *_, **__: has_answered.wait(HANGS))
        monkeypatch.setattr(head, "SILENT_SECONDS", 0.0)
        monkeypatch.setattr(head, "ASK_SECONDS", 0.0)
        monkeypatch.setattr(head.Head, "answers", lambda *_: False)
        with pytest.raises(
            ImageSearchError, match=r"the head of the cluster, .* does not answer any"
        ):
            images.index("ivf_pq", engine="lance", queries=queries, **ray)
        has_answered.set()
        assert images.search("#7", 1)[0].id == 7
