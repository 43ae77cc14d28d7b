"""
The triggers that keep the promises of the tables, whichever tool writes. If they were gone, their work is
made up for when they come back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .album_rows import AlbumRow, MemberRow
from .line_rows import LineRow, ReadingRow
from .side_schema import column_types, ensure_side_tables
from .sources import replaced_contents
from .tables import (
    OWN_ROOT,
    SIDE_TABLES,
    DuplicateRow,
    ImageTable,
    Key,
    KeywordRow,
    TagRow,
    column_names,
    generated_columns,
    table_exists,
    trigger_name,
)
from .tokens import EVENTS, renew_tokens, token_triggers
from .transactions import transaction
from .written_texts import (
    TEXT_EVENTS,
    TEXT_TABLES,
    ensure_texts,
    fill_texts,
    renew_texts,
    sides_changed,
    text_added,
    text_back,
    text_columns,
    text_gone,
    text_renumbered,
    text_set_aside,
    text_triggers,
)

_ROWIDS = ("rowid", "oid", "_rowid_")
"""Names of an integer key that every table has: to change one renumbers too."""


def ensure_triggers(
    db: Database,
    table: ImageTable,
    own_column: str | None,
    texts: Sequence[str] | None = None,
) -> None:
    """
    Put the triggers (back) where `sqlite-utils transform` or an older version left none, and whatever is missing
    of the tables that they write to. If `own_column` was renamed, its trigger stays as SQLite corrected it. `texts` are
    the columns whose words are searched, None for the usual ones.
    """
    ensure_side_tables(db, table)
    if own_column not in column_names(db.conn, table.name):
        own_column = None
    ensure_texts(db, table, own_column, texts)
    existing = dict(
        db.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
    )
    with_duplicates, with_tags = has_duplicates(db.conn, table), has_tags(db.conn, table)
    with_keywords = is_made_for_keywords(db.conn, table)
    with_places = has_places(db.conn, table)
    text_tables = _text_tables(db.conn, table)
    wanted = _triggers(
        table,
        own_column,
        content_is_generated=own_column in generated_columns(db.conn, table.name),
        with_duplicates=with_duplicates,
        with_tags=with_tags,
        with_keywords=with_keywords,
        with_places=with_places,
        columns=text_columns(db.conn, table),
        texts=text_triggers(db.conn, table, text_tables),
        text_tables=text_tables,
        with_lines=has_lines(db.conn, table),
        with_albums=has_albums(db.conn, table),
    )
    for name, sql in wanted.items():
        if existing.get(name) != sql:
            db.execute(f"drop trigger if exists {quote_identifier(name)}")
            db.execute(sql)
    # Only those that keep tokens prove anything, and only if they did so all the time: that tags have come,
    # which one of them takes along, changes nothing.
    proving = {trigger_name(table, event) for event in token_triggers(table)}
    keeping = [
        existing.get(trigger_name(table, f"vector_{event}")) for event in ("added", "deleted")
    ]
    tokens = table.quoted()["tokens"]
    if not proving <= existing.keys() or any(tokens not in (sql or "") for sql in keeping):
        renew_tokens(db, table)
    if not wanted.keys() <= existing.keys():
        if trigger_name(table, "content_changed") not in existing and own_column is not None:
            forget_images(db, table, replaced_contents(db.conn, table, own_column))
        for side in (table.vectors, table.thumbnails, table.scenes):
            side = quote_identifier(side)
            db.execute(f"delete from {side} where not {table.owns(side)}")
        clear_derived(db, table)
    renew_texts(db, table, existing, text_tables)


def _text_tables(conn: sqlite3.Connection, table: ImageTable) -> list[str]:
    """Those of TEXT_TABLES that there are, and not somebody else's of the same name."""
    has = {"keywords": has_keywords, "tags": has_tags, "lines": has_lines}
    return [kind for kind in TEXT_TABLES if has[kind](conn, table)]


