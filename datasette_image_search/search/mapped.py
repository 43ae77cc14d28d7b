"""Checks that mapped files are still complete, and a record of those that proved to be damaged."""

from __future__ import annotations

from pathlib import Path

from .sidecar import FileState, SidecarUnusable, file_state

_damaged: set[FileState] = set()
"""The states of files that this process found to be damaged after they were opened."""


def is_whole(path: Path, opened: FileState) -> bool:
    """
    Whether a mapped file still has all its bytes: reading beyond its end would kill the process, and a
    search cannot catch that. A file that another one replaced stays complete as long as it is mapped.
    """
    if opened in _damaged:
        return False
    now = file_state(path)
    return now is None or now == opened or now[:2] != opened[:2]


def never_believe(opened: FileState) -> None:
    _damaged.add(opened)


def check_believed(path: Path) -> None:
    """Raises SidecarUnusable for a file that proved to be damaged."""
    if file_state(path) in _damaged:
        raise SidecarUnusable(f"{path.name} is damaged")
