from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datasette_image_search.decoding.opening import DecodeError, DecodeSettings
from datasette_image_search.ingest.decode_ahead import decode_ahead
from datasette_image_search.ingest.scopes import find_scopes
from datasette_image_search.ingest.walk import FoundFile, Walk

from .conftest import draw_picture
from .serving import HANGS


def counted(files: list[FoundFile], taken: list[FoundFile]) -> Iterator[FoundFile]:
    for file in files:
        taken.append(file)
        yield file


def test_decoding_keeps_the_order_of_the_files(folder: Path):
    draw_picture(folder / "a large one first.png", "red", (2000, 1500))
    (folder / "bad.jpg").write_bytes(b"bad")
    files = list(Walk(find_scopes([folder])).files())

    outcomes = list(decode_ahead(files, DecodeSettings(np.asarray, 32), workers=4, ahead=3))

    assert [file for file, _ in outcomes] == files
    failed = [file.path for file, outcome in outcomes if isinstance(outcome, DecodeError)]
    assert failed == ["bad.jpg"]


@pytest.mark.parametrize("workers", [1, 3])
def test_decoding_is_never_far_ahead_of_the_reader(folder: Path, workers: int):
    files = list(Walk(find_scopes([folder])).files()) * 20
    taken: list[FoundFile] = []
    outcomes = decode_ahead(counted(files, taken), DecodeSettings(np.asarray, 32), workers, 7)

    for read in range(1, 41):
        next(outcomes)
        assert len(taken) - read <= 7
    outcomes.close()


def test_a_reader_that_stops_leaves_no_threads(folder: Path):
    files = list(Walk(find_scopes([folder])).files()) * 20
    outcomes = decode_ahead(files, DecodeSettings(np.asarray, 32), workers=2, ahead=5)
    next(outcomes)

    outcomes.close()

    deadline = time.monotonic() + HANGS
    while time.monotonic() < deadline and any(
        thread.name.startswith("decode") for thread in threading.enumerate()
    ):
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
