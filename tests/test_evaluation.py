"""What is said of a collection is what is so."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import BinaryIO
from unittest import mock

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search.search import codes, codes_on_disk
from datasette_image_search.search.approximate import RECALL_AT
from datasette_image_search.search.evaluation import Evaluated, evaluate, evaluate_index
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.indexing import index_images
from datasette_image_search.search.not_written import SidecarNotWritten
from datasette_image_search.store import find_index

from .random_tables import add_images, random_vectors

VECTORS = random_vectors(600, 16)
QUERIES = random_vectors(20, 16, seed=1)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def db(tmp_path: Path) -> Database:
    db = Database(tmp_path / "photos.db", execute_plugins=False)
    add_images(db, VECTORS)
    return db


def evaluated(db: Database) -> list[Evaluated]:
    return evaluate(db.conn, live_index(db.conn, find_index(db.conn)), QUERIES)


def test_the_three_ways_to_search_are_measured(db: Database) -> None:
    _, _, made = index_images(db, "images", type="IVF8,SQ8", target=0.01)
    brute, flat, ivf = evaluated(db)
    assert (brute.name, brute.recalls, brute.bytes_per_vector) == ("numpy brute force", (1, 1), 64)
    assert (flat.name, flat.bytes_per_vector) == ("flat float16", 32)
    assert min(flat.recalls) > 0.98
    assert ivf.name == "IVF8,SQ8 nprobe=1"
    assert ivf.bytes_per_vector > 32 + 16
    assert all(each.milliseconds > 0 for each in (brute, flat, ivf))
    proposed = made.propose(QUERIES)
    for k, recall in zip(RECALL_AT, ivf.recalls, strict=True):
        best = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :k] + 1
        found = sum(len(np.intersect1d(a, b)) for a, b in zip(best, proposed, strict=True))
        assert recall == pytest.approx(found / best.size, abs=0.01)
    assert ivf.recalls[0] > ivf.recalls[1]


def test_without_an_approximate_index_there_are_two(db: Database) -> None:
    index_images(db, "images")
    assert [each.name for each in evaluated(db)] == [
        "numpy brute force",
        "flat float16",
    ]


def test_an_index_that_is_not_written_needs_nothing_of_the_folder_of_the_database(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "MOST_IN_MEMORY", 0)
    folders = []

    def into(dir: Path) -> BinaryIO:
        folders.append(dir)
        return TemporaryFile(dir=tmp_path)

    monkeypatch.setattr(codes_on_disk.tempfile, "TemporaryFile", into)
    rows = evaluate_index(db.conn, find_index(db.conn), queries=QUERIES, type="IVF8,SQ8")
    assert len(rows) == 3
    assert folders == [Path(gettempdir())]
    monkeypatch.setattr(codes_on_disk.tempfile, "TemporaryFile", mock.Mock(side_effect=FULL))
    with pytest.raises(SidecarNotWritten, match=f"a file in '{gettempdir()}' .*No space left"):
        evaluate_index(db.conn, find_index(db.conn), queries=QUERIES, type="IVF8,SQ8")


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_images_than_are_looked_for_are_all_found(tmp_path: Path, n: int) -> None:
    db = Database(tmp_path / "few.db", execute_plugins=False)
    add_images(db, VECTORS[:n])
    index_images(db, "images", type="SQ8")
    assert [each.recalls for each in evaluated(db)] == [(1, 1)] * 3
