from __future__ import annotations

import os
from pathlib import Path

import pytest

from .commands import command

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("embed-images {pipe} images {folder} --model palette", "a database"),
        ("search-images {pipe} images red", "a database"),
        ("index-images {pipe} images", "a database"),
        (
            "import-image-vectors {new} images {pipe} --root {folder} --model a/b",
            "vectors to import",
        ),
    ],
)
def test_a_pipe_is_told_as_that_and_not_waited_for(
    tmp_path: Path, folder: Path, line: str, wanted: str
):
    pipe, new = tmp_path / "a.npy", tmp_path / "new.db"
    os.mkfifo(pipe)
    result = command(*line.format(pipe=pipe, folder=folder, new=new).split())
    assert result.exit_code == 1
    assert f"Error: '{pipe}' is a named pipe, not {wanted}" in result.stderr
    assert pipe.is_fifo()
    assert not new.exists()
