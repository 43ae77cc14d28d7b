"""The words of the tables: their names, the values that travel in and out, and which ones there are."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import xor

import numpy as np
from sqlite_utils.db import quote_identifier

from ..errors import ImageSearchError

ROOTS = "image_search_roots"
INDEXES = "image_search_indexes"
LABEL_SETS = "image_search_label_sets"

OWN_ROOT = 0
"""Stands for a root in the failures of a person's own table, which has none."""

LAST = 2**63 - 1
"""No id is higher."""

IMAGE_EVENTS = ("inserted", "deleted", "renumbered")
"""What the triggers on every image table are there for."""

IMPORTED = "imported"
"""The fingerprint of vectors that another program made, until it is known that an embedder here makes
the same ones."""

Key = int | str
"""The primary key of an image table."""


class StoreError(ImageSearchError):
    """A table that is not there, or not of the kind that is needed."""


@dataclass(frozen=True)
class ImageTable:
    """An image table: ours, or a person's own with any integer or text primary key."""

    name: str
    key: str
    key_is_integer: bool
    is_ours: bool = False

    @property
    def sources(self) -> str:
        """For a person's own table: what the files or BLOBs of its images were like."""
        return f"_{self.name}_sources"

    @property
    def vectors(self) -> str:
        return f"_{self.name}_vectors"

    @property
    def tokens(self) -> str:
        """Vector id -> a random number that no other vector has, also of a copy of this database."""
        return f"_{self.name}_tokens"

    @property
    def thumbnails(self) -> str:
        return f"_{self.name}_thumbnails"

    @property
    def failures(self) -> str:
        return f"_{self.name}_failures"

    @property
    def duplicates(self) -> str:
        """Made for people to look at: Datasette hides tables that begin with an underscore."""
        return f"{self.name}_duplicates"

    @property
    def tags(self) -> str:
        """Made for people to look at, and to filter by."""
        return f"{self.name}_tags"

    def parse_key(self, text: str) -> Key | None:
        """The key that a person or a URL wrote down, or None where it can be the key of no row."""
        if not self.key_is_integer:
            return text
        if not re.fullmatch(r"-?[0-9]{1,19}", text) or abs(int(text)) > LAST:
            return None
        return int(text)

    def owns(self, side: str) -> str:
        """SQL: whether a row of a side table, by its alias, is of the picture that its image has."""
        images, key = quote_identifier(self.name), quote_identifier(self.key)
        same = f" and {images}.sha256 is {side}.sha256" if self.is_ours else ""
        return f"exists (select 1 from {images} where {images}.{key} = {side}.image_id{same})"

    def quoted(self) -> dict[str, str]:
        """Identifiers for str.format in SQL."""
        return {
            "images": quote_identifier(self.name),
            "key": quote_identifier(self.key),
            "vectors": quote_identifier(self.vectors),
            "tokens": quote_identifier(self.tokens),
            "thumbnails": quote_identifier(self.thumbnails),
            "failures": quote_identifier(self.failures),
            "duplicates": quote_identifier(self.duplicates),
            "sources": quote_identifier(self.sources),
            "tags": quote_identifier(self.tags),
        }


@dataclass(frozen=True)
class Index:
    """
    The vectors of one image table by one embedder.

    `path_column` or `content_column` says where a person's own table keeps its images; both are
    None for a table of ours. `generation` is the state of the vectors: the XOR of the tokens of all that
    are there, so that two states with the same vectors have the same, and no others. (Without the table of
    tokens, in a database of version 0.1, it is a counter.) `sidecar` is the token of the sidecar file that
    was last written, which holds every vector up to `sidecar_vector_id`.
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


@dataclass(frozen=True)
class Root:
    id: int
    path: str


@dataclass(frozen=True)
class Location:
    """Where an original is: an absolute folder, and a POSIX path relative to it."""

    root: str
    path: str


@dataclass(frozen=True)
class ImageRecord:
    """The columns of an image table of ours, less its id. The order is the order of the columns."""

    root_id: int
    path: str
    folder: str
    filename: str
    format: str
    width: int
    height: int
    size: int
    mtime: str
    sha256: str
    taken_at: str | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    lens: str | None = None
    focal_length: float | None = None
    f_number: float | None = None
    exposure_time: float | None = None
    iso: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the file or BLOB of an image in a person's own table was like when it was embedded."""

    size: int
    mtime: str
    sha256: str


