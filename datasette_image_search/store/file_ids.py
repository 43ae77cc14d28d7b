"""Which images the files of a person are."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlite_utils.db import quote_identifier

from ..errors import counted
from .reads import check_in_files
from .soundness import is_stored_table
from .tables import ROOTS, ImageTable, Index, Key, StoreError, column_names


def ids_of_files(
    conn: sqlite3.Connection, index: Index, folder: Path, files: Sequence[Path]
) -> list[Key]:
    """
    The ids of the images in files, in their order. A path is one on this machine, or as the table has it, which may be
    that of several images, in folders that were embedded each; `folder` is that of the database. Raises StoreError, with
    the first of them, for files that are no images of the table.
    """
    check_in_files(index)
    table = index.table
    column = table.path_column or index.path_column
    if column is None or column not in column_names(conn, table.name):
        raise StoreError(f"{table.name!r} has no column with paths; choose images by --where")
    roots = _roots(conn, table, folder)
    spelled = {file: list(_spellings(file, roots)) for file in files}
    wanted = {path for some in spelled.values() for _, path in some}
    root = quote_identifier(table.root_column) if table.root_column else "null"
    rows = conn.execute(
        "select {root}, {path}, {key} from {images} where {path} in (select value from json_each(?))".format(
            root=root, path=quote_identifier(column), **table.quoted()
        ),
        [json.dumps(sorted(wanted))],
    )
    known: dict[tuple[object, str], list[Key]] = {}
    for root_id, path, key in rows:
        if table.is_key(key):
            known.setdefault((root_id, path), []).append(key)
            known.setdefault((..., path), []).append(key)
    found = {
        file: next((known[each] for each in some if each in known), [])
        for file, some in spelled.items()
    }
    missing = [file for file, keys in found.items() if not keys]
    if missing:
        others = f", nor are {counted(len(missing) - 1, 'other')}" if len(missing) > 1 else ""
        raise StoreError(
            f"{str(missing[0])!r} is no image of {table.name!r}{others}; embed it first, or leave it out"
        )
    return [key for file in files for key in found[file]]


def _roots(conn: sqlite3.Connection, table: ImageTable, folder: Path) -> list[tuple[object, Path]]:
    """Those of a table from folders, each also without the links in its path."""
    if table.root_column is None or not is_stored_table(conn, ROOTS):
        return [(None, folder), (None, folder.resolve())]
    rows = conn.execute(f"select id, path from {ROOTS} where typeof(path) = 'text'").fetchall()
    return [
        (id, each)
        for id, path in rows
        for each in (folder / path, Path(os.path.realpath(folder / path)))
    ]


def _spellings(file: Path, roots: Sequence[tuple[object, Path]]) -> Iterator[tuple[object, str]]:
    """How the table may have a file: root and path below it, the likeliest first."""
    for place in dict.fromkeys(
        (Path(os.path.normpath(file.absolute())), Path(os.path.realpath(file)))
    ):
        for id, root in roots:
            if place.is_relative_to(root):
                yield id, place.relative_to(root).as_posix()
        # A path of a person's own table may be absolute.
        yield None, str(place)
    yield ..., file.as_posix()
