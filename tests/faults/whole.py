"""What must hold of a database and the files beside it, whatever was done to it."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from datasette_image_search import store
from datasette_image_search.store.indexes import image_table_names

from . import searches

Portrait = dict[str, Any]


def check_whole(database: Path, seed: str, table: str = "images") -> None:
    """Of the tables, and of every way to search them."""
    if not database.exists():
        return
    with closing(searches.connected(database)) as conn:
        check_tables(conn, table)
        if not image_table_names(conn):
            return
        check_rows_have_vectors(conn, table)
        searches.check_connection(conn, Random(seed), table)
    searches.check_search_images(database, Random(seed), table)


def check_tables(conn: sqlite3.Connection, table: str = "images") -> None:
    """Whole pages, and nothing in a side table that has no image."""
    assert conn.execute("pragma integrity_check").fetchall() == [("ok",)]
    tables = _tables(conn)
    if table not in tables or f"_{table}_vectors" not in tables:
        return
    assert conn.execute("pragma foreign_key_check").fetchall() == []
    key = store.find_image_table(conn, table).key
    sides = [
        name
        for name in (
            *(f"_{table}_{kind}" for kind in ("vectors", "thumbnails", "scenes", "sources")),
            *(f"{table}_{kind}" for kind in ("tags", "duplicates")),
        )
        if name in tables
    ]
    for side in sides:
        without = conn.execute(
            f'select image_id from "{side}" where image_id not in (select "{key}" from "{table}")'
        ).fetchall()
        assert not without, f"{side} has rows of images that are gone: {without}"
    for side in (f"_{table}_vectors", f"_{table}_thumbnails"):
        if "sha256" in _columns(conn, table):
            others = conn.execute(
                f'select image_id from "{side}" as side join "{table}" as image '
                f'on image."{key}" = image_id where image.sha256 is not side.sha256'
            ).fetchall()
            assert not others, f"{side} has rows of other pictures: {others}"
    if f"{table}_duplicates" in sides:
        groups = defaultdict(list)
        for group, keep in conn.execute(f'select group_id, keep from "{table}_duplicates"'):
            groups[group].append(keep)
        for group, keeps in groups.items():
            assert len(keeps) > 1, f"group {group} of duplicates has one image"
            assert sum(keeps) == 1, f"group {group} of duplicates has {sum(keeps)} to keep"
    if f"{table}_tags" in sides:
        without = conn.execute(
            f'select image_id, tag from "{table}_tags" as tag where vector_id is not null '
            f'and not exists (select 1 from "_{table}_vectors" as side '
            "where side.id = tag.vector_id and side.image_id = tag.image_id)"
        ).fetchall()
        assert not without, f"tags of vectors that are gone: {without}"


def check_rows_have_vectors(conn: sqlite3.Connection, table: str = "images") -> None:
    """Each row has a vector of the index that searches use, but for what could not be embedded."""
    state = searches.state_of(conn, table)
    failed = {path for (path,) in conn.execute(f'select path from "_{table}_failures"')}
    names = dict(conn.execute(f'select "{state.key}", path from "{table}"'))
    without = [
        names[id] for id in state.everything if id not in state.images and names[id] not in failed
    ]
    assert not without, f"rows without a vector of {state.model}: {without}"


@dataclass(frozen=True)
class Described:
    """
    What is in a database, without what differs from run to run: ids and tokens. `images` are rows with
    all that belongs to them, by path; `all_at_once` is what one transaction writes.
    """

    images: Portrait
    failures: Portrait
    all_at_once: Portrait
    schema: frozenset[str]


ROUNDING = 1e-5
"""As a model rounds, with what is in the batch."""

HALF_PRECISION = 1e-3
"""As an engine has vectors."""


class About:
    """A vector, equal to one that differs by rounding."""

    def __init__(self, vector: bytes, rounding: float) -> None:
        self.values = np.frombuffer(vector, "<f4")
        self.rounding = rounding

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, About)
            and len(self.values) == len(other.values)
            and np.allclose(
                self.values, other.values, rtol=0, atol=max(self.rounding, other.rounding)
            )
        )

    __hash__ = None

    def __repr__(self) -> str:
        return f"About({self.values[:3]} of {len(self.values)})"


NOTHING = Described({}, {}, {}, frozenset())


def described(database: Path, table: str = "images") -> Described:
    if not database.exists():
        return NOTHING
    with closing(sqlite3.connect(database, timeout=30)) as conn:
        conn.row_factory = sqlite3.Row
        if table not in _tables(conn):
            return NOTHING
        return _described(conn, table)


def _described(conn: sqlite3.Connection, table: str) -> Described:
    tables = _tables(conn)
    roots = dict(conn.execute("select id, path from image_search_roots").fetchall())
    images: Portrait = {}
    path_of = {}
    for row in conn.execute(f'select * from "{table}"'):
        columns = {name: row[name] for name in row.keys() if name not in ("id", "root_id")}  # noqa: SIM118
        path_of[row["id"]] = path = f"{roots[row['root_id']]}/{row['path']}"
        images[path] = {**columns, "vectors": {}, "tags": {}, "lines": []}
    models = {}
    if "image_search_indexes" in tables:
        # Not those that are being made, which nobody searches yet.
        indexes = {index.id: index for index in store.read_indexes(conn, table)}
        models = {id: index.model for id, index in indexes.items()}
        for image, index, cell in conn.execute(
            f'select image_id, index_id, vector from "_{table}_vectors"'
        ):
            if index in models:
                vector = searches.vector_of(conn, indexes[index], cell)
                rounding = ROUNDING if indexes[index].engine is None else HALF_PRECISION
                images[path_of[image]]["vectors"][models[index]] = About(vector, rounding)
        for image, webp in conn.execute(f'select image_id, webp from "_{table}_thumbnails"'):
            images[path_of[image]]["thumbnail"] = _digest(webp)
    if f"_{table}_scenes" in tables:
        for image, at, webp in conn.execute(f'select image_id, at, webp from "_{table}_scenes"'):
            images[path_of[image]].setdefault("scenes", {})[at] = _digest(webp)
    failures = {
        f"{roots[root]}/{path}": (reason, size)
        for root, path, reason, size in conn.execute(
            f'select root_id, path, reason, size from "_{table}_failures"'
        )
    }
    if f"{table}_tags" in tables:
        for image, tag, score in conn.execute(f'select image_id, tag, score from "{table}_tags"'):
            images[path_of[image]]["tags"][tag] = pytest.approx(score, abs=1e-4)
    for side in (f"_{table}_places", f"_{table}_readings"):
        for image, *values in conn.execute(f'select * from "{side}"') if side in tables else ():
            images[path_of[image]][side] = values
    if f"{table}_text" in tables:
        sql = f'select image_id, text, score, box from "{table}_text" order by rowid'
        for image, *line in conn.execute(sql):
            images[path_of[image]]["lines"].append(line)
    all_at_once: Portrait = {}
    if f"{table}_duplicates" in tables:
        groups = defaultdict(set)
        for group, image, keep in conn.execute(
            f'select group_id, image_id, keep from "{table}_duplicates"'
        ):
            groups[group].add((path_of[image], keep))
        all_at_once["duplicates"] = {frozenset(group) for group in groups.values()}
    if models:
        sql = f'select typeof(vector), count(*) from "_{table}_vectors" group by 1'
        all_at_once["cells"] = dict(conn.execute(sql))
        columns = "image_table, model, fingerprint, dimensions, weights, index_type"
        rows = conn.execute(f"select {columns} from image_search_indexes order by model")
        all_at_once["indexes"] = [tuple(row) for row in rows]
    schema = frozenset(
        f"{kind} {name}: {sql}"
        for kind, name, sql in conn.execute("select type, name, sql from sqlite_master")
    )
    return Described(images, failures, all_at_once, schema)


def check_between(now: Described, before: Described, after: Described) -> None:
    """
    That each image is as it was or as it will be, and not something in between. (While it is tagged anew
    it may have tags of both, as those that were there stay until all images have the new ones.)
    """
    for path, image in now.images.items():
        allowed = [each.images[path] for each in (before, after) if path in each.images]
        assert any(_is_as(image, each) for each in allowed), (
            f"{path} is {image}, and neither of {allowed}"
        )
        tags = [tag for each in allowed for tag in each["tags"].items()]
        assert all(tag in tags for tag in image["tags"].items()), f"{path}: {image['tags']}"
    for path, image in before.images.items():
        if after.images.get(path) == image:
            assert path in now.images, f"{path} is lost"


def _is_as(now: Portrait, image: Portrait) -> bool:
    # A migration adds columns, and they are NULL until something is read for them.
    known = {name: value for name, value in now.items() if name in image or value is not None}
    same = {**known, "tags": {}} == {**image, "tags": {}}
    return same and all(now["tags"].get(tag) == score for tag, score in image["tags"].items())


def check_same(now: Described, undisturbed: Described) -> None:
    """That it came to the same in the end."""
    assert now.images.keys() == undisturbed.images.keys()
    for path, image in now.images.items():
        assert image == undisturbed.images[path], path
    assert now.failures == undisturbed.failures
    assert now.all_at_once == undisturbed.all_at_once
    assert now.schema == undisturbed.schema


def check_files(database: Path, undisturbed: Path) -> None:
    """
    That the files beside a database are those that an undisturbed run leaves. What a process was
    writing when it was killed is left for an hour, as it may be another's that still writes.
    """
    here, there = (
        sorted(
            # An index that is made again has another number.
            re.sub(r"-image-search-\d+", "-image-search", file.name)
            for file in path.parent.iterdir()
            if file.suffix != ".tmp"
        )
        for path in (database, undisturbed)
    )
    assert here == there


def _digest(value: bytes | None) -> str | None:
    return None if value is None else hashlib.sha256(value).hexdigest()[:16]


def _tables(conn: sqlite3.Connection) -> set[str]:
    return {name for (name,) in conn.execute("select name from sqlite_master where type = 'table'")}


def _columns(conn: sqlite3.Connection, table: str) -> set[str]:
    return {name for (name,) in conn.execute("select name from pragma_table_info(?)", [table])}
