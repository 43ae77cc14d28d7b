from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.embedders.protocol import ModelRequest
from datasette_image_search.embedders.registry import load_embedder
from datasette_image_search.ingest.cluster_worker import PACKAGE, Task, Worker
from datasette_image_search.ingest.encoding import EncodingSettings
from datasette_image_search.ingest.scopes import find_scopes
from datasette_image_search.ingest.walk import FoundFile, Walk


@pytest.fixture
def task(folder: Path, palette: PaletteEmbedder) -> Task:
    settings = EncodingSettings(4, 1, thumbnail_size=None, max_pixels=None)
    model = ModelRequest("palette")
    sample = next(iter(Walk(find_scopes([folder])).files()))
    return Task(version(PACKAGE), model, "", palette.fingerprint, settings, (sample,))


def test_a_worker_encodes_files_in_their_order(task: Task, folder: Path):
    files = list(Walk(find_scopes([folder])).files())
    worker = Worker()

    assert worker.is_there()
    assert worker.prepare(task, None).problem is None
    batches = worker.encode(files, {str(folder): 7})

    assert [batch.count for batch in batches] == [4, 4]
    rows = [image.content for batch in batches for image in batch.images]
    assert [(row.root_id, row.path) for row in rows] == [(7, file.path) for file in files]


def test_two_batches_of_a_worker_share_its_threads(task: Task, folder: Path):
    """Each thread may have a large picture in memory."""
    files = list(Walk(find_scopes([folder])).files())
    before = set(threading.enumerate())
    worker = Worker()
    assert worker.prepare(replace(task, settings=replace(task.settings, workers=2)), None)

    with ThreadPoolExecutor(2, thread_name_prefix="call") as calls:
        counts = [
            sum(b.count for b in each)
            for each in calls.map(worker.encode, [files] * 2, [{str(folder): 7}] * 2)
        ]

    assert counts == [8, 8]
    ours = [each for each in set(threading.enumerate()) - before if each.name.startswith("decode")]
    assert len(ours) == 2


def test_a_node_without_the_folder_says_which(task: Task):
    away = FoundFile("/drive/photos", "2020/a.jpg", 10, "")
    problem = Worker().prepare(replace(task, samples=(*task.samples, away)), None).problem
    assert problem is not None
    assert problem.startswith("cannot see '/drive/photos': '2020/a.jpg' cannot be read there (No")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fingerprint": "another"}, "has other weights of palette"),
        ({"version": "9.9"}, f"has {PACKAGE} {version(PACKAGE)}, and this machine has 9.9"),
        ({"model": ModelRequest("palettes")}, "cannot load the model: "),
    ],
)
def test_a_node_that_would_make_other_vectors_is_not_fit(task: Task, changes: dict, problem: str):
    said = Worker().prepare(replace(task, **changes), None).problem
    assert said is not None
    assert said.startswith(problem)


def test_weights_come_as_bytes_and_leave_no_file(
    task: Task, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = ModelRequest("tiny-test/anything", weights=weights)
    embedder = load_embedder(model)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()

    ready = Worker().prepare(
        replace(
            task,
            model=replace(model, weights=None),
            weights_name=weights.name,
            fingerprint=embedder.fingerprint,
        ),
        np.fromfile(weights, np.uint8),
    )

    assert ready.problem is None
    assert list((tmp_path / "node").iterdir()) == []