@dataclass(frozen=True)
class EmbeddedImage:
    """
    What a batch is made of. `image_id` is None for an image that has no row yet, `content` what is
    to be known of it: the row itself, or only the state of its source in a person's own table.
    """

    image_id: Key | None
    content: ImageRecord | SourceState
    vector: np.ndarray
    thumbnail: bytes | None


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


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """A file that is known by its vector only; `size` and `mtime` are None where it is not there."""

    root_id: int
    path: str
    size: int | None = None
    mtime: str | None = None


@dataclass(frozen=True, slots=True)
class KnownFile:
    """
    What the tables know of a file: the row it has, if any, the size and mtime of what was embedded
    last (None for a vector that was imported without the file), or of what could not be (`failed`),
    and whether its row has a vector.
    """

    image_id: Key | None
    size: int | None
    mtime: str | None
    failed: bool = False
    has_vector: bool = True


@dataclass(frozen=True, slots=True)
class OwnRow:
    """
    A row of a person's own image table: its path or the length of its BLOB, what is known of the
    image that was embedded last, and of one that could not be embedded since.
    """

    image_id: Key
    source: str | int | None
    known: KnownFile | None
    failed: KnownFile | None = None


@dataclass(frozen=True)
class Failure:
    """A file that could not be embedded, and why. It is tried again when size or mtime are others."""

    root_id: int
    path: str
    size: int
    mtime: str
    reason: str


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


@dataclass(frozen=True)
class Rows:
    """
    Rows of the table of vectors, also those that hold no vector: ids, ascending, and the tokens of
    these, int64. By these it is proven which rows a state of the database has.
    """

    ids: np.ndarray
    tokens: np.ndarray

    def state(self) -> int:
        """The generation of an index with these rows and no others."""
        return int(np.bitwise_xor.reduce(self.tokens))

    @staticmethod
    def state_of(parts: Sequence[Rows]) -> int:
        """That of an index with the rows of all parts."""
        return reduce(xor, (part.state() for part in parts), 0)


@dataclass(frozen=True)
class StoredVectors:
    """
    Some vectors of an index in the order of their ids; `vectors` has shape (n, dimensions). `rows` are
    all that were read for them, None in a database without tokens.
    """

    vector_ids: np.ndarray
    image_ids: list[Key]
    vectors: np.ndarray
    rows: Rows | None = None