def forget_images(db: Database, table: ImageTable, ids: Iterable[Key]) -> None:
    """Remove what is known of the pictures of some images, as the triggers do."""
    gone = [(key,) for key in ids]
    for side in (
        "vectors",
        "thumbnails",
        "scenes",
        *(["sources"] if table.hash_column is None else []),
    ):
        db.conn.executemany(
            f"delete from {{{side}}} where image_id = ?".format(**table.quoted()), gone
        )


def _triggers(
    table: ImageTable,
    own_column: str | None,
    *,
    content_is_generated: bool,
    with_duplicates: bool,
    with_tags: bool,
    with_keywords: bool,
    with_places: bool,
    columns: Sequence[str],
    texts: Mapping[str, str],
    text_tables: Sequence[str],
    with_lines: bool,
    with_albums: bool,
) -> dict[str, str]:
    """
    Name -> SQL. `forget` is how all that is known of a picture leaves with it, `leave` what is of the row of an image
    and not of its picture.
    """
    names = table.quoted()
    renumber = ""
    forget = (
        "delete from {vectors} where image_id = {row}.{key}; "
        "delete from {thumbnails} where image_id = {row}.{key}; "
        "delete from {scenes} where image_id = {row}.{key};"
    )
    if table.hash_column is None:
        renumber = "update {sources} set image_id = new.{key} where image_id = old.{key}; "
        forget += (
            " delete from {sources} where image_id = {row}.{key};"
            f" delete from {{failures}} where root_id = {OWN_ROOT} and path = '#' || {{row}}.{{key}};"
        )
    if with_duplicates:
        # Without the one to keep, the others would be copies of nothing.
        forget += (
            " delete from {duplicates} where group_id = "
            "(select group_id from {duplicates} where image_id = {row}.{key} and keep); "
            "delete from {duplicates} where image_id = {row}.{key};"
        )
        renumber += "update {duplicates} set image_id = new.{key} where image_id = old.{key}; "
    if table.root_column is not None:
        forget += " delete from {beside} where image_id = {row}.{key};"
        renumber += "update {beside} set image_id = new.{key} where image_id = old.{key}; "
    if with_keywords:
        forget += " delete from {keywords} where image_id = {row}.{key};"
        renumber += "update {keywords} set image_id = new.{key} where image_id = old.{key}; "
    for side in ("lines", "readings") if with_lines else ():
        forget += f" delete from {{{side}}} where image_id = {{row}}.{{key}};"
        renumber += f"update {{{side}}} set image_id = new.{{key}} where image_id = old.{{key}}; "
    leave = ""
    if with_places:
        leave = " delete from {places} where image_id = {row}.{key};"
        renumber += "update {places} set image_id = new.{key} where image_id = old.{key}; "
    if with_albums:
        leave += " delete from {album_members} where image_id = {row}.{key};"
        renumber += "update {album_members} set image_id = new.{key} where image_id = old.{key}; "
    forget_vector = ""
    if with_tags:
        forget += " delete from {tags} where image_id = {row}.{key};"
        # A tag is of a vector, and leaves with it: another vector may be of another picture.
        forget_vector = "delete from {tags} where image_id = old.image_id and vector_id = old.id; "
        renumber += (
            "update {tags} set image_id = new.{key}, vector_id = (select moved.id from {vectors} as "
            "moved join {vectors} as before on moved.index_id = before.index_id where before.id = "
            "vector_id and moved.image_id = new.{key}) where image_id = old.{key}; "
        )
    forget_old = forget.format(row="old", **names)
    forget_new = forget.format(row="new", **names)
    leave_old = leave.format(row="old", **names)
    leave_new = leave.format(row="new", **names)
    bodies = {
        **token_triggers(table),
        **texts,
        # REPLACE fires no delete trigger, but the row that comes instead fires this one.
        # The text goes first, or each keyword that goes would write the others again.
        "inserted": f"after insert on {names['images']} begin{text_gone(table, 'new')} {forget_new}{leave_new}"
        f"{text_added(table, columns)} end",
        "deleted": f"after delete on {names['images']} begin{text_gone(table, 'old')} {forget_old}{leave_old} end",
        "renumbered": (
            # An update of other columns works also if a table that this one names was dropped.
            f"after update of {names['key']}, {', '.join(_ROWIDS)} on {names['images']} "
            f"when old.{names['key']} is not new.{names['key']} begin{text_gone(table, 'new')}"
            f"{text_set_aside(table, 'old')} {forget_new}{leave_new} "
            + "insert into {vectors} (index_id, image_id, sha256, vector, times) "
            "select index_id, new.{key}, sha256, vector, times from {vectors} where image_id = old.{key}; "
            "update {thumbnails} set image_id = new.{key} where image_id = old.{key}; "
            "update {scenes} set image_id = new.{key} where image_id = old.{key}; ".format(**names)
            + renumber.format(**names)
            + f"{forget_old}{text_renumbered(table, columns)} end"
        ),
        "vector_deleted": f"after delete on {names['vectors']} begin "
        + ("delete from {tokens} where vector_id = old.id; " + forget_vector).format(**names)
        + "end",
        "vector_changed": (
            f"before update on {names['vectors']} begin "
            "select raise(abort, 'a vector is never changed in place: delete it and insert'); end"
        ),
    }
    if with_albums:
        # SQLite heeds foreign keys only if it is told to.
        bodies["album_deleted"] = (
            "after delete on {albums} begin "
            "delete from {album_members} where album_id = old.id; end".format(**names)
        )
    content = table.hash_column or own_column
    if content is not None:
        column = quote_identifier(content)
        # No update is one of a generated column, which others change.
        of = "" if content_is_generated else f"of {column} "
        bodies["content_changed"] = (
            f"after update {of}on {names['images']} "
            f"when old.{column} is not new.{column} begin"
            f"{text_set_aside(table, 'old')}{text_set_aside(table, 'new')} {forget_old} {forget_new}"
            + "".join(
                f"{text_back(table, row)}{sides_changed(table, text_tables, row)}"
                for row in ("old", "new")
            )
            + " end"
        )
    return {
        trigger_name(table, event): (
            f"CREATE TRIGGER {quote_identifier(trigger_name(table, event))} {body}"
        )
        for event, body in bodies.items()
    }


