"""Everything that is written to the tables, in transactions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import NotFoundError

from .image_record import ImageRecord, SceneRow
from .indexes import check_index, made_of_same
from .metadata import copy_keywords, writable, write_keywords
from .own_rows import own_label
from .reads import roots
from .side_schema import image_columns
from .sources import sources_of
from .tables import (
    OWN_ROOT,
    ROOTS,
    EmbeddedImage,
    Failure,
    ImageTable,
    Index,
    Key,
    ReusedImage,
    vector_to_blob,
)
from .transactions import insert_row, transaction
from .triggers import has_tags


def ensure_roots(db: Database, paths: Iterable[str]) -> dict[str, int]:
    """Path -> id of all roots, with those that are new; the label of one is the name of its folder."""
    ids = {root.path: root.id for root in roots(db.conn)}
    for path in paths:
        if path not in ids:
            ids[path] = insert_row(db, ROOTS, {"path": path, "label": Path(path).name or path})
    return ids


def write_batch(
    db: Database,
    table: ImageTable,
    index: Index,
    images: Sequence[EmbeddedImage],
    failures: Sequence[Failure] = (),
    committed: Callable[[], None] = lambda: None,
) -> None:
    """
    Rows, vectors, thumbnails and failures in one transaction: all of them, or none. No Ctrl-C comes
    before `committed` was called.
    """
    with transaction(db, committed):
        check_index(db.conn, index)
        alike = [each.id for each in made_of_same(db.conn, index)]
        with_tags = has_tags(db.conn, table)
        for image in images:
            tags = _take_tags_by_hand(db, table, image) if with_tags else []
            imported = _imported_vectors(db, table, alike, image)
            key = _write_image(db, table, alike, image)
            sha256 = image.content.sha256
            for index_id, vector in imported:
                db.table(table.vectors).insert(
                    {"index_id": index_id, "image_id": key, "sha256": sha256, "vector": vector}
                )
            times = json.dumps([scene.at for scene in image.scenes]) if image.scenes else None
            _write_vector(db, table, index, key, sha256, vector_to_blob(image.vector), times)
            db.table(table.tags).insert_all(tags)
            if image.thumbnail is not None:
                _write_thumbnail(db, table, key, sha256, image.thumbnail)
            _write_scenes(db, table, key, sha256, image.scenes)
        for failure in failures:
            db.table(table.failures).upsert(asdict(failure), pk=("root_id", "path"))


def _imported_vectors(
    db: Database, table: ImageTable, alike: Sequence[int], image: EmbeddedImage
) -> list[tuple[int, bytes]]:
    """
    Index id and vector of what was imported for an image in other indexes, without its sha256. Where
    the file is what it was then, as far as that is known, they are of the picture that is embedded
    now, and stay. (Of a picture that changed they would leave with the old sha256.)
    """
    if image.image_id is None:
        return []
    content = image.content
    rows = db.execute(
        "select index_id, vector, source.size, source.mtime from {vectors} as side "
        "left join {state} as source on source.image_id = side.image_id "
        "where side.image_id = ? and side.index_id in ({alike}) and side.sha256 is null".format(
            alike=", ".join(map(str, alike)), state=sources_of(db.conn, table), **table.quoted()
        ),
        [image.image_id],
    ).fetchall()
    known = ((None, None), (content.size, content.mtime))
    return [(index_id, vector) for index_id, vector, *state in rows if tuple(state) in known]


def _take_tags_by_hand(
    db: Database, table: ImageTable, image: EmbeddedImage
) -> list[dict[str, Any]]:
    """
    The tags that a person gave to an image of which nothing but the file was known, if that is what it
    was then. They would leave when the picture becomes known, as those of another one do, so they are taken
    out meanwhile.
    """
    state = (image.content.size, image.content.mtime)
    known = "(size is null and mtime is null) or (size is ? and mtime is ?)"
    tags = list(
        db.query(
            "select {tags}.* from {tags} left join {state} as source using (image_id) "
            f"where image_id = ? and vector_id is null and sha256 is null and ({known})".format(
                state=sources_of(db.conn, table), **table.quoted()
            ),
            [image.image_id, *state],
        )
    )
    if tags:
        db.table(table.tags).delete_where("image_id = ? and vector_id is null", [image.image_id])
    return tags


def _write_image(
    db: Database, table: ImageTable, alike: Sequence[int], image: EmbeddedImage
) -> Key:
    if not isinstance(image.content, ImageRecord):
        # An image of a person's own table has its row already.
        assert image.image_id is not None
        state = {"image_id": image.image_id, **asdict(image.content)}
        db.table(table.sources).upsert(state, pk="image_id")
        # Those of other models are of the picture that was there before.
        db.table(table.vectors).delete_where(
            f"image_id = ? and sha256 is not ? and index_id in ({', '.join(map(str, alike))})",
            [image.image_id, image.content.sha256],
        )
        _forget_failure(db, table, OWN_ROOT, own_label(image.image_id))
        return image.image_id
    _forget_failure(db, table, image.content.root_id, image.content.path)
    key = _write_row(db, table, image.image_id, image.content.row())
    write_keywords(db, table, key, image.content.metadata.keywords, image.beside)
    return key


def _write_row(db: Database, table: ImageTable, key: Key | None, row: dict[str, Any]) -> Key:
    row = writable(db, table, row)
    if key is not None:
        try:
            db.table(table.name).update(key, row)
            return key
        except NotFoundError:
            pass  # Deleted since the survey; the file is there, so it gets a row again.
    return insert_row(db, table.name, row)


def _write_vector(
    db: Database,
    table: ImageTable,
    index: Index,
    key: Key,
    sha256: str,
    vector: bytes,
    times: str | None,
) -> None:
    # An UPDATE would keep the id of a vector that is another one now.
    db.table(table.vectors).delete_where("image_id = ? and index_id = ?", [key, index.id])
    row = {"index_id": index.id, "image_id": key, "sha256": sha256}
    db.table(table.vectors).insert({**row, "vector": vector, "times": times})


def _write_thumbnail(db: Database, table: ImageTable, key: Key, sha256: str, webp: bytes) -> None:
    row = {"image_id": key, "sha256": sha256, "webp": webp}
    db.table(table.thumbnails).upsert(row, pk="image_id")


def _write_scenes(
    db: Database, table: ImageTable, key: Key, sha256: str, scenes: Sequence[SceneRow]
) -> None:
    db.table(table.scenes).delete_where("image_id = ?", [key])
    db.table(table.scenes).insert_all(
        {"image_id": key, "at": scene.at, "sha256": sha256, "webp": scene.webp}
        for scene in scenes
        if scene.webp is not None
    )


def _forget_failure(db: Database, table: ImageTable, root_id: int, path: str) -> None:
    db.table(table.failures).delete_where("root_id = ? and path = ?", [root_id, path])


def _warning_of(db: Database, table: ImageTable, key: Key) -> str | None:
    row = db.execute(
        "select reason from {failures} where embedded and (root_id, path) = "
        "(select root_id, path from {images} where {key} = ?)".format(**table.quoted()),
        [key],
    ).fetchone()
    return None if row is None else row[0]


def forget_old_warnings(db: Database, table: ImageTable) -> None:
    """Of files whose rows are gone, or are of another place now."""
    if table.root_column is None:
        return  # Triggers do it.
    with transaction(db):
        db.execute(
            "delete from {failures} where embedded and not exists (select 1 from {images} "
            "where {images}.root_id = {failures}.root_id and {images}.path = {failures}.path)".format(
                **table.quoted()
            )
        )


def write_reused(
    db: Database,
    table: ImageTable,
    index: Index,
    images: Sequence[ReusedImage],
    committed: Callable[[], None] = lambda: None,
) -> None:
    """
    Files whose bytes are embedded already get the row and the vector of those, in one transaction.
    What was deleted since the survey is left out: the next run embeds the file.
    """
    names = image_columns()
    with transaction(db, committed):
        check_index(db.conn, index)
        for image in images:
            path = PurePosixPath(image.path)
            place = {
                "root_id": image.root_id,
                "path": image.path,
                "folder": folder_of(image.path),
                "filename": path.name,
                "size": image.size,
                "mtime": image.mtime,
                "companions": image.companions or None,
            }
            vector = db.execute(
                "select vector, times from {vectors} where image_id = ? and index_id = ?".format(
                    **table.quoted()
                ),
                [image.source_id, index.id],
            ).fetchone()
            if vector is None:
                continue
            warning = _warning_of(db, table, image.source_id)
            _forget_failure(db, table, image.root_id, image.path)
            if warning is not None:
                told = Failure(image.root_id, image.path, image.size, image.mtime, warning, True)
                db.table(table.failures).insert(asdict(told))
            if image.image_id == image.source_id:
                _write_row(db, table, image.image_id, place)
                continue
            source = db.table(table.name).get(image.source_id)
            row = {name: source[name] for name in names if name in source}
            key = _write_row(db, table, image.image_id, {**row, **place})
            copy_keywords(db, table, image.source_id, key)
            _write_vector(db, table, index, key, source["sha256"], *vector)
            for thumbnail in db.table(table.thumbnails).rows_where(
                "image_id = ?", [image.source_id]
            ):
                _write_thumbnail(db, table, key, source["sha256"], thumbnail["webp"])
            scenes = db.table(table.scenes).rows_where("image_id = ?", [image.source_id])
            rows = [SceneRow(scene["at"], scene["webp"]) for scene in scenes]
            _write_scenes(db, table, key, source["sha256"], rows)


def write_companions(
    db: Database, table: ImageTable, companions: Sequence[tuple[Key, str]]
) -> None:
    """Image id and companions, as of a FoundFile."""
    with transaction(db):
        if writable(db, table, {"companions": None}):
            db.conn.executemany(
                "update {images} set companions = nullif(?2, '') where {key} = ?1".format(
                    **table.quoted()
                ),
                companions,
            )


def folder_of(path: str) -> str:
    """The folder of a POSIX path, "" for one directly below its root."""
    return path.rpartition("/")[0]


def delete_images(
    db: Database, table: ImageTable, ids: Sequence[Key], failed: Sequence[tuple[int, str]] = ()
) -> None:
    """Rows with their vectors and thumbnails, and failures by root id and path."""
    with transaction(db):
        for key in ids:
            db.table(table.name).delete(key)
        forget_failures(db, table, failed)


def forget_failures(db: Database, table: ImageTable, failed: Iterable[tuple[int, str]]) -> None:
    """Failures by root id and path."""
    for root_id, path in failed:
        _forget_failure(db, table, root_id, path)


def forget_unreadable(db: Database, table: ImageTable) -> None:
    """The files of a person's own table that could not be read: whoever looks again will see."""
    db.table(table.failures).delete_where("root_id = ? and mtime = ''", [OWN_ROOT])


def record_unusable(db: Database, table: ImageTable, unusable: Sequence[Failure]) -> None:
    """The rows of a person's own table without a key, in place of those that there were before."""
    db.table(table.failures).delete_where("root_id = ? and path not like '#%'", [OWN_ROOT])
    db.table(table.failures).insert_all(map(asdict, unusable), replace=True)
