"""
Reading without locks, as `datasette --nolock` does: it works while another program holds a lock, at the
risk of a half-written page. Our own connections for long reads then do the same.
"""

from __future__ import annotations

from pathlib import Path

_read_without: set[Path] = set()


def read_without_locks(database: Path) -> None:
    """Read without locks from now on, in this process."""
    _read_without.add(database.resolve())


def reading(database: Path) -> str:
    """The query string of the URI with which a read-only connection opens a database."""
    return "mode=ro&nolock=1" if database.resolve() in _read_without else "mode=ro"
