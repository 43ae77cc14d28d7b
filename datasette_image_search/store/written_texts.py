"""
The words that are written about images, in a table of FTS5 beside each image table. Triggers keep it, whichever tool
writes.

The rows of FTS5 have whole numbers of their own, because keys may be texts; the table of texts has the number of each
image. FTS5 keeps a copy of the words, so that a row can be deleted by its number alone.
"""

from __future__ import annotations

import re
import sqlite3
import string
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .soundness import LONGEST_NAME, is_stored_table
from .tables import (
    SIDE_TABLES,
    ImageTable,
    Key,
    StoreError,
    column_names,
    folded,
    generated_columns,
    table_exists,
    trigger_name,
)

TEXT_COLUMNS = ("filename", "folder", "title", "description", "city", "state", "country")
"""Columns of an image table whose words can be searched for, if it has them."""

TEXT_TABLES = {"keywords": "keyword", "tags": "tag", "lines": "text"}
"""
Side tables whose rows are words of an image -> their column. The column of FTS5 has the name of the side table, because
a person's own table may have one called "tags".
"""

LONGEST_TEXT = 10_000
"""Characters of a value that are indexed."""

MOST_COLUMNS = 100
"""Texts of an image table, those of side tables among them."""

_TOKENIZER = "tokenize='unicode61 remove_diacritics 2'"

_SHADOWS = [kind for kind in SIDE_TABLES if kind.startswith("texts_fts_")]

_OF_FTS5 = ("rank", "rowid")
"""Names that no column of any table of FTS5 can have."""


def text_columns(conn: sqlite3.Connection, table: ImageTable) -> tuple[str, ...]:
    """
    The names of the texts that can be searched, in the order of the table of FTS5; none if that is not there, or is
    not as it is made here. It may be of anybody, who could have it read something else.
    """
    row = conn.execute(
        "select sql from sqlite_master where type = 'table' and name = ? collate nocase "
        f"and length(sql) < {LONGEST_NAME} * {MOST_COLUMNS}",
        [table.texts_fts],
    ).fetchone()
    head = _head(table.texts_fts)
    if row is None or not str(row[0]).startswith(head):
        return ()
    names = re.findall(r'"((?:[^"]|"")*)"', str(row[0])[len(head) :])
    columns = tuple(name.replace('""', '"') for name in names)
    is_sound = row[0] == definition(table.texts_fts, columns) and all(
        is_stored_table(conn, table.side(kind), *needed)
        for kind, needed in [("texts", ("id", "image_id")), *((kind, ()) for kind in _SHADOWS)]
    )
    return columns if is_sound else ()


def _head(name: str) -> str:
    return f"CREATE VIRTUAL TABLE {quote_identifier(name)} USING fts5("


def definition(name: str, columns: Iterable[str]) -> str:
    """SQL that makes a table of FTS5 for texts."""
    return f"{_head(name)}{', '.join([*map(quote_identifier, columns), _TOKENIZER])})"


def ensure_texts(
    db: Database,
    table: ImageTable,
    own_column: str | None = None,
    wanted: Sequence[str] | None = None,
) -> None:
    """
    Make the table of texts if there is none for these columns of the image table. `wanted` None are those that it has
    already, or else TEXT_COLUMNS and the column of a person's own paths. A table from folders always has TEXT_COLUMNS.

    Raises StoreError for a column that there is not.
    """
    before = text_columns(db.conn, table)
    chosen = _of_table(table, before)
    if wanted is not None:
        chosen = _checked(db.conn, table, wanted)
    if table.root_column is not None:
        # Also those that a person has dropped: who adds one again finds its words.
        chosen = tuple(dict.fromkeys([*TEXT_COLUMNS, *chosen]))
    columns = (*(chosen or _usual(db.conn, table, own_column)), *map(table.side, TEXT_TABLES))
    if len(columns) > MOST_COLUMNS:
        raise StoreError(
            f"the texts of {len(columns) - len(TEXT_TABLES)} columns of {table.name!r} cannot be searched; "
            f"name at most {MOST_COLUMNS - len(TEXT_TABLES)}"
        )
    if columns == before:
        return
    for kind in ("texts_fts", "texts"):
        if table_exists(db.conn, table.side(kind)):
            db.execute(f"drop table {quote_identifier(table.side(kind))}")
    key_type = "INTEGER" if table.key_is_integer else "TEXT"
    names = table.quoted()
    db.execute(
        f"create table {names['texts']} (id INTEGER PRIMARY KEY, image_id {key_type} UNIQUE)"
    )
    db.execute(definition(table.texts_fts, columns))


