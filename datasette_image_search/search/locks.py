"""
Databases that are read without locks, as `datasette --nolock` reads them: also while another program
holds a lock for long, at the price of a page that was half written. Connections of our own, for what
takes long, do as those that they stand in for.
"""

from __future__ import annotations

from pathlib import Path

_read_without: set[Path] = set()


def read_without_locks(database: Path) -> None:
    """From now on, in this process."""
    _read_without.add(database.resolve())


def reading(database: Path) -> str:
    """How a connection that only reads opens a database: the query string of its URI."""
    return "mode=ro&nolock=1" if database.resolve() in _read_without else "mode=ro"
