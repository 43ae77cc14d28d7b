from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from datasette_image_search.ingest.beside import LARGEST, FilesBeside, read_beside, readable
from datasette_image_search.ingest.scopes import find_scopes
from datasette_image_search.ingest.walk import ScanOptions, Walk

from .test_xmp import xmp


def names_beside(folder: Path, picture: str) -> list[str]:
    state = FilesBeside(str(folder), [file.name for file in folder.iterdir()]).of(picture)
    return [name for name, _, _ in json.loads(state)] if state else []


def test_the_file_of_the_whole_name_comes_first(tmp_path: Path):
    for name in ("a.xmp", "a.jpg.xmp", "A.CR2.XMP", "b.xmp", "aa.xmp"):
        (tmp_path / name).write_text(name)
    assert names_beside(tmp_path, "a.jpg") == ["a.jpg.xmp", "a.xmp"]
    assert names_beside(tmp_path, "a.cr2") == ["A.CR2.XMP", "a.xmp"]
    assert names_beside(tmp_path, "c.jpg") == []


def test_a_state_changes_with_the_file_and_not_with_its_folder(tmp_path: Path):
    (tmp_path / "a.xmp").write_text("one")
    before = FilesBeside(str(tmp_path), ["a.xmp"]).of("a.jpg")
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "a.xmp").rename(moved / "a.xmp")
    assert FilesBeside(str(moved), ["a.xmp"]).of("a.jpg") == before
    assert read_beside(moved, before) == [b"one"]
    (moved / "a.xmp").write_text("three")
    assert FilesBeside(str(moved), ["a.xmp"]).of("a.jpg") != before


def test_what_is_no_file_to_read_is_left_out(tmp_path: Path):
    (tmp_path / "a.xmp").mkdir()
    with (tmp_path / "b.xmp").open("wb") as file:
        file.truncate(LARGEST + 1)
    names = ["a.xmp", "b.xmp", "c.xmp", "\udcff.xmp"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "d.xmp")
        names.append("d.xmp")
    files = FilesBeside(str(tmp_path), names)
    assert [files.of(f"{name[0]}.jpg") for name in names] == [""] * len(names)


def test_files_that_are_gone_are_not_missed(tmp_path: Path):
    assert read_beside(tmp_path, "") == []
    assert read_beside(tmp_path, '[["a.xmp", 3, "then"]]') == []


def test_files_of_which_one_cannot_be_read_are_not_taken_for_none(tmp_path: Path):
    (tmp_path / "a.xmp").mkdir()
    with pytest.raises(OSError, match="folder"):
        read_beside(tmp_path, '[["a.xmp", 3, "then"]]')
    assert readable(lambda: read_beside(tmp_path, '[["a.xmp", 3, "then"]]')) is None
    whole = xmp().encode()
    assert readable(lambda: [whole, whole]) == [whole, whole]
    assert readable(lambda: [whole, whole[:200]]) is None
    assert readable(lambda: [b""]) is None
    assert readable(list) == []


@pytest.mark.parametrize("given", ["folder", "file"])
def test_a_scan_finds_them_beside_pictures(tmp_path: Path, given: str):
    for name in ("a.jpg", "a.xmp", "b.jpg"):
        (tmp_path / name).write_text(name)
    paths = [tmp_path] if given == "folder" else [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    found = {file.path: file for file in Walk(find_scopes(paths)).files()}
    assert found.keys() == {"a.jpg", "b.jpg"}
    assert found["a.jpg"].read_beside() == [b"a.xmp"]
    assert found["b.jpg"].beside == ""


def test_those_that_are_left_out_are_not_read(tmp_path: Path):
    for name in ("a.jpg", "a.xmp"):
        (tmp_path / name).write_text(name)
    (file,) = Walk(find_scopes([tmp_path]), ScanOptions(exclude=("*.xmp",))).files()
    assert file.beside == ""
