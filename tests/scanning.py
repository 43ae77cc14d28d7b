"""Files of which no content is wanted, and a walk over them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from datasette_image_search.ingest.scopes import find_scopes
from datasette_image_search.ingest.walk import FoundFile, ScanOptions, Walk


def make_file(path: Path, content: bytes = b"x", mtime: float = 1_600_000_000) -> Path:
    """A scan opens no file, so that any bytes do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return path


def make_files(folder: Path, *names: str) -> Path:
    for name in names:
        make_file(folder / name)
    return folder


def find(*given: Path, known_roots: Sequence[Path] = (), **options) -> list[FoundFile]:
    scopes = find_scopes(given, [str(root) for root in known_roots])
    return list(Walk(scopes, ScanOptions(**options)).files())


def paths_of(*given: Path, known_roots: Sequence[Path] = (), **options) -> list[str]:
    return [file.path for file in find(*given, known_roots=known_roots, **options)]


def refuse_to_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without permission to read it, also for root."""
    real = os.scandir

    def scandir(path):
        if str(path) == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