def _checked(conn: sqlite3.Connection, table: ImageTable, wanted: Sequence[str]) -> tuple[str, ...]:
    there = {folded(name): name for name in column_names(conn, table.name)}
    for name in wanted:
        if folded(name) not in there:
            raise StoreError(
                f"table {table.name!r} has no column {name!r}; it has {', '.join(there.values())}"
            )
        if len(name) > LONGEST_NAME:
            raise StoreError(
                f"the texts of column '{name[:20]}...' cannot be searched, because its name has more than "
                f"{LONGEST_NAME} characters; rename the column"
            )
        if folded(name) in _taken(table):
            raise StoreError(
                f"the texts of column {name!r} cannot be searched, because the index of texts needs that name; "
                "rename the column"
            )
    return tuple(dict.fromkeys(there[folded(name)] for name in wanted))


def _usual(conn: sqlite3.Connection, table: ImageTable, own_column: str | None) -> tuple[str, ...]:
    there = {folded(name): name for name in column_names(conn, table.name)}
    return tuple(
        there[folded(name)]
        for name in dict.fromkeys([*filter(None, [own_column]), *TEXT_COLUMNS])
        if folded(name) in there and folded(name) not in _taken(table) and len(name) <= LONGEST_NAME
    )


def _taken(table: ImageTable) -> set[str]:
    """Names that no text of an image table can have in its table of FTS5, as `folded` writes them."""
    return {*_OF_FTS5, *map(folded, [table.texts_fts, *map(table.side, TEXT_TABLES)])}


# --- What keeps them -----------------------------------------------------------------------------


def text_gone(table: ImageTable, row: str) -> str:
    """Statements of a trigger: what is written of `row`, "old" or "new", is not found any more."""
    n = table.quoted()
    return (
        f" delete from {n['texts_fts']} where rowid = {_number(table, row)};"
        f" delete from {n['texts']} where image_id = {row}.{n['key']};"
    )


def text_added(table: ImageTable, columns: Sequence[str]) -> str:
    """Statements of a trigger: the texts of a new row, after text_gone()."""
    n, own = table.quoted(), _of_table(table, columns)
    return (
        f" insert into {n['texts']} (image_id) select new.{n['key']} where new.{n['key']} is not null;"
        f" insert into {n['texts_fts']} ({', '.join(['rowid', *map(quote_identifier, own)])})"
        f" select {_number(table, 'new')}{', *' * bool(own)} from {_current(table, own)} where new.{n['key']} is not null;"
    )


def text_set_aside(table: ImageTable, row: str) -> str:
    """
    Statement of a trigger: what happens to the side tables of `row` changes no text, until text_back(). Each of a thousand
    keywords would write all of them again.
    """
    n = table.quoted()
    return f" update {n['texts']} set id = -id where image_id = {row}.{n['key']} and id > 0;"


def text_back(table: ImageTable, row: str) -> str:
    """Statement of a trigger: the end of text_set_aside()."""
    n = table.quoted()
    return f" update {n['texts']} set id = -id where image_id = {row}.{n['key']} and id < 0;"


def text_renumbered(table: ImageTable, columns: Sequence[str]) -> str:
    """Statements of a trigger: an image that is set aside has another key, and perhaps other texts too."""
    n = table.quoted()
    return (
        f" update {n['texts']} set image_id = new.{n['key']} where image_id = old.{n['key']};"
        f"{text_back(table, 'new')}{_text_written(table, _of_table(table, columns))}"
    )


def _text_written(table: ImageTable, own: Sequence[str], *, if_changed: bool = False) -> str:
    if not own:
        return ""
    n, listed, current = table.quoted(), ", ".join(map(quote_identifier, own)), _current(table, own)
    condition = f" and ({listed}) is not {current}" if if_changed else ""
    return f" update {n['texts_fts']} set ({listed}) = {current} where rowid = {_number(table, 'new')}{condition};"


