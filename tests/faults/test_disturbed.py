"""
Commands that are killed, or that cannot write, at any point: an image is there as before or as after,
searches find what is there, and the next run comes to what an undisturbed one does.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from . import traced
from .forked import Ended, Forker, Running
from .scenarios import Prepared, chosen_scenarios, prepare
from .traced import Call
from .whole import check_between, check_files, check_same, check_whole, described


@pytest.fixture(scope="module", params=chosen_scenarios(), ids=str)
def prepared(
    request: pytest.FixtureRequest, scratch: Callable[[], Path], forker: Forker
) -> Prepared:
    return prepare(request.param, scratch() / str(request.param), forker)


@pytest.fixture
def is_traced() -> None:
    if traced.problem() is not None:
        pytest.skip(traced.problem())


@pytest.mark.usefixtures("is_traced")
def test_a_kill_between_two_writes(prepared: Prepared, rounds: Iterator[Random]) -> None:
    for random in rounds:
        for call in some(prepared.calls, random, 1):
            prepared.place.begin()
            ended = traced.killed_at(prepared.forker, call, *prepared.line)
            check_disturbed(prepared, ended, random, f"killed before {call}")


def test_a_kill_at_any_time(prepared: Prepared, rounds: Iterator[Random]) -> None:
    for random in rounds:
        prepared.place.begin()
        running = prepared.forker.start(*prepared.line)
        if random.random() < 0.5:
            seconds = random.uniform(0, prepared.seconds)
            how = f"{seconds:.3f} s"
            running.wait_at_most(seconds)
        else:
            commits = random.randint(1, 4)
            how = f"commit {commits}"
            wait_for_commits(running, prepared.place.database, commits)
        running.kill()
        check_disturbed(prepared, running.wait(), random, f"killed after {how}")


def wait_for_commits(running: Running, database: Path, commits: int) -> None:
    """Or for the end of the process, which may make fewer."""
    while not database.exists() and running.poll() is None:
        pass
    with closing(sqlite3.connect(database, timeout=0)) as conn:
        seen = {version_of(conn)}
        while len(seen - {None}) <= commits and running.poll() is None:
            seen.add(version_of(conn))


def version_of(conn: sqlite3.Connection) -> int | None:
    """Another one after each commit; None while somebody commits."""
    try:
        return conn.execute("pragma data_version").fetchone()[0]
    except sqlite3.OperationalError:
        return None


@pytest.mark.usefixtures("is_traced")
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "from then on"])
def test_a_write_that_fails(prepared: Prepared, rounds: Iterator[Random], for_ever: bool) -> None:
    for random in rounds:
        (call,) = some(prepared.calls, random, 1)
        error = random.choice(["ENOSPC", "EIO"])
        prepared.place.begin()
        ended = traced.failing_at(prepared.forker, call, error, *prepared.line, for_ever=for_ever)
        if not (for_ever and call.name == "write"):
            # Then nothing can be said either.
            check_told(ended)
        check_disturbed(prepared, ended, random, f"{error} at {call}")


def test_a_file_that_cannot_grow(prepared: Prepared, rounds: Iterator[Random]) -> None:
    """As on a disk that is full, which needs no strace and no rights."""
    longest = max(path.stat().st_size for path in prepared.place.after.parent.iterdir())
    for random in rounds:
        limit = random.randrange(longest)
        prepared.place.begin()
        ended = prepared.forker.run(*prepared.line, limit=limit)
        check_told(ended)
        check_disturbed(prepared, ended, random, f"no file beyond {limit} bytes")


def test_a_disk_that_is_full(prepared: Prepared, rounds: Iterator[Random]) -> None:
    folder = prepared.place.database.parent
    for random in rounds:
        with full_disk(folder) as resize:
            prepared.place.begin()
            free = random.randrange(2**20)
            resize(sum(512 * path.stat().st_blocks for path in folder.rglob("*")) + free)
            ended = prepared.forker.run(*prepared.line)
            check_told(ended)
            resize(2**26)
            check_disturbed(prepared, ended, random, f"{free} bytes free")


@contextmanager
def full_disk(folder: Path) -> Iterator:
    """A disk of its own; the function gives it a size in bytes."""

    def mount(options: str) -> None:
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(line, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")

    if not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("only root can mount a disk")
    mount("size=64m")
    try:
        yield lambda size: mount(f"remount,size={size}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def some(calls: Sequence[Call], random: Random, number: int) -> list[Call]:
    """Of different kinds, each as likely as any other."""
    ordered = sorted(calls, key=lambda call: call.kind)
    kinds = [list(group) for _, group in itertools.groupby(ordered, key=lambda call: call.kind)]
    return [random.choice(kind) for kind in random.sample(kinds, min(number, len(kinds)))]


def check_told(ended: Ended) -> None:
    """One sentence, and no traceback; or what failed was of no consequence."""
    assert "Traceback" not in ended.output, ended.output
    assert ended.code in (0, 1), ended
    if ended.code == 1:
        assert ended.output.splitlines()[-1].startswith("Error: "), ended.output


def check_disturbed(prepared: Prepared, ended: Ended, random: Random, how: str) -> None:
    print(f"{how}: {ended}")
    place, forker = prepared.place, prepared.forker
    # The next run may be the first to look.
    if random.random() < 0.7:
        forker.call(check_whole, place.database, str(random.random()))
        check_between(described(place.database), prepared.before, prepared.after)
    again = forker.run(*prepared.line)
    assert again.code == 0, again
    forker.call(check_whole, place.database, str(random.random()))
    check_same(described(place.database), prepared.after)
    check_files(place.database, place.after)