@contextmanager
def without_triggers(db: Database, table: ImageTable) -> Iterator[None]:
    """
    Our own triggers of a table are away meanwhile, which makes writing a million rows twice as fast.
    Within a transaction, so that nobody ever sees the table without them; the caller does their work, but for the
    texts of new images. Those of the tokens stay: they keep the state of the index.
    """
    stay = {trigger_name(table, event) for event in (*EVENTS, *TEXT_EVENTS)}
    with transaction(db):
        with _away(db, lambda name: name.startswith(trigger_name(table, "")) and name not in stay):
            yield
            fill_texts(db, table, _text_tables(db.conn, table))
        if has_tags(db.conn, table):
            _clear_tags(db, table)


@contextmanager
def without_vector_triggers(db: Database, table: ImageTable) -> Iterator[None]:
    """
    Rows of vectors are written anew meanwhile, in a transaction of the caller, each with the id, the token and the tags that
    it has.
    """
    of_vectors = trigger_name(table, "vector_")
    with _away(db, lambda name: name.startswith(of_vectors)):
        yield


@contextmanager
def _away(db: Database, is_away: Callable[[str], bool]) -> Iterator[None]:
    sql = "select name, sql from sqlite_master where type = 'trigger'"
    triggers = [(name, sql) for name, sql in db.execute(sql).fetchall() if is_away(name)]
    for name, _ in triggers:
        db.execute(f"drop trigger {quote_identifier(name)}")
    yield
    for _, sql in triggers:
        db.execute(sql)


def existing_side_tables(conn: sqlite3.Connection, table: ImageTable) -> list[str]:
    """What is made of an image table, and not somebody else's of the same name."""
    ours = {
        "duplicates": has_duplicates,
        "tags": has_tags,
        "keywords": is_made_for_keywords,
        "places": has_places,
        "lines": has_lines,
        "readings": has_lines,
        "albums": has_albums,
        "album_members": has_albums,
    }
    return [
        table.side(kind)
        for kind in SIDE_TABLES
        if (ours[kind](conn, table) if kind in ours else table_exists(conn, table.side(kind)))
    ]


