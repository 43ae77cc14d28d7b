"""Commands where the database or its folder is read-only: those that write say so, before any work."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from datasette_image_search.cli.messages import one_sentence

from .commands import command
from .vector_files import unit, write_npy

WRITERS = (
    ("embed-images", "{folder}"),
    ("import-image-vectors", "{vectors}", "--paths", "{paths}", "--root", "/photos"),
    ("index-images",),
    ("find-duplicates", "--write"),
    ("tag-images", "red", "blue"),
)

READERS = (
    ("embed-images", "{folder}", "--dry-run"),
    ("index-images", "--evaluate"),
    ("find-duplicates",),
    ("search-images", "red"),
)

pytestmark = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture
def files(tmp_path: Path, folder: Path) -> dict[str, Path]:
    vectors, paths = write_npy(tmp_path, ["a.jpg"], unit(1))
    return {"folder": folder, "vectors": vectors, "paths": paths}


@pytest.fixture(params=["database", "folder"])
def read_only(request: pytest.FixtureRequest, database: Path, tmp_path: Path) -> Iterator[Path]:
    """A database that cannot be written to, or whose folder cannot."""
    home = tmp_path / "home"
    home.mkdir()
    moved = database.rename(home / "photos.db")
    protected = moved if request.param == "database" else home
    protected.chmod(0o555)
    yield moved
    protected.chmod(0o755)


@pytest.mark.parametrize("asked", WRITERS, ids=lambda asked: asked[0])
def test_commands_that_write_name_what_cannot_be_written_to(
    read_only: Path, files: dict[str, Path], asked: tuple[str, ...]
):
    name, *options = (each.format(**files) for each in asked)
    result = command(name, read_only, "images", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    (sentence,) = result.stderr.splitlines()
    protected = read_only if os.access(read_only.parent, os.W_OK) else read_only.parent
    assert f"{str(protected)!r} cannot be written to" in sentence
    assert "make it writable, or work on a copy" in sentence


@pytest.mark.parametrize("asked", READERS, ids=lambda asked: asked[0])
def test_commands_that_only_read_work(
    read_only: Path, files: dict[str, Path], asked: tuple[str, ...]
):
    name, *options = (each.format(**files) for each in asked)
    result = command(name, read_only, "images", *options)
    assert result.exit_code == 0, result.output


def test_a_file_that_becomes_read_only_meanwhile_is_one_sentence(database: Path):
    database.chmod(0o444)
    with (
        pytest.raises(
            click.ClickException, match="readonly database; make the file and its folder"
        ),
        one_sentence(database),
    ):
        sqlite3.connect(database).execute("delete from images")
