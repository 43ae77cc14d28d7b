"""What other programs leave behind, as small as can be: rclip, clip-retrieval, llm."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import sqlite_utils


def unit(n: int, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    """n unit vectors, float32."""
    vectors = np.random.default_rng(seed).standard_normal((n, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f4")


def write_npy(folder: Path, paths: list[str], vectors: np.ndarray) -> tuple[Path, Path]:
    """The files to give as SOURCE and --paths."""
    np.save(folder / "vectors.npy", vectors)
    (folder / "paths.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return folder / "vectors.npy", folder / "paths.txt"


def write_rclip(path: Path, vectors: Mapping[Path, np.ndarray], version: int | None = 4) -> Path:
    """As rclip 3 makes it; with version None as rclip 0 did."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(
            "create table images (id integer primary key, deleted boolean, filepath text not null "
            "unique, modified_at datetime not null, size integer not null, vector blob not null)"
        )
        if version is not None:
            conn.execute("create table db_version (version integer)")
            conn.execute("insert into db_version values (?)", [version])
        for file, vector in vectors.items():
            status = file.stat() if file.exists() else None
            conn.execute(
                "insert into images (filepath, modified_at, size, vector) values (?, ?, ?, ?)",
                [
                    str(file),
                    status.st_mtime if status else 1e9,
                    status.st_size if status else 9,
                    vector.tobytes(),
                ],
            )
    return path


def write_clip_retrieval(folder: Path, parts: list[tuple[list[str], np.ndarray]]) -> Path:
    """A folder with a .npy and a .parquet for each part, as clip-retrieval's inference writes it."""
    import pyarrow
    from pyarrow import parquet

    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, (paths, vectors) in enumerate(parts):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors.astype("float16"))
        columns = pyarrow.table({"image_path": paths, "caption": [None] * len(paths)})
        parquet.write_table(columns, folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def write_llm(
    path: Path, collections: Mapping[str, Mapping[str, np.ndarray]], model: str = "clip"
) -> Path:
    """Collection -> id -> vector, in the tables of llm."""
    with closing(sqlite_utils.Database(path)) as db:
        for number, (name, vectors) in enumerate(collections.items(), 1):
            db["collections"].insert({"id": number, "name": name, "model": model}, pk="id")
            db["embeddings"].insert_all(
                (
                    {"collection_id": number, "id": key, "embedding": vector.tobytes()}
                    for key, vector in vectors.items()
                ),
                pk=("collection_id", "id"),
            )
    return path
