"""The words of the tables: their names, and the values that travel in and out."""

from __future__ import annotations

import re
import sqlite3
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np
from sqlite_utils.db import quote_identifier

from ..errors import ImageSearchError
from ..files.remote_urls import is_url, joined
from .image_record import ImageRecord, SceneRow
from .schema_version import APPLIED

ROOTS = "image_search_roots"
INDEXES = "image_search_indexes"
LABEL_SETS = "image_search_label_sets"
REFERENCES = "image_search_references"

DATABASE_TABLES = (ROOTS, INDEXES, LABEL_SETS, REFERENCES, APPLIED)
"""Made of all image tables of a database."""

OF_SQLITE = ("sqlite_sequence", *(f"sqlite_stat{number}" for number in range(1, 5)))
"""What SQLite keeps of all tables: names, how many rows, samples of them."""

SIDE_TABLES: Mapping[str, str] = {
    "vectors": "_{}_vectors",
    # Vector id -> a random number that no other vector has, also of a copy of this database.
    "tokens": "_{}_tokens",
    "thumbnails": "_{}_thumbnails",
    # Of films: image id and seconds -> thumbnail of the frame.
    "scenes": "_{}_scenes",
    "failures": "_{}_failures",
    # Of a person's own table: what the files or BLOBs of its images were like.
    "sources": "_{}_sources",
    # Of a table of ours: the .xmp files beside the images that have some, as they were when they were read. NULL
    # where the metadata of an image is to be read again.
    "beside": "_{}_beside",
    # Columns of a table of ours that a person had made before ours of the same name came: never written.
    "own_columns": "_{}_own_columns",
    # The latitude and longitude that images were located by, and what was written of their places.
    "places": "_{}_places",
    # The words that are written about images, by numbers of their own, and the tables that FTS5 makes for it.
    "texts": "_{}_texts",
    "texts_fts": "_{}_texts_fts",
    "texts_fts_data": "_{}_texts_fts_data",
    "texts_fts_idx": "_{}_texts_fts_idx",
    "texts_fts_content": "_{}_texts_fts_content",
    "texts_fts_docsize": "_{}_texts_fts_docsize",
    "texts_fts_config": "_{}_texts_fts_config",
    # Which pictures were read, and why some could not be.
    "readings": "_{}_readings",
    # Made for people to look at, and to filter by: Datasette hides tables that begin with an underscore.
    "duplicates": "{}_duplicates",
    "tags": "{}_tags",
    "keywords": "{}_keywords",
    "lines": "{}_text",
    "albums": "{}_albums",
    "album_members": "{}_album_members",
}
"""Whatever is made of an image table -> its name. Who may not see the image table may not see these."""

OWN_ROOT = 0
"""Stands for a root in the failures of a person's own table, which has none."""

MOST_VECTORS = 32
"""The most vectors of one image: those of the scenes of a film."""

LAST = 2**63 - 1
"""No id is higher."""

IMAGE_EVENTS = ("inserted", "deleted", "renumbered", "content_changed")
"""What the triggers on every image table are there for."""

IMPORTED = "imported"
"""The fingerprint of vectors of another program, until it is known that an embedder here makes the same ones."""

Key = int | str
"""The primary key of an image table."""


class StoreError(ImageSearchError):
    """A table that is not there, or not of the kind that is needed."""


def _side(kind: str) -> Any:
    """The name of a side table, an attribute of its image table."""
    return property(lambda table: table.side(kind))


_SURROGATES = re.compile("[\ud800-\udfff]")
"""What Python has in place of bytes that are not UTF-8."""


@dataclass(frozen=True)
class ImageTable:
    """
    A table of images, with any integer or text primary key. One that was made from folders has columns for
    the place of a picture, which is a path below a root, and for its hash. Of a person's own these are None:
    its indexes name the column with paths or BLOBs, and the table of sources beside it has the hashes.
    """

    name: str
    key: str
    key_is_integer: bool
    root_column: str | None = None
    path_column: str | None = None
    hash_column: str | None = None

    def side(self, kind: str) -> str:
        """The name of a side table: a key of SIDE_TABLES."""
        return SIDE_TABLES[kind].format(self.name)

    vectors = _side("vectors")
    tokens = _side("tokens")
    thumbnails = _side("thumbnails")
    scenes = _side("scenes")
    failures = _side("failures")
    sources = _side("sources")
    duplicates = _side("duplicates")
    tags = _side("tags")
    keywords = _side("keywords")
    beside = _side("beside")
    own_columns = _side("own_columns")
    places = _side("places")
    texts = _side("texts")
    texts_fts = _side("texts_fts")
    readings = _side("readings")
    lines = _side("lines")

    def parse_key(self, text: str) -> Key | None:
        """The key that a person or a URL wrote down, or None where it can be the key of no row."""
        if not self.key_is_integer:
            return text
        if not re.fullmatch(r"-?[0-9]{1,19}", text) or abs(int(text)) > LAST:
            return None
        return int(text)

    def is_key(self, value: object) -> TypeGuard[Key]:
        """
        Whether it can be the key of an image. SQLite keeps NULL and BLOBs in a column of texts too, texts in one of
        integers, and texts that nobody can ask it for again.
        """
        if self.key_is_integer:
            return isinstance(value, int)
        return isinstance(value, str) and "\0" not in value and not _SURROGATES.search(value)

    def check_takes_rows(self) -> None:
        """Raises StoreError where nobody but a person knows what the key of a new row is to be."""
        if not self.key_is_integer:
            raise StoreError(
                f"the keys of table {self.name!r} are texts of your own, so no rows can be added to it; "
                f"make them whole numbers with: sqlite-utils transform PATH {self.name} --type {self.key} integer"
            )

    def check_is_own(self, advice: str) -> None:
        """Raises StoreError, with advice, for a table that was made from folders."""
        if self.path_column is not None:
            raise StoreError(f"table {self.name!r} was made from folders; {advice}")

    def owns(self, side: str) -> str:
        """SQL: whether a row of a side table, by its alias, is of the picture that its image has."""
        images, key = quote_identifier(self.name), quote_identifier(self.key)
        same = f" and {images}.{self.hash_column} is {side}.sha256" if self.hash_column else ""
        return f"exists (select 1 from {images} where {images}.{key} = {side}.image_id{same})"

    def quoted(self) -> Mapping[str, str]:
        """Identifiers for str.format in SQL."""
        return _quoted(self)


