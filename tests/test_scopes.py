"""The parts of roots that a run looks at."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest

from datasette_image_search.ingest.scan import find_changes
from datasette_image_search.ingest.scopes import (
    FolderScopes,
    ScanError,
    Scope,
    check_mounted,
    emptied_scopes,
    find_scopes,
)
from datasette_image_search.store.tables import KnownSource


def test_a_known_root_below_a_folder_is_looked_at_too(tmp_path: Path):
    for name in ("a/b", "ab", "c"):
        (tmp_path / name).mkdir(parents=True)
    roots = [str(tmp_path / name) for name in ("a/b", "ab", "c")]
    assert find_scopes([tmp_path / "a", tmp_path / "c"], roots) == [
        Scope(str(tmp_path / "a"), ""),
        Scope(str(tmp_path / "a" / "b"), "", given=False),
        Scope(str(tmp_path / "c"), ""),
    ]


def test_a_folder_that_is_given_after_its_parent_is_no_root(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    inner, outer = tmp_path / "a" / "b", tmp_path / "a"
    assert find_scopes([outer, inner]) == [Scope(str(outer), ""), Scope(str(outer), "b/")]
    assert find_scopes([inner, outer]) == [
        Scope(str(inner), ""),
        Scope(str(outer), ""),
        Scope(str(inner), "", given=False),
    ]


def test_the_scopes_of_a_file_are_the_folders_above_it():
    whole, folder = Scope("/p", ""), Scope("/p", "a/b/")
    scopes = FolderScopes([whole, folder, Scope("/p", "a/b.jpg"), Scope("/q", "")])
    assert [*scopes.of(("/p", "a/b/c/d.jpg"))] == [whole, folder]
    assert [*scopes.of(("/p", "a/b.jpg"))] == [whole]
    assert [*scopes.of(("/p", "a/bc/d.jpg"))] == [whole]
    assert [*scopes.of(("/r", "a/b/c.jpg"))] == []


def test_a_scope_with_an_image_of_any_root_is_not_empty(tmp_path: Path):
    for name in ("a/b", "c", "d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "b" / "there.jpg").touch()
    scopes = find_scopes([tmp_path / name for name in ("a/b", "a", "c", "d")])
    found = [(str(tmp_path / "a" / "b"), "there.jpg"), (str(tmp_path / "c"), "gone.jpg")]
    empty = emptied_scopes(scopes, found)
    assert [Path(scope.root).name for scope in empty] == ["c", "d"]
    with pytest.raises(ScanError, match=r"no images left in '.*c', and the table has 1 of them"):
        check_mounted(empty, found)


def test_the_work_for_a_folder_is_the_same_beside_few_and_beside_many(tmp_path: Path):
    """No time is measured, because machines differ, but calls of functions."""
    few, many = (calls_for(tmp_path / str(number), number) for number in (20, 400))
    assert many < 1.2 * few


def calls_for(place: Path, number: int) -> float:
    """Calls per folder, of a run that knows two images in each folder and finds one."""
    folders = [place / f"{at % 7}" / f"{at}" for at in range(number)]
    known = {}
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "there.jpg").touch()
        for name in ("there.jpg", "gone.jpg"):
            known[str(folder), name] = KnownSource(len(known), 0, "")
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        changes = find_changes(folders, known, {root for root, _ in known})
        check_mounted(changes.emptied, changes.missing)
    finally:
        sys.setprofile(None)
    assert (len(changes.to_embed), len(changes.missing)) == (number, number)
    return calls / number
