"""
The schema version of a database: the names of the migrations that were applied to it, as in llm. (SQLite's
number for it, `pragma user_version`, belongs to the person.)
"""

from __future__ import annotations

import sqlite3

from ..errors import ImageSearchError
from .soundness import LONGEST_NAME, is_stored_table

APPLIED = "image_search_migrations"

MIGRATIONS = (
    "m001_models_side_by_side",
    "m002_tokens",
    "m003_sources",
    "m004_warnings",
    "m005_metadata",
    "m006_references",
    "m007_texts",
    "m008_several_vectors",
    "m009_films",
    "m010_pairs",
    "m011_text_towers",
    "m012_engines",
    "m013_vectors_elsewhere",
)
"""In the order in which migrations.py applies them."""


class NewerVersion(ImageSearchError):
    """A newer version has written the database, and its tables may mean something else."""


def check_version(conn: sqlite3.Connection) -> None:
    """Raises NewerVersion. A database of an older version is read as it is."""
    unknown = applied(conn) - set(MIGRATIONS)
    if unknown:
        raise NewerVersion(
            "this database was written by a newer version of datasette-image-search; install that, with: "
            "pip install -U datasette-image-search"
        )


def applied(conn: sqlite3.Connection) -> set[str]:
    """Their names; none for a database of an older version, or if something else has the name of the list."""
    if not is_stored_table(conn, APPLIED, "name", "applied_at"):
        return set()
    cursor = conn.cursor()
    # Rows of the connection may be dicts, which are unpacked into their keys.
    cursor.row_factory = None
    # One more than are known is enough to see that there are others.
    names = cursor.execute(
        f"select substr(name, 1, {LONGEST_NAME}) from {APPLIED} limit {len(MIGRATIONS) + 1}"
    )
    return {str(name) for (name,) in names}