def sides_changed(table: ImageTable, side_tables: Iterable[str], row: str) -> str:
    """Statement of a trigger: the texts of all `side_tables`, which are as in text_triggers()."""
    n = table.quoted()
    current = {n[kind]: _rows_of(table, kind, f"{row}.{n['key']}") for kind in side_tables}
    if not current:
        return ""
    listed, rows = ", ".join(current), ", ".join(current.values())
    return (
        f" update {n['texts_fts']} set ({listed}) = (select {rows}) "
        f"where rowid = {_number(table, row)} and ({listed}) is not (select {rows});"
    )


def _number(table: ImageTable, row: str) -> str:
    """Of an image in the table of FTS5."""
    n = table.quoted()
    return f"(select id from {n['texts']} where image_id = {row}.{n['key']})"


def text_triggers(
    conn: sqlite3.Connection, table: ImageTable, side_tables: Iterable[str]
) -> dict[str, str]:
    """
    Event -> what happens then, beside the statements above. `side_tables` are those of TEXT_TABLES that there are.
    """
    n, own = table.quoted(), _of_table(table, text_columns(conn, table))
    bodies = {}
    if own:
        # No update is one of a generated column, which others change.
        is_generated = generated_columns(conn, table.name) & set(own)
        of = "" if is_generated else f" of {', '.join(map(quote_identifier, own))}"
        bodies["text_changed"] = (
            f"after update{of} on {n['images']} when old.{n['key']} is new.{n['key']} begin"
            f"{_text_written(table, own, if_changed=True)} end"
        )
    for kind in side_tables:
        for event, (verb, rows) in _CHANGES.items():
            changes = " ".join(
                f"update {n['texts_fts']} set {n[kind]} = {_rows_of(table, kind, f'{row}.image_id')} "
                f"where rowid = (select id from {n['texts']} where image_id = {row}.image_id);"
                for row in rows
            )
            bodies[f"text_{kind}_{event}"] = f"after {verb} on {n[kind]} begin {changes} end"
    return bodies


_CHANGES = {
    "added": ("insert", ("new",)),
    "deleted": ("delete", ("old",)),
    "changed": ("update", ("old", "new")),
}

TEXT_EVENTS = tuple(f"text_{kind}_{event}" for kind in TEXT_TABLES for event in _CHANGES)
"""The triggers on side tables."""


def renew_texts(
    db: Database, table: ImageTable, existing: Mapping[str, str], side_tables: Sequence[str]
) -> None:
    """
    Make up for what no trigger has kept. `existing` were the triggers before, name -> SQL. `side_tables` are as in
    text_triggers().
    """
    columns, n = text_columns(db.conn, table), table.quoted()
    bodies = {
        "inserted": text_added(table, columns),
        "deleted": text_gone(table, "old"),
        "renumbered": text_renumbered(table, columns),
        **text_triggers(db.conn, table, ()),
    }
    if all(body in existing.get(trigger_name(table, event), "") for event, body in bodies.items()):
        for kind in side_tables:
            if trigger_name(table, f"text_{kind}_changed") not in existing:
                rows = _rows_of(
                    table,
                    kind,
                    f"(select image_id from {n['texts']} where id = {n['texts_fts']}.rowid)",
                )
                db.execute(
                    f"update {n['texts_fts']} set {n[kind]} = {rows} where {n[kind]} is not {rows}"
                )
    else:
        forget_texts(db, table, "1")
    fill_texts(db, table, side_tables)


def fill_texts(db: Database, table: ImageTable, side_tables: Iterable[str]) -> None:
    """The texts of all images that have none yet, as the triggers write them."""
    columns = text_columns(db.conn, table)
    n, there = table.quoted(), set(map(folded, column_names(db.conn, table.name)))
    (last,) = db.execute(f"select coalesce(max(id), 0) from {n['texts']}").fetchone()
    db.execute(
        f"insert into {n['texts']} (image_id) select {n['key']} from {n['images']} where {n['key']} is not null "
        f"and not exists (select 1 from {n['texts']} where image_id = {n['images']}.{n['key']})"
    )
    texts = {
        quote_identifier(name): _text_of(f"_image.{quote_identifier(name)}")
        for name in _of_table(table, columns)
        if folded(name) in there
    }
    texts |= {n[kind]: _rows_of(table, kind, "_text.image_id") for kind in side_tables}
    db.execute(
        f"insert into {n['texts_fts']} ({', '.join(['rowid', *texts])}) "
        f"select {', '.join(['_text.id', *texts.values()])} from {n['texts']} as _text "
        f"cross join {n['images']} as _image on _image.{n['key']} = _text.image_id where _text.id > ?",
        [last],
    )


