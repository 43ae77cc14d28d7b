"""The memory that a process can have: what is free on the machine, and what its container allows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

UNKNOWN = 4_000_000_000
"""Bytes to assume if the system does not tell."""


def free_memory(root: Path = Path("/")) -> int:
    """
    Bytes that this process can have without swapping, and without being killed for it. `root` is where
    Linux has its `proc` and `sys`.
    """
    return max(0, min([_free_of_machine(root), *_free_of_groups(root)]))


def _free_of_machine(root: Path) -> int:
    # This includes caches that the system would give up; sysconf does not.
    kilobytes = _numbers(root / "proc/meminfo").get("MemAvailable:")
    if kilobytes is not None:
        return kilobytes * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def _free_of_groups(root: Path) -> Iterator[int]:
    """
    The free bytes of each control group that limits this process: its own and its parents, of both
    versions.
    """
    mounted = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            # Version 2. Beside version 1 it is mounted one folder lower, and limits nothing there.
            yield from _free_of_group(mounted, path, "max", "current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _free_of_group(
                mounted / "memory", path, "limit_in_bytes", "usage_in_bytes", "total_inactive_file"
            )


def _free_of_group(
    mounted: Path, path: str, limit: str, usage: str, reclaimable: str
) -> Iterator[int]:
    # A container may see its own group as the one that is mounted, under whatever path it has outside.
    inner = PurePosixPath(path.lstrip("/"))
    for group in dict.fromkeys([inner, *inner.parents, PurePosixPath()]):
        folder = mounted / group
        allowed, used = _number(folder / f"memory.{limit}"), _number(folder / f"memory.{usage}")
        if allowed is not None and used is not None:
            # The cache of files counts as used, but is given up if needed.
            yield allowed - used + _numbers(folder / "memory.stat").get(reclaimable, 0)


def _number(file: Path) -> int | None:
    """The number in a file; None if it says "max", which is no limit, or is missing."""
    text = "".join(_lines(file)).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _numbers(file: Path) -> dict[str, int]:
    """Name -> number, from the lines of a file; other lines are skipped."""
    words = (line.split() for line in _lines(file))
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdigit()}


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, ValueError):
        return []
