"""A database, and its sidecar, as version 0.1 wrote them: without tokens."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path

import faiss
from sqlite_utils import Database

from datasette_image_search import store
from datasette_image_search.search.sidecar import MAGIC_OF_0_1, Header, sidecar_path
from datasette_image_search.search.stored import stored_codes
from datasette_image_search.store import Index
from datasette_image_search.store.connections import database_path

TRIGGERS = """
    create trigger _images_image_search_vector_added after insert on _images_vectors begin
        update image_search_indexes set generation = generation + 1 where id = new.index_id; end;
    create trigger _images_image_search_vector_deleted after delete on _images_vectors begin
        update image_search_indexes set generation = generation + 1 where id = old.index_id; end;
"""


def make_older(db: Database) -> Index:
    """The table images is of version 0.1 from now on, and so is its sidecar."""
    for event in (
        "token_added",
        "token_deleted",
        "vector_replaced",
        "vector_added",
        "vector_deleted",
    ):
        db.execute(f"drop trigger _images_image_search_{event}")
    for table in ("_images_tokens", "image_search_migrations"):
        db[table].drop()
    db.conn.executescript(TRIGGERS)
    count = db["_images_vectors"].count
    db.execute("update image_search_indexes set generation = ?, sidecar = 'old'", [count])
    db.execute(
        "update image_search_indexes set sidecar_vector_id = (select max(id) from _images_vectors)"
    )
    db.conn.commit()
    index = store.find_index(db.conn, "images")
    write_older_sidecar(db, index)
    return index


def write_older_sidecar(db: Database, index: Index) -> Path:
    path = sidecar_path(database_path(db.conn), index)
    codes = stored_codes(db.conn, index, None)
    content = faiss.serialize_index(codes.faiss_index).tobytes()
    content += bytes(-len(content) % 64)
    ids_at = len(content)
    for ids in (codes.vector_ids, codes.image_ids):
        content += ids.astype("<i8").tobytes()
    header = Header(
        "old", "images", index.id, index.fingerprint, index.dimensions, index.sidecar_vector_id,
        len(codes), ids_at, 2, zlib.crc32(content),
    )  # fmt: skip
    fields = {name: value for name, value in asdict(header).items() if name != "rows"}
    text = json.dumps(fields).encode()
    path.write_bytes(content + text + len(text).to_bytes(8, "little") + MAGIC_OF_0_1)
    return path
