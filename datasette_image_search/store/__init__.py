"""
The tables: schema, reads and writes. The only package that knows the columns of its own tables.

For an image table "images":

    images                     one row per image
    image_search_roots         the folders that were embedded
    image_search_indexes       one row per image table and embedder
    _images_vectors            (index, image) -> vector
    _images_tokens             vector -> a random number of its own
    _images_thumbnails         image -> WebP
    _images_failures           (root, path) -> why it could not be embedded
    images_duplicates          image -> group of near-duplicates, where a person asked for them
    images_tags                (image, tag) -> score, where a person asked for them
    image_search_label_sets    what images were given tags of
    image_search_migrations    which form all of these have

A person's own table can be an image table too, with any integer or text primary key; then there is

    _pictures_sources          image -> size, time and hash of its file or BLOB

Two promises make caches of the vectors simple. The id of a vector is never used again
(AUTOINCREMENT), and a vector never changes in place: another picture, another row. So "every vector
up to id N" names the same vectors for ever, less those that were deleted since: in one database. A backup
that was restored has another history, so each vector has a token too, and their XOR is the state that an
index is in (see tokens.py). Triggers keep the promises whichever tool writes: what replaces, deletes or renumbers an image row takes its vector
and thumbnail along. Triggers have holes (`sqlite-utils transform` drops them), so vectors and
thumbnails also carry the sha256 of their picture, and readers skip those of another one.

Readers take a sqlite3 connection, because Datasette hands out those; writers take a sqlite-utils
Database.
"""

from .contents import copy_content
from .duplicates import ImageFile, image_files, write_duplicates
from .filters import (
    Filter,
    FilterError,
    IdSet,
    all_of,
    closed,
    is_indexed,
    matching,
    matching_images,
    naming_the_filter,
    passing,
    passing_images,
    vectors_by_content,
)
from .finding import check_key, check_not_renamed, check_vectors, find_index
from .imports import add_imported, write_imported
from .indexes import check_index, ensure_index, record_index_type, record_sidecar
from .migrations import migrate
from .own_rows import own_content, own_label, own_rows
from .ownership import has_triggers
from .reads import (
    count_images,
    image_rows,
    images_of_vectors,
    images_with_content,
    images_with_vectors,
    is_row,
    known_files,
    locations,
    newest_ids,
    roots,
    some_images,
    thumbnail,
    thumbnail_version,
    version_of,
    versions,
)
from .replacements import delete_index, images_to_lose, take_over, unfinished_index
from .schema import ensure_tables
from .schema_version import MIGRATIONS, NewerVersion
from .side_tables import is_machinery, is_named_like_side_table, side_tables
from .sources import record_files
from .tables import (
    IMPORTED,
    INDEXES,
    LAST,
    OWN_ROOT,
    ROOTS,
    DuplicateRow,
    EmbeddedImage,
    Failure,
    ImageRecord,
    ImageTable,
    ImportedImage,
    Index,
    Key,
    KnownSource,
    LabelSet,
    Location,
    OwnRow,
    ReusedImage,
    Root,
    Rows,
    Source,
    StoredVectors,
    StoreError,
    TagRow,
    Thumbnail,
    all_indexes,
    column_names,
    find_image_table,
    folded,
    image_table_names,
    read_indexes,
    table_exists,
    vector_from_blob,
    vector_to_blob,
)
from .tags import (
    count_tags,
    drop_other_label_sets,
    ensure_label_set,
    find_label_set,
    label_sets,
    newest_label_sets,
    sets_of_labels,
    tag_counts,
    untagged_vectors,
    write_tags,
)
from .tokens import has_tokens, rows_after
from .transactions import is_locked, snapshot, transaction
from .triggers import has_tags, without_triggers
from .values import json_value
from .vectors import (
    are_unit,
    count_vectors,
    count_with_vector,
    image_vector,
    rows_by_id,
    vector_batches,
    vector_ids,
    vectors_by_id,
)
from .views import ImageView, find_view, image_of_row, view_names, view_rows
from .writes import (
    delete_images,
    ensure_root,
    folder_of,
    forget_unreadable,
    record_unusable,
    write_batch,
    write_reused,
)

__all__ = [
    "IMPORTED",
    "INDEXES",
    "LAST",
    "MIGRATIONS",
    "OWN_ROOT",
    "ROOTS",
    "DuplicateRow",
    "EmbeddedImage",
    "Failure",
    "Filter",
    "FilterError",
    "IdSet",
    "ImageFile",
    "ImageRecord",
    "ImageTable",
    "ImageView",
    "ImportedImage",
    "Index",
    "Key",
    "KnownSource",
    "LabelSet",
    "Location",
    "NewerVersion",
    "OwnRow",
    "ReusedImage",
    "Root",
    "Rows",
    "Source",
    "StoreError",
    "StoredVectors",
    "TagRow",
    "Thumbnail",
    "add_imported",
    "all_indexes",
    "all_of",
    "are_unit",
    "check_index",
    "check_key",
    "check_not_renamed",
    "check_vectors",
    "closed",
    "column_names",
    "copy_content",
    "count_images",
    "count_tags",
    "count_vectors",
    "count_with_vector",
    "delete_images",
    "delete_index",
    "drop_other_label_sets",
    "ensure_index",
    "ensure_label_set",
    "ensure_root",
    "ensure_tables",
    "find_image_table",
    "find_index",
    "find_label_set",
    "find_view",
    "folded",
    "folder_of",
    "forget_unreadable",
    "has_tags",
    "has_tokens",
    "has_triggers",
    "image_files",
    "image_of_row",
    "image_rows",
    "image_table_names",
    "image_vector",
    "images_of_vectors",
    "images_to_lose",
    "images_with_content",
    "images_with_vectors",
    "is_indexed",
    "is_locked",
    "is_machinery",
    "is_named_like_side_table",
    "is_row",
    "json_value",
    "known_files",
    "label_sets",
    "locations",
    "matching",
    "matching_images",
    "migrate",
    "naming_the_filter",
    "newest_ids",
    "newest_label_sets",
    "own_content",
    "own_label",
    "own_rows",
    "passing",
    "passing_images",
    "read_indexes",
    "record_files",
    "record_index_type",
    "record_sidecar",
    "record_unusable",
    "roots",
    "rows_after",
    "rows_by_id",
    "sets_of_labels",
    "side_tables",
    "snapshot",
    "some_images",
    "table_exists",
    "tag_counts",
    "take_over",
    "thumbnail",
    "thumbnail_version",
    "transaction",
    "unfinished_index",
    "untagged_vectors",
    "vector_batches",
    "vector_from_blob",
    "vector_ids",
    "vector_to_blob",
    "vectors_by_content",
    "vectors_by_id",
    "version_of",
    "versions",
    "view_names",
    "view_rows",
    "without_triggers",
    "write_batch",
    "write_duplicates",
    "write_imported",
    "write_reused",
    "write_tags",
]