@lru_cache(maxsize=100)
def _quoted(table: ImageTable) -> Mapping[str, str]:
    # Most statements want some of these, and ensure_tables() alone asks for them 53 times.
    sides = {kind: quote_identifier(table.side(kind)) for kind in SIDE_TABLES}
    return MappingProxyType(
        {"images": quote_identifier(table.name), "key": quote_identifier(table.key), **sides}
    )


@dataclass(frozen=True)
class Index:
    """
    The vectors of one image table by one embedder.

    `path_column` or `content_column` says where a person's own table keeps its images; both are None for a table of ours.
    `generation` is the state of the vectors: the XOR of the tokens of all that are there, so that two states with the same
    vectors have the same, and no others. (Without the table of tokens, in a database of version 0.1, it is a counter.)
    `sidecar` is the token of the sidecar file that was last written, which holds every vector up to `sidecar_vector_id`.
    """

    id: int
    image_table: str
    model: str
    weights: str | None
    fingerprint: str
    dimensions: int
    generation: int
    sidecar: str | None
    sidecar_vector_id: int
    path_column: str | None = None
    content_column: str | None = None
    identity: str = ""
    """A random name, by which the index of another database file at the same path is told."""
    index_type: str | None = None
    """What a person asked index-images for, None for nothing."""
    unfinished: bool = False
    """Whether --replace-model is still making it beside the others: nothing is searched with it."""
    references_token: str | None = None
    """What its reference queries are kept under; "" if its model has no use for any, None before that is known."""
    text_tower: str | None = None
    """SHA-256 of the file that its model's part for words was exported to, None without one."""
    engine: str | None = None
    engine_uri: str | None = None
    engine_only: bool = False
    """The engine of the vectors to rank, None for the sidecar; its place, None if beside the database; whether only it has them."""
    table: ImageTable = field(kw_only=True)
    database: Path | None = field(kw_only=True, default=None)
    """The image table as it was when the row was read; and the file that the row was read from, if it has a text tower."""


@dataclass(frozen=True)
class Root:
    id: int
    path: str


@dataclass(frozen=True)
class Location:
    """Where an original is: an absolute folder or a URL, and a POSIX path relative to it."""

    root: str
    path: str

    def whole(self, folder: Path) -> Path | str:
        """Its file, or its URL. Without a root, a path is relative to `folder`, that of the database."""
        if is_url(self.root):
            return joined(self.root, self.path)
        return Path(folder, self.root, self.path)


@dataclass(frozen=True, slots=True)
class Source:
    """What the file or BLOB of an image was like when it was embedded: bytes, time ("" of a BLOB), and hash."""

    size: int
    mtime: str
    sha256: str


@dataclass(frozen=True)
class EmbeddedImage:
    """
    What a batch is made of. `image_id` is None for an image that has no row yet, `content` what is to be known of it: the
    row itself, or only the state of its source in a person's own table. `beside` is the state of the .xmp files that its
    metadata was read with, None if they are to be read again.

    `vector` has shape (dimensions,). That of a film has shape (n, dimensions), a vector for each of its `scenes`, up to
    MOST_VECTORS, of which the first has the thumbnail of the film.
    """

    image_id: Key | None
    content: ImageRecord | Source
    vector: np.ndarray
    thumbnail: bytes | None
    beside: str | None = ""
    scenes: tuple[SceneRow, ...] = ()


@dataclass(frozen=True, slots=True)
class KeywordRow:
    """A row of the table of keywords. The order is the order of the columns."""

    image_id: Key
    keyword: str


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """`picture` is what the table holds, which others can write to as well; `version` that of its original."""

    picture: Any
    version: str | None