def has_duplicates(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether there is a table of near-duplicates, and not somebody else's of the same name."""
    return _is_table_of(conn, table.duplicates, DuplicateRow)


def has_tags(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether there is a table of tags, and not somebody else's of the same name."""
    return _is_table_of(conn, table.tags, TagRow)


def has_keywords(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether there is a table of keywords, and not somebody else's of the same name."""
    return is_made_for_keywords(conn, table) and _is_table_of(conn, table.keywords, KeywordRow)


def has_places(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether there is a table of what images were located by, and not somebody else's of the same name."""
    columns = set(column_names(conn, table.places))
    return table_exists(conn, table.places) and columns >= {
        "image_id",
        "latitude",
        "longitude",
        "max_distance",
    }


def has_lines(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether there are the tables of what was read in pictures, and not somebody else's of the same name."""
    return _is_table_of(conn, table.lines, LineRow) and _is_table_of(
        conn, table.readings, ReadingRow
    )


def has_albums(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether there are the two tables of albums, and not somebody else's of the same names."""
    return _is_table_of(conn, table.side("albums"), AlbumRow) and _is_table_of(
        conn, table.side("album_members"), MemberRow
    )


def is_made_for_keywords(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """
    Whether a table of keywords was made here, also if its column `keyword` has another name now. Two columns do
    not tell: many people have such a table. Its primary key, foreign key and index do together.
    """
    name = table.keywords
    sql = """
        select (select count(*) from pragma_table_info(:name) where pk) = 2
        and exists (select 1 from pragma_foreign_key_list(:name) where "from" = 'image_id')
        and exists (select 1 from pragma_index_list(:name) where name = :index collate nocase)
    """
    names = {"name": name, "index": f"idx_{name}_keyword_image_id"}
    return table_exists(conn, name) and bool(conn.execute(sql, names).fetchone()[0])


def _is_table_of(conn: sqlite3.Connection, name: str, record: type) -> bool:
    """Whether there is a table, and no view, that has at least the columns of a record."""
    columns = set(column_names(conn, name))
    return table_exists(conn, name) and column_types(record).keys() <= columns


def clear_derived(db: Database, table: ImageTable) -> None:
    """What is derived of images, and what they are members of, without those of vectors and images that are gone."""
    if has_duplicates(db.conn, table):
        clear_duplicates(db, table)
    if has_tags(db.conn, table):
        _clear_tags(db, table)
    existing = existing_side_tables(db.conn, table)
    for side in ("beside", "keywords", "places", "lines", "readings", "album_members"):
        if table.side(side) in existing:
            db.execute(
                f"delete from {{{side}}} where image_id not in (select {{key}} from {{images}})".format(
                    **table.quoted()
                )
            )


def clear_duplicates(db: Database, table: ImageTable) -> None:
    """
    Without pictures that are gone or are others now, and groups that this leaves without the one to
    keep, or with that one only.
    """
    owned = table.owns("side")
    names = {**table.quoted(), "owned": owned}
    db.execute(
        "delete from {duplicates} where group_id in "
        "(select group_id from {duplicates} as side where keep and not {owned})".format(**names)
    )
    db.execute("delete from {duplicates} as side where not {owned}".format(**names))
    db.execute(
        "delete from {duplicates} where group_id in "
        "(select group_id from {duplicates} group by group_id having count(*) = 1)".format(**names)
    )


def _clear_tags(db: Database, table: ImageTable) -> None:
    """Without tags of vectors and images that are gone."""
    db.execute(
        "delete from {tags} where not exists "
        "(select 1 from {images} where {images}.{key} = {tags}.image_id) "
        "or (vector_id is not null and not exists (select 1 from {vectors} "
        "where {vectors}.id = {tags}.vector_id and {vectors}.image_id = {tags}.image_id))".format(
            **table.quoted()
        )
    )
