"""
An index that is made to come in place of others. Until it is whole they are searched, and it has a row
in the table of indexes that says so, and vectors of its own.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

from sqlite_utils import Database

from ..errors import printable
from .indexes import read_indexes, update_index
from .tables import INDEXES, REFERENCES, ImageTable, Index, Key, table_exists
from .tags import forget_label_sets
from .transactions import transaction

logger = logging.getLogger(__name__)


def unfinished_index(conn: sqlite3.Connection, table: str) -> Index | None:
    """The index that --replace-model has begun to make for a table and not put into use."""
    indexes = read_indexes(conn, table, with_unfinished=True)
    return next((index for index in indexes if index.unfinished), None)


def images_to_lose(
    conn: sqlite3.Connection, replaced: Sequence[Index], index: Index | None
) -> list[Key]:
    """The images that have a vector in one of the indexes to replace, and none in `index`."""
    if not replaced or not table_exists(conn, replaced[0].table.vectors):
        return []
    table = replaced[0].table
    # In this order: whose picture a vector is of is in the row with the vector, which is long.
    sql = (
        "select distinct image_id from {vectors} as side where index_id in ({replaced}) "
        "and not exists (select 1 from {vectors} as its "
        "where its.image_id = side.image_id and its.index_id = ?) and {owned}"
    ).format(
        replaced=", ".join(str(each.id) for each in replaced),
        owned=table.owns("side"),
        **table.quoted(),
    )
    return [key for (key,) in conn.execute(sql, [index.id if index else None])]


def delete_index(db: Database, table: ImageTable, index: Index) -> None:
    """An index with all of its vectors and their tags. The images and their thumbnails stay."""
    with transaction(db):
        forget_label_sets(db, index)
        # Perhaps without the triggers that would do it.
        db.table(table.tokens).delete_where("index_id = ?", [index.id])
        db.table(table.vectors).delete_where("index_id = ?", [index.id])
        if table_exists(db.conn, REFERENCES):
            db.table(REFERENCES).delete_where("index_id = ?", [index.id])
        db.table(INDEXES).delete(index.id)


def take_over(db: Database, table: ImageTable, index: Index, replaced: Sequence[Index]) -> None:
    """
    From now on `index` is searched, and the others are gone with all that hangs on them, in one
    transaction. It is of the type, and in an engine beside the database, that a person chose for the first of them.
    """
    chosen = next((each for each in (index, *replaced) if each.engine or each.index_type), index)
    now = {"unfinished": 0, "index_type": chosen.index_type}
    if chosen is not index and chosen.engine_uri is not None:
        # That place has the vectors of another index.
        now["index_type"] = None
        logger.warning(
            "the vectors of %s by %s are in the database and a file beside it; to have them in %s as those before, name an "
            "empty place with index-images --engine %s --uri",
            *(printable(repr(each)) for each in (table.name, index.model)),
            *[printable(str(chosen.engine))] * 2,
        )
    elif chosen is not index:
        now |= {"engine": chosen.engine, "engine_only": chosen.engine_only}
    with transaction(db):
        for each in replaced:
            delete_index(db, table, each)
        update_index(db, index, now)
