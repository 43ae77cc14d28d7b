"""Commands tell OpenMP to wait asleep; a server that has this package is left as it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search.search.indexing import index_images

from .commands import start
from .random_tables import add_images, random_vectors
from .serving import HANGS


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    db = Database(tmp_path / "photos.db", execute_plugins=False)
    add_images(db, random_vectors(50))
    index_images(db, "images", type="SQ8")
    db.close()
    return tmp_path / "photos.db"


@pytest.mark.skipif(sys.platform != "linux", reason="asks the OpenMP that FAISS has on Linux")
@pytest.mark.parametrize(
    ("asked", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
@pytest.mark.parametrize(
    "arguments",
    [("search-images", "images", "#1"), ("query", "select image_search('#1', 1)")],
    ids=["ours", "of sqlite-utils"],
)
def test_faiss_is_told_before_it_is_imported(
    indexed: Path, arguments: tuple[str, ...], asked: dict[str, str], policy: str
) -> None:
    """Unless a person chose. What counts is what its OpenMP says of itself."""
    name, *rest = arguments
    clean = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    run = start(name, indexed, *rest, env={**clean, "OMP_DISPLAY_ENV": "true", **asked})
    output, errors = run.communicate(timeout=HANGS)
    assert run.returncode == 0, errors
    assert "1" in output
    assert f"OMP_WAIT_POLICY = '{policy}'" in errors


def test_a_process_that_is_not_ours_is_left_as_it_is(
    indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that opens a database with sqlite_utils, as plugins of Datasette do."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    db = Database(indexed)
    assert db.execute("select image_search('#1', 1)").fetchone()
    assert "OMP_WAIT_POLICY" not in os.environ
    db.close()
