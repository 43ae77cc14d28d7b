from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datasette_image_search.decoding.decode import DecodedImage, DecodedScene
from datasette_image_search.decoding.opening import DecodeError, DecodeSettings
from datasette_image_search.ingest import decode_ahead as module
from datasette_image_search.ingest.decode_ahead import decode_ahead
from datasette_image_search.ingest.scopes import find_scopes
from datasette_image_search.ingest.walk import FoundFile, Walk
from datasette_image_search.metadata.columns import NOTHING

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


def films(number: int) -> list[FoundFile]:
    return [FoundFile("/films", f"{at}.mp4", 1, "") for at in range(number)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each file is a film of four scenes now; the paths of those that were read."""
    read: list[str] = []

    def read_film(film: FoundFile, settings: DecodeSettings) -> DecodedImage:
        picture = np.zeros(1)
        scenes = tuple(DecodedScene(at, picture, None) for at in range(4))
        read.append(film.path)
        return DecodedImage("", "MP4", 1, 1, NOTHING, picture, None, scenes=scenes)

    monkeypatch.setattr(module, "decode_image", read_film)
    return read


def test_of_films_the_scenes_are_counted(read: list[str]):
    """Two films have as many pictures as may wait for the reader."""
    outcomes = decode_ahead(films(20), DecodeSettings(np.asarray, 32), workers=1, ahead=8)
    for taken in range(1, 5):
        next(outcomes)
        deadline = time.monotonic() + HANGS
        while len(read) < taken + 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.1)
        assert len(read) == taken + 2
    outcomes.close()


@pytest.mark.parametrize("ahead", [1, 3, 100])
@pytest.mark.parametrize("workers", [1, 4])
def test_all_films_are_read_however_few_pictures_may_wait(
    read: list[str], workers: int, ahead: int
):
    settings = DecodeSettings(np.asarray, 32)
    paths = [film.path for film, _ in decode_ahead(films(20), settings, workers, ahead)]
    assert paths == [film.path for film in films(20)]
    assert sorted(read) == sorted(paths)


def test_a_reader_that_stops_leaves_no_threads(folder: Path):
    files = list(Walk(find_scopes([folder])).files()) * 20
    outcomes = decode_ahead(files, DecodeSettings(np.asarray, 32), workers=2, ahead=5)
    next(outcomes)
    outcomes.close()
    check_no_threads()


def test_nor_threads_that_wait_for_it(read: list[str]):
    outcomes = decode_ahead(films(20), DecodeSettings(np.asarray, 32), workers=2, ahead=5)
    next(outcomes)
    deadline = time.monotonic() + HANGS
    while len(read) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    outcomes.close()
    check_no_threads()


def check_no_threads() -> None:
    deadline = time.monotonic() + HANGS
    while time.monotonic() < deadline and any(
        thread.name.startswith("decode") for thread in threading.enumerate()
    ):
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
