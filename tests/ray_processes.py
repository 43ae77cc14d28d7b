"""The processes of a cluster of Ray, and how all of them are ended, also those of one that did not start as a whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CLUSTER = "CLUSTER_OF_TESTS"
"""The variable by which the processes of a cluster are known: the command lines of some do not name its folder."""


def kill_all(cluster: Path) -> None:
    """All that was started with this value of CLUSTER, and all that this has started."""
    variable = f"{CLUSTER}={cluster}".encode()
    while processes := set(_started_with(variable)):
        parents = dict(_parents())
        # Those that give themselves a name write it over what their environment was.
        while more := {each for each, parent in parents.items() if parent in processes} - processes:
            processes |= more
        for process in processes:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)


def _started_with(variable: bytes) -> Iterator[int]:
    for file in Path("/proc").glob("[0-9]*/environ"):
        # That of a process which has ended is empty.
        with suppress(OSError):
            if variable in file.read_bytes().split(b"\0"):
                yield int(file.parent.name)


def _parents() -> Iterator[tuple[int, int]]:
    """Each process, and the one that has started it."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, after_name = file.read_text().rpartition(")")
            yield int(file.parent.name), int(after_name.split()[1])
