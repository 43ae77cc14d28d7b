from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from datasette_image_search.ingest.new_database import whole_or_none
from datasette_image_search.ingest.survey import RunError

from .commands import query


def write(path: Path, *notes: str) -> None:
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table notes (note text)")
        conn.executemany("insert into notes values (?)", zip(notes, strict=True))


def whole(path: Path, work: Callable[[Path], None]) -> None:
    with whole_or_none(path) as file:
        work(file)


def interrupted(path: Path, work: Callable[[Path], None]) -> None:
    with whole_or_none(path) as file:
        work(file)
        raise KeyboardInterrupt


def refuse_to_link(file: Path, name: Path) -> None:
    """As exFAT does."""
    raise PermissionError


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_it_is_there_at_the_end_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
):
    if not links:
        monkeypatch.setattr(os, "link", refuse_to_link)
    path = tmp_path / "new.db"
    with whole_or_none(path) as file:
        write(file, "a")
        assert not path.exists()
    assert query(path, "select note from notes") == [("a",)]
    assert list(tmp_path.iterdir()) == [path]


def test_one_that_is_there_is_written_to_and_stays_whatever_happens(tmp_path: Path):
    path = tmp_path / "there.db"
    write(path, "precious")
    written: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(path, written.append)
    assert written == [path]
    assert query(path, "select note from notes") == [("precious",)]


@pytest.mark.parametrize("links", [True, False], ids=["links", "exFAT"])
@pytest.mark.parametrize("is_interrupted", [True, False])
def test_what_another_program_has_made_meanwhile_stays(
    tmp_path: Path, is_interrupted: bool, monkeypatch: pytest.MonkeyPatch, links: bool
):
    path = tmp_path / "new.db"
    if not links:
        monkeypatch.setattr(os, "link", refuse_to_link)

    def both(file: Path) -> None:
        write(file, "ours")
        write(path, "precious")

    with pytest.raises(KeyboardInterrupt if is_interrupted else RunError):
        (interrupted if is_interrupted else whole)(path, both)
    assert query(path, "select note from notes") == [("precious",)]
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_run_has_left_is_no_part_of_the_next(tmp_path: Path):
    path = tmp_path / "new.db"
    killed = whole_or_none(path)
    write(killed.__enter__(), "half")
    with whole_or_none(path) as file:
        write(file, "whole")
    assert query(path, "select note from notes") == [("whole",)]


def test_a_link_to_nowhere_leads_to_the_new_one(tmp_path: Path):
    path = tmp_path / "link.db"
    path.symlink_to(tmp_path / "new.db")
    with whole_or_none(path) as file:
        write(file, "a")
    assert path.is_symlink()
    assert query(tmp_path / "new.db", "select note from notes") == [("a",)]


def test_what_a_killed_run_left_goes_with_the_next_one(tmp_path: Path):
    """It may have been killed when the database had its name already."""
    path = tmp_path / "new.db"
    write(path, "a")
    os.link(path, path.with_name("new.db-image-search.new"))
    with whole_or_none(path) as file:
        assert file == path
    assert query(path, "select note from notes") == [("a",)]
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_removed_at_the_end_does_not_undo_the_rest(tmp_path: Path):
    path = tmp_path / "new.db"
    with whole_or_none(path) as file:
        write(file, "a")
        Path(f"{file}-shm").mkdir()
    assert query(path, "select note from notes") == [("a",)]
