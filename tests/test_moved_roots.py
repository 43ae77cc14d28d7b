"""Which folder is a root that was moved, told by paths and sizes alone."""

from __future__ import annotations

import shlex
import unicodedata
from pathlib import Path

import pytest

from datasette_image_search.ingest.moved_roots import (
    MovedRoot,
    find_moved_root,
    root_of,
    tell_database,
)
from datasette_image_search.ingest.walk import FoundFile
from datasette_image_search.store.tables import KnownSource, Root

GONE = Root(3, "/nowhere/old")
KNOWN = {(GONE.path, f"trip/{size}.jpg"): KnownSource(size, size, "then") for size in range(1, 6)}


def files(folder: str, *sizes: int, **fields) -> list[FoundFile]:
    """New files at a root /archive, each named by its size, as those in KNOWN are."""
    return [FoundFile("/archive", f"{folder}{size}.jpg", size, "now", **fields) for size in sizes]


@pytest.mark.parametrize("folder", ["", "pictures/", "a/b/"])
def test_the_folder_that_has_the_paths_of_a_root_is_where_it_is_now(folder: str):
    found = find_moved_root(files(f"{folder}trip/", 1, 2), KNOWN, [GONE])
    assert found == MovedRoot(GONE, f"/archive/{folder}".rstrip("/"))


@pytest.mark.parametrize(("others", "is_moved"), [(2, True), (3, False)])
def test_most_of_the_new_images_there_have_to_be_of_the_root(others: int, is_moved: bool):
    new = files("trip/", 1, 2, 3) + files("trip/", *range(10, 10 + others))
    assert (find_moved_root(new, KNOWN, [GONE]) is not None) == is_moved


@pytest.mark.parametrize(("then", "now"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_copy_that_writes_accents_in_another_way_is_the_same(then: str, now: str):
    """As a copy from a Mac to another system may."""
    old, new = (unicodedata.normalize(form, "été/Zürich.jpg") for form in (then, now))
    known = {(GONE.path, old): KnownSource(1, 5, "then")}
    found = find_moved_root([FoundFile("/archive", new, 5, "now")], known, [GONE])
    assert found == MovedRoot(GONE, "/archive")


def test_what_has_another_size_or_name_or_has_a_row_is_no_sign_of_a_move():
    other_size = [FoundFile("/archive", "trip/1.jpg", 2, "now")]
    with_row = files("trip/", 1, 2, image_id=7)
    for new in (other_size, with_row, files("journey/", 1, 2)):
        assert find_moved_root(new, KNOWN, [GONE]) is None


def test_a_root_that_is_there_was_not_moved(tmp_path: Path):
    (tmp_path / "any").touch()
    there = Root(4, str(tmp_path))
    known = {(there.path, path): before for (_, path), before in KNOWN.items()}
    assert find_moved_root(files("trip/", 1, 2), known, [there]) is None
    assert find_moved_root(files("trip/", 1, 2), {**known, **KNOWN}, [there, GONE]) is not None


def test_a_root_cannot_be_where_another_is():
    assert find_moved_root(files("trip/", 1, 2), KNOWN, [GONE, Root(5, "/archive")]) is None


def test_the_root_of_a_path_that_is_gone_is_the_deepest_one():
    deeper = Root(6, f"{GONE.path}/trip")
    assert root_of(Path(deeper.path, "1.jpg"), [GONE, deeper]) == deeper
    assert root_of(Path(GONE.path), [GONE, deeper]) == GONE
    assert root_of(Path("/elsewhere"), [GONE, deeper]) is None


@pytest.mark.parametrize("path", ["/it's here", '/a "b" $HOME `x`; ls'])
def test_any_path_survives_the_shell(path: str):
    words = shlex.split(tell_database(Path(path), GONE, path))
    assert (words[2], words[-1]) == (path, path)
