"""Rows of a mapped file that lie far apart are asked for at once, and no others."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.search import read_ahead as module
from datasette_image_search.search.read_ahead import read_ahead

PAGE = mmap.PAGESIZE
ROWS = 90


class Recorded(mmap.mmap):
    """A mapping that tells what was asked for: the first bytes and the ends of the parts."""

    asked: list[tuple[int, int]]

    def madvise(self, option: int, start: int, length: int) -> None:  # type: ignore[override]
        assert option == mmap.MADV_WILLNEED
        super().madvise(option, start, length)
        self.asked.append((start, start + length))


def mapped(path: Path, header: int, size: int) -> tuple[Recorded, np.ndarray, np.ndarray]:
    """A mapping, its bytes, and the rows that follow a header in it."""
    path.write_bytes(bytes(header + ROWS * size))
    with path.open("rb") as file:
        recorded = Recorded(file.fileno(), 0, access=mmap.ACCESS_READ)
    recorded.asked = []
    data = np.frombuffer(recorded, dtype=np.uint8)
    return recorded, data, data[header:].reshape(ROWS, size)


@pytest.fixture
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_in_memory", lambda address: False)


@pytest.mark.usefixtures("nothing_in_memory")
@pytest.mark.parametrize("header", [0, 81, PAGE])
@pytest.mark.parametrize("size", [64, 1000, PAGE, 3 * PAGE + 5])
def test_the_pages_of_the_rows_are_asked_for_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, header: int, size: int
) -> None:
    recorded, data, rows = mapped(tmp_path_factory.mktemp("mapped") / "file", header, size)

    @given(positions=st.lists(st.integers(0, ROWS - 1), max_size=12))
    def any_rows(positions: list[int]) -> None:
        recorded.asked.clear()
        read_ahead(data, rows, np.array(positions, dtype=np.int64))
        asked = {byte // PAGE for start, end in recorded.asked for byte in range(start, end, PAGE)}
        wanted = {
            page
            for at in positions
            for page in range(
                (header + at * size) // PAGE, (header + (at + 1) * size - 1) // PAGE + 1
            )
        }
        assert asked == wanted
        assert all(start % PAGE == 0 and end <= len(data) for start, end in recorded.asked)

    any_rows()


@pytest.mark.usefixtures("nothing_in_memory")
def test_rows_that_follow_each_other_are_one_part(tmp_path: Path) -> None:
    recorded, data, rows = mapped(tmp_path / "file", 81, 1000)
    read_ahead(data, rows, np.arange(10, 60))
    assert len(recorded.asked) == 1


def test_rows_in_memory_are_not_asked_for(tmp_path: Path) -> None:
    recorded, data, rows = mapped(tmp_path / "file", 81, 1000)
    assert not rows.any()
    read_ahead(data, rows, np.arange(0, ROWS, 9))
    assert recorded.asked == []


@pytest.mark.usefixtures("nothing_in_memory")
def test_rows_that_are_in_no_mapping_or_another_are_left_alone(tmp_path: Path) -> None:
    rows = np.zeros((ROWS, 64), dtype=np.uint8)
    read_ahead(None, rows, np.arange(5))
    read_ahead(rows.reshape(-1), rows, np.arange(5))
    recorded, data, _ = mapped(tmp_path / "file", 81, 64)
    read_ahead(data, rows, np.arange(5))
    assert recorded.asked == []
