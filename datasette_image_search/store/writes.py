"""Everything that is written to the tables, in transactions."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .image_record import ImageRecord, SceneRow
from .indexes import check_index, made_of_same
from .metadata import copy_keywords, writable_columns, write_beside, write_keywords
from .own_rows import own_label
from .reads import roots
from .side_schema import image_columns
from .sources import sources_of
from .stored_vectors import vector_to_blob
from .tables import OWN_ROOT, ROOTS, EmbeddedImage, Failure, ImageTable, Index, Key, ReusedImage
from .transactions import insert_row, transaction, upsert_rows
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
        tags = _take_tags_by_hand(db, table, images) if has_tags(db.conn, table) else []
        imported = _imported_vectors(db, table, alike, images)
        keys = _write_images(db, table, alike, images)
        written = list(zip(keys, images, strict=True))
        db.table(table.vectors).insert_all(imported)
        _write_vectors(db, table, index, [_vector_row(key, image) for key, image in written])
        db.table(table.tags).insert_all(tags)
        _write_thumbnails(
            db, table, [(key, each.content.sha256, each.thumbnail) for key, each in written]
        )
        _write_scenes(db, table, [(key, each.content.sha256, each.scenes) for key, each in written])
        upsert_rows(db, table.failures, map(asdict, failures), ["root_id", "path"])


def _imported_vectors(
    db: Database, table: ImageTable, alike: Sequence[int], images: Sequence[EmbeddedImage]
) -> list[dict[str, Any]]:
    """
    What was imported for these images in other indexes, without their sha256. Where the file is what it was then,
    as far as that is known, it is of the picture that is embedded now, and stays, with the sha256. (Of a picture
    that changed it would leave with the old one.)
    """
    contents = {image.image_id: image.content for image in images if image.image_id is not None}
    rows = db.execute(
        "select side.image_id, index_id, vector, source.size, source.mtime from {vectors} as side "
        "left join {state} as source on source.image_id = side.image_id "
        "where side.image_id in (select value from json_each(?)) and side.index_id in ({alike}) "
        "and side.sha256 is null".format(
            alike=", ".join(map(str, alike)), state=sources_of(db.conn, table), **table.quoted()
        ),
        [json.dumps(list(contents))],
    )
    imported = []
    for key, index_id, vector, *state in rows.fetchall():
        content = contents[key]
        if tuple(state) in ((None, None), (content.size, content.mtime)):
            row = {"index_id": index_id, "image_id": key, "sha256": content.sha256}
            imported.append({**row, "vector": vector})
    return imported


def _take_tags_by_hand(
    db: Database, table: ImageTable, images: Sequence[EmbeddedImage]
) -> list[dict[str, Any]]:
    """
    The tags that a person gave to images of which nothing but the file was known, if that is what it
    was then. They would leave when the picture becomes known, as those of another one do, so they are taken
    out meanwhile.
    """
    known = "(size is null and mtime is null) or (size is ? and mtime is ?)"
    sql = (
        "select {tags}.* from {tags} left join {state} as source using (image_id) "
        f"where image_id = ? and vector_id is null and sha256 is null and ({known})".format(
            state=sources_of(db.conn, table), **table.quoted()
        )
    )
    tags: list[dict[str, Any]] = []
    for image in images:
        if image.image_id is not None:
            state = (image.content.size, image.content.mtime)
            tags += db.query(sql, [image.image_id, *state])
    db.conn.executemany(
        "delete from {tags} where image_id = ? and vector_id is null".format(**table.quoted()),
        [(key,) for key in {tag["image_id"] for tag in tags}],
    )
    return tags


def _write_images(
    db: Database, table: ImageTable, alike: Sequence[int], images: Sequence[EmbeddedImage]
) -> list[Key]:
    """Their keys, in this order."""
    places, keys = [], []
    keywords, beside, sources = {}, {}, []
    columns = writable_columns(db, table)
    for image in images:
        content = image.content
        if isinstance(content, ImageRecord):
            places.append((content.root_id, content.path))
            key = _write_row(db, table, columns, image.image_id, content.row())
            keywords[key], beside[key] = content.metadata.keywords, image.beside
        else:
            # An image of a person's own table has its row already.
            assert image.image_id is not None
            key = image.image_id
            places.append((OWN_ROOT, own_label(key)))
            sources.append({"image_id": key, **asdict(content)})
        keys.append(key)
    if keywords:
        write_keywords(db, table, keywords)
        write_beside(db, table, beside)
    if sources:
        upsert_rows(db, table.sources, sources, ["image_id"])
        # Those of other models are of the picture that was there before.
        db.conn.executemany(
            "delete from {vectors} where image_id = :image_id and sha256 is not :sha256 and index_id in ({alike})".format(
                alike=", ".join(map(str, alike)), **table.quoted()
            ),
            sources,
        )
    forget_failures(db, table, places)
    return keys


def _write_row(
    db: Database, table: ImageTable, columns: Container[str], key: Key | None, row: dict[str, Any]
) -> Key:
    """
    The key of the row, which is a new one if there is none of this key: deleted since the survey, but the
    file is there. Only `columns` are written.
    """
    names = [name for name in row if name in columns]
    values, quoted = [row[name] for name in names], list(map(quote_identifier, names))
    images, id = quote_identifier(table.name), quote_identifier(table.key)
    # sqlite-utils asks for the tables, views and columns before each row, which takes most of the time.
    if key is not None:
        changes = ", ".join(f"{name} = ?" for name in quoted)
        sql = f"update {images} set {changes} where {id} = ?"
        if db.conn.execute(sql, [*values, key]).rowcount:
            return key
    marks = ", ".join("?" * len(names))
    sql = f"insert into {images} ({', '.join(quoted)}) values ({marks}) returning {id}"
    ((key,),) = db.conn.execute(sql, values).fetchall()
    return key


VectorRow = tuple[Key, str, bytes, "str | None"]
"""Image, sha256, vector, and the seconds of the scenes of a film as JSON."""


def _vector_row(key: Key, image: EmbeddedImage) -> VectorRow:
    times = json.dumps([scene.at for scene in image.scenes]) if image.scenes else None
    return key, image.content.sha256, vector_to_blob(image.vector), times


def _write_vectors(
    db: Database, table: ImageTable, index: Index, rows: Sequence[VectorRow]
) -> None:
    n = table.quoted()
    # An UPDATE would keep the id of a vector that is another one now.
    db.conn.executemany(
        f"delete from {n['vectors']} where image_id = ? and index_id = {index.id:d}",
        [(key,) for key, *_ in rows],
    )
    db.conn.executemany(
        f"insert into {n['vectors']} (index_id, image_id, sha256, vector, times) values ({index.id:d}, ?, ?, ?, ?)",
        rows,
    )


def _write_thumbnails(
    db: Database, table: ImageTable, thumbnails: Iterable[tuple[Key, str, bytes | None]]
) -> None:
    """Image, sha256 and thumbnail; an image without keeps what it has."""
    rows = (
        {"image_id": key, "sha256": sha256, "webp": thumbnail}
        for key, sha256, thumbnail in thumbnails
        if thumbnail is not None
    )
    upsert_rows(db, table.thumbnails, rows, ["image_id"])


def _write_scenes(
    db: Database, table: ImageTable, images: Sequence[tuple[Key, str, Sequence[SceneRow]]]
) -> None:
    """Image, sha256 and scenes."""
    db.conn.executemany(
        "delete from {scenes} where image_id = ?".format(**table.quoted()),
        [(key,) for key, *_ in images],
    )
    db.table(table.scenes).insert_all(
        {"image_id": key, "at": scene.at, "sha256": sha256, "webp": scene.thumbnail}
        for key, sha256, scenes in images
        for scene in scenes
        if scene.thumbnail is not None
    )


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
        columns = writable_columns(db, table)
        copied: dict[Key, Key] = {}
        vectors: list[VectorRow] = []
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
            forget_failures(db, table, [(image.root_id, image.path)])
            if warning is not None:
                told = Failure(image.root_id, image.path, image.size, image.mtime, warning, True)
                db.table(table.failures).insert(asdict(told))
            if image.image_id == image.source_id:
                _write_row(db, table, columns, image.image_id, place)
                continue
            source = db.table(table.name).get(image.source_id)
            row = {name: source[name] for name in names if name in source}
            key = _write_row(db, table, columns, image.image_id, {**row, **place})
            copied[key] = image.source_id
            vectors.append((key, source["sha256"], *vector))
        copy_keywords(db, table, copied)
        _write_vectors(db, table, index, vectors)
        _copy_pictures(db, table, [(key, copied[key], sha256) for key, sha256, *_ in vectors])


def _copy_pictures(db: Database, table: ImageTable, copied: Sequence[tuple[Key, Key, str]]) -> None:
    """Thumbnails and scenes of images, by key, that of the source, and sha256."""
    for key, source, sha256 in copied:
        found = db.table(table.thumbnails).rows_where("image_id = ?", [source])
        _write_thumbnails(db, table, [(key, sha256, each["webp"]) for each in found])
        scenes = db.table(table.scenes).rows_where("image_id = ?", [source])
        rows = [SceneRow(scene["at"], scene["webp"]) for scene in scenes]
        _write_scenes(db, table, [(key, sha256, rows)])


def write_companions(
    db: Database, table: ImageTable, companions: Sequence[tuple[Key, str]]
) -> None:
    """Image id and companions, as of a FoundFile."""
    with transaction(db):
        if "companions" in writable_columns(db, table):
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
    db: Database,
    table: ImageTable,
    gone: Iterable[tuple[Key, int, str]],
    failed: Sequence[tuple[int, str]] = (),
) -> None:
    """
    Rows with their vectors and thumbnails, by key, root id and path, and failures by root id and path. A row that
    was given another place since then is that of a file that was moved, and stays.
    """
    with transaction(db):
        db.conn.executemany(
            "delete from {images} where {key} = ? and root_id = ? and path = ?".format(
                **table.quoted()
            ),
            gone,
        )
        forget_failures(db, table, failed)


def forget_failures(db: Database, table: ImageTable, failed: Iterable[tuple[int, str]]) -> None:
    """Failures by root id and path."""
    db.conn.executemany(
        "delete from {failures} where root_id = ? and path = ?".format(**table.quoted()), failed
    )


def forget_unreadable(db: Database, table: ImageTable) -> None:
    """The files of a person's own table that could not be read: whoever looks again will see."""
    db.table(table.failures).delete_where("root_id = ? and mtime = ''", [OWN_ROOT])


def record_unusable(db: Database, table: ImageTable, unusable: Sequence[Failure]) -> None:
    """The rows of a person's own table without a key, in place of those that there were before."""
    db.table(table.failures).delete_where("root_id = ? and path not like '#%'", [OWN_ROOT])
    db.table(table.failures).insert_all(map(asdict, unusable), replace=True)