def find_image_table(conn: sqlite3.Connection, name: str) -> ImageTable:
    """Raises StoreError where there is no such table, or no primary key of one integer or text."""
    columns = conn.execute("select name, type, pk from pragma_table_info(?)", [name]).fetchall()
    stored = _stored_name(conn, name)
    name = stored or name
    if not columns:
        raise StoreError(f"there is no table {name!r} in this database")
    if stored is None:
        raise StoreError(f"{name!r} is a view, and only tables can have images; name its table")
    keys = [(column, type_) for column, type_, pk in columns if pk]
    if len(keys) != 1:
        raise StoreError(
            f"table {name!r} has no primary key of one column, so its images have no lasting name; "
            "give it one with: sqlite-utils transform PATH TABLE --pk COLUMN"
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
    is_ours = {"root_id", "sha256"} <= {column for column, _, _ in columns}
    return ImageTable(name, key, is_integer, is_ours)


def image_table_names(conn: sqlite3.Connection) -> list[str]:
    """The tables that have an index, in alphabetical order; none where nothing was embedded."""
    if not table_exists(conn, INDEXES):
        return []
    return [
        name
        for (name,) in conn.execute(f"select distinct image_table from {INDEXES} order by 1")
        if table_exists(conn, name)
    ]


def find_index(
    conn: sqlite3.Connection, table: str | None = None, model: str | None = None
) -> Index:
    """
    The index of an image table; `table` may be left out where the database has one, `model` is for
    a table that was embedded with several, and without it the oldest is taken.

    Raises StoreError with a sentence that names what there is, or that the vectors are gone.
    """
    names = image_table_names(conn)
    if not names:
        raise StoreError(
            "this database has no image table; make one with: "
            "sqlite-utils embed-images PATH TABLE FOLDER"
        )
    listed = ", ".join(repr(name) for name in names)
    if table is None:
        if len(names) > 1:
            raise StoreError(f"this database has several image tables; name one of {listed}")
        table = names[0]
    indexes = read_indexes(conn, table)
    if not indexes:
        raise StoreError(f"{table!r} is not an image table; this database has {listed}")
    check_vectors(conn, table)
    for index in indexes:
        if model in (None, index.model):
            return index
    models = ", ".join(index.model for index in indexes)
    raise StoreError(f"{table!r} is not embedded with {model}, but with {models}")


def read_indexes(conn: sqlite3.Connection, table: str) -> list[Index]:
    """
    The indexes of a table, the oldest first; none where nothing was embedded, or the table was
    dropped since.
    """
    if not table_exists(conn, INDEXES) or not table_exists(conn, table):
        return []
    columns = ", ".join(field.name for field in fields(Index))
    rows = conn.execute(
        f"select {columns} from {INDEXES} where image_table = ? collate nocase order by id",
        [table],
    )
    return [Index(*row) for row in rows]


def check_vectors(conn: sqlite3.Connection, table: str) -> None:
    """Raises StoreError where somebody dropped the table of the vectors of an image table."""
    vectors = find_image_table(conn, table).vectors
    if not table_exists(conn, vectors):
        raise StoreError(
            f"the vectors of {table!r} are gone, as there is no table {vectors!r}; embed everything "
            f"again, with --replace-model of embed-images"
        )


def check_not_renamed(conn: sqlite3.Connection, name: str) -> None:
    """Raises StoreError where a name that is free now is that of an image table that was renamed."""
    # Triggers go with their table: away when it is dropped, along when it is renamed.
    trigger = trigger_name(ImageTable(name, "", key_is_integer=True), "inserted")
    row = conn.execute(
        "select tbl_name from sqlite_master where type = 'trigger' and name = ? collate nocase",
        [trigger],
    ).fetchone()
    if row is not None:
        raise StoreError(
            f"the image table {name!r} was renamed to {row[0]!r}, where its vectors are not found; "
            f"rename it back, with: sqlite-utils rename-table PATH {row[0]} {name}"
        )


def all_indexes(conn: sqlite3.Connection) -> list[Index]:
    """The indexes of all image tables."""
    return [index for name in image_table_names(conn) for index in read_indexes(conn, name)]


def column_names(conn: sqlite3.Connection, table: str) -> list[str]:
    """In the order of the table; none where there is no such table."""
    return [name for (name,) in conn.execute("select name from pragma_table_info(?)", [table])]


def table_exists(conn: sqlite3.Connection, table: str) -> bool:
    return _stored_name(conn, table) is not None


def _stored_name(conn: sqlite3.Connection, table: str) -> str | None:
    """A table's name as it was written first: for SQLite, "Images" is the same table."""
    row = conn.execute(
        "select name from sqlite_master where type = 'table' and name = ? collate nocase", [table]
    ).fetchone()
    return row[0] if row else None


def trigger_name(table: ImageTable, event: str) -> str:
    return f"_{table.name}_image_search_{event}"


def vector_to_blob(vector: np.ndarray) -> bytes:
    """Little-endian float32, the format that llm, sqlite-vec and datasette-faiss share."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_from_blob(blob: bytes) -> np.ndarray:
    return np.frombuffer(blob, dtype="<f4")