@contextmanager
def texts_written_once(
    db: Database, table: ImageTable, kind: str, keys: Collection[Key]
) -> Iterator[None]:
    """
    Meanwhile rows of a side table change, `kind` of TEXT_TABLES, of these images, whose texts are written at the end and
    not for each row. Within a transaction that an error undoes.
    """
    n, images = table.quoted(), [(key,) for key in keys]
    db.conn.executemany(f"update {n['texts']} set id = -id where image_id = ? and id > 0", images)
    yield
    db.conn.executemany(f"update {n['texts']} set id = -id where image_id = ? and id < 0", images)
    rows = _rows_of(table, kind, "?1")
    db.conn.executemany(
        f"update {n['texts_fts']} set {n[kind]} = {rows} where rowid = "
        f"(select id from {n['texts']} where image_id = ?1) and {n[kind]} is not {rows}",
        images,
    )


def forget_texts(db: Database, table: ImageTable, where: str) -> None:
    """Of the rows of the table of texts that a clause is true for."""
    n = table.quoted()
    chosen = f"(select id from {n['texts']} where {where})"
    db.execute(f"delete from {n['texts_fts']} where rowid in {chosen}")
    db.execute(f"delete from {n['texts']} where {where}")


def _of_table(table: ImageTable, columns: Iterable[str]) -> tuple[str, ...]:
    """Those that are columns of the image table."""
    sides = set(map(table.side, TEXT_TABLES))
    return tuple(name for name in columns if name not in sides)


def _current(table: ImageTable, columns: Sequence[str]) -> str:
    """
    Select of one row: what the image `new` has in these columns. Each program that opens the database parses its triggers, so
    all columns share what _text_of() says. A column that is not there is looked for further out, where it is null: SQLite lets
    nobody drop a column that a trigger names in another way.
    """
    if not columns:
        return "(select null)"
    n = table.quoted()
    # Without the plus all values would take the type of the first column, and 2019 become 2019.0.
    values = " union all ".join(
        f"select {at} as _at, (select +{name} from {n['images']} where {n['key']} = new.{n['key']}) as _value "
        f"from (select null as {name})"
        for at, name in enumerate(map(quote_identifier, columns))
    )
    texts = ", ".join(f"max(case _at when {at} then _text end)" for at in range(len(columns)))
    # With a limit SQLite does not compile the text into each of them.
    return f"(select {texts} from (select _at, {_text_of('_value')} as _text from ({values}) limit {len(columns)}))"


def _rows_of(table: ImageTable, kind: str, image: str) -> str:
    """The rows of a side table as one text."""
    return (
        f"(select group_concat({_text_of(TEXT_TABLES[kind])}, char(10)) "
        f"from {table.quoted()[kind]} where image_id = {image})"
    )


def _text_of(column: str) -> str:
    """
    The text that is indexed. FTS5 takes "lisbon2019" for one word, so such a text comes a second time, with a space
    before and after each run of digits.
    """
    text = f"substr({column}, 1, {LONGEST_TEXT})"
    # Two spaces are then only between two digits of one run.
    words = f"replace({text}, ' ', '_')"
    for digit in string.digits:
        words = f"replace({words}, '{digit}', ' {digit} ')"
    # Each update of an image compares all of its texts, most of which have no digits: one look tells.
    return (
        f"case when {column} is null or typeof({column}) = 'blob' then null "
        f"when {column} not glob '*[0-9]*' then {text} "
        f"when {text} glob '*[0-9][^0-9 _./-]*' or {text} glob '*[^0-9 _./-][0-9]*' "
        f"then {text} || ' ' || replace({words}, '  ', '') else {text} end"
    )
