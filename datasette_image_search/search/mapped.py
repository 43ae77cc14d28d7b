"""Files that are mapped: whether they are still whole, and which of them proved to be damaged."""

from __future__ import annotations

from pathlib import Path

from .sidecar import FileState, SidecarUnusable, file_state

_damaged: set[FileState] = set()
"""The states of files that this process found to be damaged after they were opened."""


def is_whole(path: Path, opened: FileState) -> bool:
    """
    To read the pages of a mapped file that was cut short would end the process; in the middle of a search
    nothing can be done about that. One whose place another took is whole for as long as it is mapped.
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
