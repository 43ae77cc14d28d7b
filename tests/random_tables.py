"""Tables written by the same calls that `embed-images` makes, with random vectors for pictures."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from datasette_image_search import store
from datasette_image_search.store import (
    ImageTable,
    Index,
    Key,
)
from datasette_image_search.store.image_record import ImageRecord, SceneRow
from datasette_image_search.store.indexes import ensure_index
from datasette_image_search.store.reads import (
    known_files,
)
from datasette_image_search.store.schema import ensure_tables
from datasette_image_search.store.tables import (
    EmbeddedImage,
)
from datasette_image_search.store.vectors import (
    image_vector,
    vector_batches,
)
from datasette_image_search.store.writes import ensure_roots, write_batch

AWKWARD_NAMES = (
    "my photos",
    'the "best"',
    "it's",
    "{braces} {0}",
    "100% :x ?",
    "фото 📷",
    "select",
    "[old]",
    "a.b",
    "x; --",
)

numbers = itertools.count(1)


def random_vectors(n: int, dimensions: int = 8, seed: int = 0) -> np.ndarray:
    """Shape (n, dimensions), float32, unit norm."""
    vectors = np.random.default_rng(seed).normal(size=(n, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_record(root_id: int, **columns) -> ImageRecord:
    """A row of a file that nobody has, under a path that no other row has."""
    number = next(numbers)
    name = f"{number}.jpg"
    columns = {"path": f"trip/{name}", "size": number, "sha256": f"{number:064x}", **columns}
    return ImageRecord(
        root_id, folder="trip", filename=name, format="JPEG", width=4, height=3, mtime="then",
        **columns,
    )  # fmt: skip


@cache
def _tables_of(table: str) -> sqlite3.Connection:
    db = Database(memory=True, execute_plugins=False)
    ensure_tables(db, table)
    return db.conn


def make_tables(db: Database, table: str) -> ImageTable:
    """As ensure_tables(), which takes 10 ms to make all of an empty database; a copy takes one."""
    if not db.table_names():
        _tables_of(table).backup(db.conn)
    return ensure_tables(db, table)


def make_index(
    db: Database, table: str = "images", dimensions: int = 8
) -> tuple[ImageTable, Index]:
    image_table = make_tables(db, table)
    index = ensure_index(
        db,
        image_table,
        model="palette",
        weights=None,
        fingerprint="random",
        dimensions=dimensions,
    )
    return image_table, index


def embedded(key: Key | None, record: ImageRecord, vector: np.ndarray) -> EmbeddedImage:
    """With a thumbnail. A vector of shape (n, dimensions) is of a film with a scene each second."""
    webp = f"webp of {record.path}".encode()
    count = len(vector) if vector.ndim == 2 else 0
    scenes = tuple(SceneRow(float(at), b"%d of %s" % (at, webp)) for at in range(count))
    return EmbeddedImage(key, record, vector, webp, scenes=scenes)


def add_images(
    db: Database,
    vectors: Sequence[np.ndarray] | np.ndarray,
    table: str = "images",
    sizes: Sequence[int] | None = None,
) -> list[Key]:
    """Rows with these vectors, one or several each, and a thumbnail; their ids. Makes the tables if need be."""
    dimensions = vectors.shape[-1] if isinstance(vectors, np.ndarray) else vectors[0].shape[-1]
    image_table, index = make_index(db, table, dimensions)
    root_id = ensure_roots(db, ["/pictures"])["/pictures"]
    records = [
        make_record(root_id, **({} if sizes is None else {"size": int(sizes[i])}))
        for i in range(len(vectors))
    ]
    images = [
        embedded(None, record, vector) for record, vector in zip(records, vectors, strict=True)
    ]
    write_batch(db, image_table, index, images)
    known = known_files(db.conn, table)
    return [known["/pictures", record.path].image_id for record in records]


@lru_cache(maxsize=10)
def _images_of(vectors: bytes, dimensions: int) -> sqlite3.Connection:
    db = Database(memory=True, execute_plugins=False)
    add_images(db, np.frombuffer(vectors, np.float32).reshape(-1, dimensions))
    return db.conn


def copy_images(db: Database, vectors: np.ndarray) -> None:
    """As add_images() in an empty database, of vectors that many tests begin with: written once, and copied."""
    _images_of(vectors.tobytes(), vectors.shape[1]).backup(db.conn)


def stored_vectors(conn: sqlite3.Connection, table: str = "images") -> dict[Key, np.ndarray]:
    """Image id -> vector, of all images that have one."""
    index = store.find_index(conn, table)
    if index.engine_only:
        # One by one, each would be asked of the engine anew.
        batches = [(batch.image_ids, batch.vectors) for batch in vector_batches(conn, index)]
        return {
            id: vector
            for ids, vectors in batches
            for id, vector in zip(ids[::-1], vectors[::-1], strict=True)
        }
    key = quote_identifier(store.find_image_table(conn, table).key)
    ids = [row[0] for row in conn.execute(f"select {key} from {quote_identifier(table)}")]
    vectors = {id: image_vector(conn, index, id) for id in ids}
    return {id: vector for id, vector in vectors.items() if vector is not None}


def make_own_table(db: Database, name: str, key: str, kind: type) -> ImageTable:
    """A person's own table: its primary key, and the columns that images need."""
    ensure_tables(db, "images")
    columns = {**db["images"].columns_dict, "rating": int}
    del columns["id"]
    db[name].create({key: kind, **columns}, pk=key)
    return ensure_tables(db, name)
