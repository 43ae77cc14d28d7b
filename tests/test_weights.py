from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datasette_image_search.embedders.protocol import EmbedderError
from datasette_image_search.embedders.weights import (
    WeightsFile,
    fingerprint,
    given_weights,
    hub_weights,
)

REPO = "some-org/some-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_in_cache(cache: Path, filename: str, content: bytes = b"weights") -> Path:
    """A file laid down as huggingface_hub does: a link to a blob that is named by its hash."""
    folder = cache / f"models--{REPO.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    link = folder / "snapshots" / COMMIT / filename
    for path in (blob, link, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs" / "main").write_text(COMMIT)
    return link


# --- Cache and hub -------------------------------------------------------------------------------


@pytest.mark.parametrize("allow_download", [False, True])
def test_a_file_in_the_cache_is_found_without_the_network(
    cache: Path, no_network: None, allow_download: bool
):
    link = put_in_cache(cache, "model.safetensors")
    path = hub_weights("m", REPO, ["model.safetensors"], allow_download=allow_download)
    assert path == link
    assert path.read_bytes() == b"weights"


def test_the_first_name_that_the_cache_has_is_taken(cache: Path, no_network: None):
    second = put_in_cache(cache, "b.bin")
    third = put_in_cache(cache, "c.bin", b"other")
    names = ["a.bin", "b.bin", "c.bin"]
    assert hub_weights("m", REPO, names, allow_download=True) == second
    assert hub_weights("m", REPO, names[::-1], allow_download=True) == third


def test_without_leave_to_download_the_network_is_never_touched(cache: Path, no_network: None):
    with pytest.raises(EmbedderError) as error:
        hub_weights("ViT-X/tag", REPO, iter(["a.bin", "b.bin"]), allow_download=False)
    assert str(error.value) == (
        "the weights of ViT-X/tag are not in the cache of this machine; search by an image in the "
        "table, as # and its id, or run embed-images where the hub or a mirror (HF_ENDPOINT) can be reached"
    )


def test_a_cache_of_another_file_only_is_not_enough(cache: Path, no_network: None):
    put_in_cache(cache, "config.json")
    with pytest.raises(EmbedderError, match="not in the cache"):
        hub_weights("m", REPO, ["model.safetensors"], allow_download=False)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_hub_that_does_not_answer_is_soon_one_sentence(tmp_path: Path, offline: str):
    code = f"""
import time
time.sleep = lambda seconds: print("waits", seconds)
from datasette_image_search.embedders.weights import hub_weights
from datasette_image_search.errors import ImageSearchError
try:
    hub_weights("ViT-X/tag", "{REPO}", ["model.safetensors"], allow_download=True)
except ImageSearchError as error:
    print(error)
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_CACHE": str(tmp_path),
        "HF_HUB_OFFLINE": offline,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    (sentence,) = done.stdout.splitlines()
    assert sentence.startswith("the weights of ViT-X/tag are not in the cache and the hub did not")
    for way_out in ("HF_ENDPOINT", "--weights FILE", "--model palette", "--add-model"):
        assert way_out in sentence
    assert done.stderr == ""


def test_a_weights_file_that_is_there_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "w.pt").touch()
    monkeypatch.chdir(tmp_path)
    assert given_weights(Path("w.pt")) == tmp_path / "w.pt"


@pytest.mark.parametrize("name", ["missing.pt", "."])
def test_a_weights_file_that_is_not_there_is_named(tmp_path: Path, name: str):
    """By its name only: Datasette shows the sentence to all who search, and not where its files are."""
    with pytest.raises(EmbedderError, match=r"no weights file '[^/]+'"):
        given_weights(tmp_path / name)


# --- Fingerprint ---------------------------------------------------------------------------------


def test_a_fingerprint_is_16_hex_digits_and_stays(tmp_path: Path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"weights")
    found = fingerprint(path, name="a", mean=(0.5, 0.5))
    assert re.fullmatch("[0-9a-f]{16}", found)
    assert fingerprint(path, mean=(0.5, 0.5), name="a") == found
    os.utime(path, (0, 0))
    assert fingerprint(path.rename(tmp_path / "moved.bin"), name="a", mean=(0.5, 0.5)) == found


def test_a_fingerprint_changes_with_the_bytes(tmp_path: Path):
    path = tmp_path / "w.pt"
    found = set()
    for content in (b"", b"weights", b"Weights", b"weights "):
        path.write_bytes(content)
        found.add(fingerprint(path, name="a"))
    assert len(found) == 4


def test_a_fingerprint_changes_with_every_setting(tmp_path: Path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"weights")
    settings = [{}, {"name": "a"}, {"name": "b"}, {"name": "a", "size": 224}, {"size": "224"}]
    settings += [{"size": 224}, {"config": {"mean": [0.5]}}, {"config": {"mean": [0.4]}}]
    assert len({fingerprint(path, **chosen) for chosen in settings}) == len(settings)


def test_a_blob_of_the_cache_is_not_read_for_its_hash(cache: Path):
    """Large files would be read at every start; their names say what is in them."""
    link = put_in_cache(cache, "model.safetensors")
    before = fingerprint(link, name="a")

    link.resolve().write_bytes(b"not what the name says")

    assert fingerprint(link, name="a") == before


def test_a_file_has_the_same_fingerprint_in_the_cache_and_outside(cache: Path, tmp_path: Path):
    link = put_in_cache(cache, "model.safetensors")
    (tmp_path / "copy.safetensors").write_bytes(b"weights")
    assert fingerprint(link, name="a") == fingerprint(tmp_path / "copy.safetensors", name="a")


def test_a_small_file_of_the_cache_is_told_apart_by_its_bytes(tmp_path: Path):
    """Files that git holds itself have blobs named by git's hash, which is not a SHA-256."""
    blob = tmp_path / "blobs" / ("a" * 40)
    blob.parent.mkdir()
    found = set()
    for content in (b"one", b"two"):
        blob.write_bytes(content)
        found.add(fingerprint(blob, name="a"))
    assert len(found) == 2


def test_a_download_that_was_broken_off_is_noticed(cache: Path, no_network: None):
    blob = cache / "models--some-org--some-model" / "blobs" / f"{'a' * 64}.incomplete"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"half of the wei")
    with pytest.raises(EmbedderError, match="are only partly in the cache of this machine"):
        hub_weights("m", REPO, ["model.safetensors"], allow_download=False)


# --- Files that are read twice -------------------------------------------------------------------


def test_a_file_that_was_changed_or_removed_is_noticed(tmp_path: Path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"weights")
    file = WeightsFile.at(path)
    file.check_unchanged()
    path.write_bytes(b"other weights")
    with pytest.raises(EmbedderError, match=r"w\.pt' has changed since"):
        file.check_unchanged()
    path.unlink()
    with pytest.raises(EmbedderError, match=r"w\.pt' has changed since"):
        file.check_unchanged()
