"""Memory that a process can have: of the machine, and of the container that it runs in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datasette_image_search.decoding.memory import UNKNOWN, free_memory

GIB = 2**30


def system(root: Path, files: dict[str, object]) -> Path:
    """A machine with 8 GiB free, and what else it says in files."""
    for name, text in {"proc/meminfo": f"MemAvailable: {8 * GIB // 1024} kB", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_of_this_machine():
    assert 10**7 < free_memory() < 10**14


def test_of_a_machine_without_groups(tmp_path: Path):
    assert free_memory(system(tmp_path, {})) == 8 * GIB


@pytest.mark.parametrize("path", ["/", "/user.slice/a", "/docker/0123"])
def test_a_container_of_version_2(tmp_path: Path, path: str):
    files = {
        "proc/self/cgroup": f"0::{path}",
        "sys/fs/cgroup/memory.max": 2 * GIB,
        "sys/fs/cgroup/memory.current": GIB + GIB // 2,
        "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {GIB // 4}",
    }
    assert free_memory(system(tmp_path, files)) == GIB * 3 // 4


def test_the_narrowest_group_counts(tmp_path: Path):
    files = {
        "proc/self/cgroup": "0::/outer/inner",
        "sys/fs/cgroup/outer/memory.max": GIB,
        "sys/fs/cgroup/outer/memory.current": 0,
        "sys/fs/cgroup/outer/inner/memory.max": "max",
        "sys/fs/cgroup/outer/inner/memory.current": 0,
    }
    assert free_memory(system(tmp_path, files)) == GIB


@pytest.mark.parametrize("folder", ["", "docker/0123/"])
def test_a_container_of_version_1(tmp_path: Path, folder: str):
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/0123\n1:cpu,cpuacct:/\n0::/",
        f"sys/fs/cgroup/memory/{folder}memory.limit_in_bytes": GIB,
        f"sys/fs/cgroup/memory/{folder}memory.usage_in_bytes": GIB // 2,
        f"sys/fs/cgroup/memory/{folder}memory.stat": "inactive_file 7\ntotal_inactive_file 100",
    }
    assert free_memory(system(tmp_path, files)) == GIB // 2 + 100


def test_version_1_without_a_limit_says_a_huge_one(tmp_path: Path):
    files = {
        "proc/self/cgroup": "4:memory:/",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 2**63 - 4096,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB,
    }
    assert free_memory(system(tmp_path, files)) == 8 * GIB


def test_a_container_that_is_full_has_none(tmp_path: Path):
    files = {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/memory.max": GIB,
        "sys/fs/cgroup/memory.current": 2 * GIB,
    }
    assert free_memory(system(tmp_path, files)) == 0


def test_it_is_guessed_where_the_system_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert 10**6 < free_memory(tmp_path) < 10**14

    def refuse(*args, **kwargs):
        raise OSError

    monkeypatch.setattr(os, "sysconf", refuse)
    assert free_memory(tmp_path) == UNKNOWN
