"""
The tables: schema, reads and writes. The only package that knows the columns of its own tables.

For an image table "images":

    images                     one row per image
    image_search_roots         the folders that were embedded
    image_search_indexes       one row per image table and embedder
    _images_vectors            (index, image) -> vector
    _images_tokens             vector -> a random number of its own
    _images_thumbnails         image -> JPEG or WebP, in the column `webp`
    _images_failures           (root, path) -> why it could not be embedded
    images_duplicates          image -> group of near-duplicates, where a person asked for them
    images_tags                (image, tag) -> score, where a person asked for them
    images_albums              albums that people made
    images_album_members       (album, image)
    image_search_label_sets    what images were given tags of
    image_search_references    the reference queries that rankings are corrected by
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

Here is what nearly all others need; the rest is imported from the modules.
"""

from .filters import Filter, FilterError
from .finding import find_index
from .indexes import read_indexes
from .schema_version import NewerVersion
from .tables import ImageTable, Index, Key, StoreError, find_image_table
from .transactions import snapshot, transaction

__all__ = [
    "Filter",
    "FilterError",
    "ImageTable",
    "Index",
    "Key",
    "NewerVersion",
    "StoreError",
    "find_image_table",
    "find_index",
    "read_indexes",
    "snapshot",
    "transaction",
]
