"""The process of UMAP is ended at once, and its end is a sentence. What it computes is in test_projection.py."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from datasette_image_search.progress import silent
from datasette_image_search.search.umap_process import ProjectionError, umap_of

Started = list[subprocess.Popen[bytes]]

VECTORS = np.eye(12, 4, dtype=np.float32)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The processes that are started."""
    processes, start = [], subprocess.Popen

    def popen(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        processes.append(start(*words, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    return processes


def first(act: Callable[[], object]) -> Callable[..., None]:
    """A report that acts before UMAP begins."""
    left = [act]
    return lambda *_: left.pop()() if left else None


def test_a_ctrl_c_is_heard_while_its_code_hears_nothing(started: Started):
    def hear_nothing() -> None:
        started[0].send_signal(signal.SIGSTOP)
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()

    with pytest.raises(KeyboardInterrupt):
        umap_of(VECTORS, VECTORS[:, :2], first(hear_nothing))
    assert started[0].returncode == -signal.SIGKILL


def test_a_process_that_is_killed_is_a_sentence(started: Started):
    def kill() -> None:
        started[0].kill()

    with pytest.raises(ProjectionError, match=r"was ended, most likely as memory ran out; draw"):
        umap_of(VECTORS, VECTORS[:, :2], first(kill))


def test_what_umap_cannot_do_is_a_sentence():
    pytest.importorskip("umap", exc_type=ImportError)
    with pytest.raises(ProjectionError, match=r"UMAP failed \(ValueError: .*; see whether umap"):
        umap_of(np.full_like(VECTORS, np.nan), VECTORS[:, :2], silent)


def test_a_process_that_cannot_be_started_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(ProjectionError, match=r"cannot be started \(No such file .*; choose pca"):
        umap_of(VECTORS, VECTORS[:, :2], silent)
