"""Chance that can be had again, and time: a little in `make test`, as much as is asked for in a soak."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from ..conftest import MEMORY


@pytest.fixture(scope="session")
def scratch() -> Iterator[Callable[[], Path]]:
    """Makes a new folder each time: a process that takes tests over from another comes back to a module."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=place)).resolve()
    yield lambda: Path(tempfile.mkdtemp(dir=folder))
    shutil.rmtree(folder)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Iterator[Random]:
    """Sources of chance, to go through: one, and in a soak as many as the test's share of it lasts for."""
    return _rounds(request, share_of_soak(request))


def _rounds(request: pytest.FixtureRequest, seconds: float) -> Iterator[Random]:
    seed = int(os.environ["FAULT_SEED"])
    ends = time.monotonic() + seconds
    while True:
        print(f"\nFAULT_SEED={seed}")
        yield Random(f"{seed} {request.node.name}")
        seed += 1
        if time.monotonic() >= ends:
            return


def share_of_soak(request: pytest.FixtureRequest) -> float:
    """Seconds for one of the tests that `make soak` runs, on as many processors as it has."""
    seconds = 60 * float(os.environ.get("SOAK_MINUTES", "0"))
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    tests = [item for item in request.session.items if "rounds" in item.fixturenames]
    share = share_of(request.node) / sum(map(share_of, tests))
    return seconds * min(1, processes * share)


def share_of(item: pytest.Item) -> int:
    marker = item.get_closest_marker("share")
    return marker.args[0] if marker else 1
