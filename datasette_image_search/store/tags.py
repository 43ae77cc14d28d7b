"""The table of tags, and which images have been looked at for which labels."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np
from sqlite_utils import Database

from .filters import Filter, matching
from .indexes import check_index, read_indexes
from .schema import ensure_tags
from .soundness import is_stored_table
from .tables import LABEL_SETS, ImageTable, Index, LabelSet, TagRow
from .transactions import insert_row, transaction
from .triggers import has_tags
from .vectors import vector_ids
from .written_texts import texts_written_once


def label_sets(conn: sqlite3.Connection, index: Index) -> list[LabelSet]:
    """What the images of an index were given tags of, the oldest first."""
    if not is_stored_table(conn, LABEL_SETS):
        return []
    rows = conn.execute(
        "select id, index_id, labels, templates, top, threshold, last_vector_id "
        f"from {LABEL_SETS} where index_id = ? order by id",
        [index.id],
    )
    found = []
    for id, index_id, *written, top, threshold, last in rows:
        labels, templates = map(_texts, written)
        if labels is not None and templates is not None:
            found.append(LabelSet(id, index_id, labels, templates, top, threshold, last))
    return found


def _texts(written: Any) -> tuple[str, ...] | None:
    """Those of a JSON array; None if it is none, as others can write to the table too."""
    try:
        texts = json.loads(written)
    except (TypeError, ValueError, RecursionError):
        return None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return None
    return tuple(texts)


def ensure_label_set(
    db: Database,
    index: Index,
    labels: Sequence[str],
    templates: Sequence[str],
    *,
    top: int | None,
    threshold: float | None,
) -> LabelSet:
    """
    The label set of these labels and templates, in whatever order, with these limits, made if there is
    none. What it is to come in place of stays until it is whole: see `drop_other_label_sets`.
    """
    with transaction(db):
        check_index(db.conn, index)
        ensure_tags(db, index.table, index.path_column or index.content_column)
        for known in sets_of_labels(db.conn, index, labels, templates):
            if (known.top, known.threshold) == (top, threshold):
                return known
        row = {
            "index_id": index.id,
            "labels": json.dumps(list(labels), ensure_ascii=False),
            "templates": json.dumps(list(templates), ensure_ascii=False),
            "top": top,
            "threshold": threshold,
            "last_vector_id": 0,
        }
        id = insert_row(db, LABEL_SETS, row)
    return LabelSet(id, index.id, tuple(labels), tuple(templates), top, threshold)


def drop_other_label_sets(
    db: Database,
    index: Index,
    label_set: LabelSet,
    *,
    of_all_labels: bool = False,
    vector_ids: Sequence[int] | None = None,
) -> None:
    """
    Those of the same labels with other templates or limits, whose tags would be counted beside these;
    or all others of the image table. With `vector_ids` only their tags of the images of these vectors.
    """
    others = sets_of_labels(db.conn, index, label_set.labels)
    if of_all_labels:
        indexes = read_indexes(db.conn, index.image_table)
        others = [other for each in indexes for other in label_sets(db.conn, each)]
    with transaction(db):
        for other in others:
            if other.id == label_set.id:
                continue
            if vector_ids is not None:
                _forget_tags_of(db, index, other, vector_ids)
            else:
                _delete_tags(db, index.table, "label_set_id = ?", [other.id])
                db.table(LABEL_SETS).delete(other.id)


def _forget_tags_of(
    db: Database, index: Index, label_set: LabelSet, vector_ids: Sequence[int]
) -> None:
    sql = "label_set_id = ? and image_id in (select image_id from {vectors} where id in (select value from json_each(?)))"
    _delete_tags(
        db,
        index.table,
        sql.format(**index.table.quoted()),
        [label_set.id, json.dumps(list(vector_ids))],
    )


def _delete_tags(db: Database, table: ImageTable, where: str, params: Sequence[object]) -> None:
    tags = table.quoted()["tags"]
    found = db.conn.execute(f"select distinct image_id from {tags} where {where}", params)
    keys = [key for (key,) in found]
    with texts_written_once(db, table, "tags", keys):
        db.table(table.tags).delete_where(where, params)


def count_tags(conn: sqlite3.Connection, indexes: Sequence[Index]) -> int:
    """Those that were made by the vectors of some indexes of one table, not by a person."""
    count = 0
    for index in indexes:
        if has_tags(conn, index.table):
            sets = [each.id for each in label_sets(conn, index)]
            sql = (
                "select count(*) from {tags} where label_set_id in (select value from json_each(?))"
            )
            count += conn.execute(
                sql.format(**index.table.quoted()), [json.dumps(sets)]
            ).fetchone()[0]
    return count


def newest_label_sets(conn: sqlite3.Connection, index: Index) -> list[LabelSet]:
    """Of those of the same labels the last, as a run that was stopped has not dropped the others yet."""
    by_labels = {tuple(sorted(each.labels)): each for each in label_sets(conn, index)}
    return list(by_labels.values())


def sets_of_labels(
    conn: sqlite3.Connection,
    index: Index,
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
) -> list[LabelSet]:
    """The label sets of these labels, and templates if given, in whatever order; the oldest first."""
    return [
        each
        for each in label_sets(conn, index)
        if sorted(each.labels) == sorted(labels)
        and (templates is None or sorted(each.templates) == sorted(templates))
    ]


def forget_label_sets(db: Database, index: Index) -> None:
    """What goes with an index: its label sets, with their tags. Within a transaction."""
    for label_set in label_sets(db.conn, index):
        if has_tags(db.conn, index.table):
            _delete_tags(db, index.table, "label_set_id = ?", [label_set.id])
        db.table(LABEL_SETS).delete(label_set.id)


def untagged_vectors(
    conn: sqlite3.Connection, index: Index, label_set: LabelSet, filter: Filter | None = None
) -> np.ndarray:
    """
    The ids of the vectors that were not looked at for a label set, ascending, int64, of the images
    that pass the filter. Raises FilterError.
    """
    ids = vector_ids(conn, index) if filter is None else matching(conn, index, filter)
    ids = np.sort(ids[ids > label_set.last_vector_id])
    tagged = conn.execute(
        "select distinct vector_id from {tags} where label_set_id = ? and vector_id > ? "
        "and typeof(vector_id) = 'integer'".format(**index.table.quoted()),
        [label_set.id, label_set.last_vector_id],
    )
    return np.setdiff1d(ids, np.array([id for (id,) in tagged], dtype=np.int64), assume_unique=True)


def write_tags(
    db: Database,
    index: Index,
    label_set: LabelSet,
    rows: Iterable[TagRow],
    looked_at_up_to: int | None = None,
) -> None:
    """
    Tags of vectors that are still there, in one transaction with the id of the vector up to which all
    were looked at, if that is so.
    """
    columns = [field.name for field in fields(TagRow)]
    written = list(rows)
    values = ", ".join(f"?{n}" for n in range(1, len(columns) + 1))
    vector = f"?{1 + columns.index('vector_id')}"
    sql = (
        f"insert or replace into {{tags}} ({', '.join(columns)}) select {values} "
        f"where exists (select 1 from {{vectors}} where id = {vector} and image_id = ?1)"
    )
    with transaction(db):
        # Not astuple, which copies every value deeply and takes longer than SQLite does.
        values_of = attrgetter(*columns)
        with texts_written_once(db, index.table, "tags", {row.image_id for row in written}):
            db.conn.executemany(sql.format(**index.table.quoted()), map(values_of, written))
        if looked_at_up_to is not None:
            db.execute(
                f"update {LABEL_SETS} set last_vector_id = max(last_vector_id, ?) where id = ?",
                [looked_at_up_to, label_set.id],
            )


def tag_counts(
    conn: sqlite3.Connection, index: Index, label_set: LabelSet
) -> list[tuple[str, int]]:
    """Tag and number of images that have it by a label set, the most frequent first."""
    sql = (
        "select tag, count(*) as images from {tags} where label_set_id = ? "
        "group by tag order by images desc, tag"
    )
    return conn.execute(sql.format(**index.table.quoted()), [label_set.id]).fetchall()
