"""Where tests keep the vectors that searches rank: promises hold over each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search.engines import places
from datasette_image_search.engines.lance import LanceEngine
from datasette_image_search.search import freshness
from datasette_image_search.search.indexing import index_images, refresh_sidecars
from datasette_image_search.store import held_vectors

from .random_tables import copy_images

KEPT: Mapping[str, Mapping[str, Any]] = {
    "sidecar": {},
    "lance": {"engine": "lance"},
    "lance alone": {"engine": "lance", "stored_vectors": False},
}


@contextmanager
def lists_of_few(fewest: int = 64) -> Iterator[None]:
    """Few vectors that are fed to Lance, but so many, are in several lists, of which a search looks into some."""
    import lance
    from lance.dataset import DatasetOptimizer

    from datasette_image_search.engines import lance as ours

    real = lance.LanceDataset.create_index

    def create_index(self: lance.LanceDataset, *given: Any, **options: Any) -> Any:
        return real(self, *given, num_partitions=16, **options)

    with (
        mock.patch.object(lance.LanceDataset, "create_index", create_index),
        # It joins lists that are so short.
        mock.patch.object(DatasetOptimizer, "optimize_indices"),
        mock.patch.object(ours, "FEWEST", fewest),
    ):
        yield


def forget_what_was_opened() -> None:
    """This process has read no index and no engine."""
    held_vectors._opened.cache_clear()
    held_vectors._failures.clear()
    freshness._open.clear()


@contextmanager
def kept_in(
    kept: str, db: Database, monkeypatch: pytest.MonkeyPatch, table: str = "images"
) -> Iterator[None]:
    """
    In files of FAISS, as runs do, or in an engine, as a person asks for; then it has answered at the end. This process is no
    server meanwhile.
    """
    _keep(kept, db, monkeypatch, table)
    with _asked(kept, monkeypatch):
        yield


def _keep(kept: str, db: Database, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    if kept == "sidecar":
        refresh_sidecars(db, table)
        return
    monkeypatch.setattr(places, "_served", [])
    index_images(db, table, **KEPT[kept])


@contextmanager
def _asked(kept: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if kept == "sidecar":
        yield
        return
    monkeypatch.setattr(places, "_served", [])
    answered = []

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            answered.append(method)
            return method(*given, **options)

        return call

    for name in ("nearest", "scores"):
        monkeypatch.setattr(LanceEngine, name, counted(getattr(LanceEngine, name)))
    yield
    assert answered, "searches ranked without the engine"


_written: dict[tuple[str, str, bytes], dict[Path, bytes]] = {}
"""What database_kept_in() has written before, as there is little of it and it is wanted again and again."""


@contextmanager
def database_kept_in(
    kept: str, path: Path, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A new database with these vectors, as kept_in() has them, that nobody has open, alone in its folder."""
    folder, files = path.parent, _written.get((kept, path.name, vectors.tobytes()))
    if files is None:
        with closing(Database(path, execute_plugins=False)) as db:
            copy_images(db, vectors)
            _keep(kept, db, monkeypatch, "images")
        files = {
            file.relative_to(folder): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        _written[kept, path.name, vectors.tobytes()] = files
    else:
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
    with _asked(kept, monkeypatch):
        yield