@dataclass(frozen=True)
class ReusedImage:
    """
    A file with the bytes of an image that is embedded already, `source_id`. Where `image_id` is the
    same, that image is now at this path; else the file is a copy and gets a row (None: a new one).
    """

    image_id: Key | None
    source_id: Key
    root_id: int
    path: str
    size: int
    mtime: str
    companions: str = ""


@dataclass(frozen=True, slots=True)
class KnownSource:
    """
    What the tables know of a file or BLOB: the row it has, if any, the size and mtime of what was embedded last (None for a
    vector that was imported without the file), or of what could not be (`failed`), and whether its row has a vector.
    `beside` is the state of the .xmp files that its metadata was read with, None if it is to be read again; `companions` as in FoundFile.
    """

    image_id: Key | None
    size: int | None
    mtime: str | None
    failed: bool = False
    has_vector: bool = True
    beside: str | None = ""
    companions: str = ""


@dataclass(frozen=True)
class Failure:
    """
    A file that could not be embedded, and why; or, if it is `embedded` nevertheless, a warning: what is wrong
    with it. It is tried again when size or mtime are others.
    """

    root_id: int
    path: str
    size: int
    mtime: str
    reason: str
    embedded: bool = False


@dataclass(frozen=True)
class DuplicateRow:
    """A row of the table of duplicates. The order is the order of the columns."""

    group_id: int
    image_id: Key
    score: float
    exact: bool
    keep: bool
    sha256: str | None


@dataclass(frozen=True)
class LabelSet:
    """
    What images were given tags of: labels that compete with each other, each put into the templates
    at {}. An image gets the `top` labels at most, those of at least the probability `threshold`; None
    for no such limit. Every vector up to `last_vector_id` was looked at.
    """

    id: int
    index_id: int
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    top: int | None
    threshold: float | None
    last_vector_id: int = 0


@dataclass(frozen=True, slots=True)
class TagRow:
    """
    A row of the table of tags. The order is the order of the columns. A tag that a person adds has
    no label set and no vector, and need not have scores.
    """

    image_id: Key
    tag: str
    score: float | None
    probability: float | None
    label_set_id: int | None
    vector_id: int | None


def find_image_table(conn: sqlite3.Connection, name: str) -> ImageTable:
    """Raises StoreError where there is no such table, or no primary key of one integer or text."""
    columns = conn.execute(
        "select it.name, its.name, its.type, its.pk from sqlite_master as it, pragma_table_xinfo(it.name) as its "
        "where it.type = 'table' and it.name = ? collate nocase",
        [name],
    ).fetchall()
    if not columns:
        if column_names(conn, name):
            raise StoreError(f"{name!r} is a view, and only tables can have images; name its table")
        raise StoreError(f"there is no table {name!r} in this database")
    name = columns[0][0]
    keys = [(column, type_) for _, column, type_, pk in columns if pk]
    if len(keys) != 1:
        raise StoreError(
            f"table {name!r} has no primary key of one column, so its images have no permanent id; give it "
            "one with: sqlite-utils transform PATH TABLE --pk COLUMN"
        )
    ((key, type_),) = keys
    # By SQLite's rule any type with INT in it holds whole numbers, and these hold texts. A column of
    # another type holds both, and 1 and "1" would be two keys here and one there.
    is_integer = "INT" in type_.upper()
    if not is_integer and not re.search("CHAR|CLOB|TEXT", type_.upper()):
        raise StoreError(
            f"the primary key {key!r} of table {name!r} is neither an integer nor a text; "
            f"make it one with: sqlite-utils transform PATH TABLE --type {key} text"
        )
    if {"root_id", "sha256"} <= {column for _, column, _, _ in columns}:
        return ImageTable(name, key, is_integer, "root_id", "path", "sha256")
    return ImageTable(name, key, is_integer)


def column_names(conn: sqlite3.Connection, table: str) -> list[str]:
    """In the order of the table, generated ones among them; none where there is no such table."""
    # Hidden are columns of virtual tables, which nobody selects, by 1, and generated ones by 2 and 3.
    sql = "select name from pragma_table_xinfo(?) where hidden != 1"
    return [name for (name,) in conn.execute(sql, [table])]


def generated_columns(conn: sqlite3.Connection, table: str) -> set[str]:
    """Those that SQLite computes, and nobody writes to."""
    sql = "select name from pragma_table_xinfo(?) where hidden > 1"
    return {name for (name,) in conn.execute(sql, [table])}


def table_exists(conn: sqlite3.Connection, table: str) -> bool:
    return stored_name(conn, table) is not None


def stored_name(conn: sqlite3.Connection, table: str) -> str | None:
    """A table's name as it was written first: for SQLite, "Images" is the same table."""
    row = conn.execute(
        "select name from sqlite_master where type = 'table' and name = ? collate nocase", [table]
    ).fetchone()
    return row[0] if row else None


def folded(name: str) -> str:
    """The same for all spellings of a name that are one to SQLite, which sees no case in ASCII."""
    return name.translate(_LOWER)


_LOWER = {ord(letter): letter.lower() for letter in string.ascii_uppercase}


def trigger_name(table: ImageTable, event: str) -> str:
    return f"_{table.name}_image_search_{event}"
