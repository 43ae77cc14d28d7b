"""The file is believed when it proves to be the one that the database names, else never."""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from datasette_image_search.search import byte_codes, sidecar
from datasette_image_search.search.codes import encode
from datasette_image_search.search.sidecar import (
    MAGIC,
    Codes,
    SidecarUnusable,
    check_sidecar,
    open_sidecar,
    sidecar_path,
    write_sidecar,
)
from datasette_image_search.store.stored_vectors import StoredVectors

from .made_codes import INDEX
from .random_tables import add_images, random_vectors
from .version_0_1 import make_older

VECTORS = random_vectors(40)
IDS = np.arange(1, 81, 2)


def make_codes(vectors: np.ndarray = VECTORS, ids: np.ndarray = IDS) -> Codes:
    """In two batches, as they come from a database."""
    middle = len(ids) // 2
    return encode(
        INDEX,
        iter(
            StoredVectors(ids[part].astype(np.int64), ids[part].tolist(), vectors[part])
            for part in (slice(middle), slice(middle, None))
        ),
    )


def decoded(codes: Codes) -> np.ndarray:
    return codes.faiss_index.reconstruct_n(0, codes.faiss_index.ntotal)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = sidecar_path(tmp_path / "photos.db", INDEX)
    write_sidecar(path, INDEX, make_codes())
    return path


@pytest.fixture(scope="module", params=["codes", "codes and bytes"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good file, with codes in bytes or without."""
    path = tmp_path_factory.mktemp("whole") / "file"
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "codes and bytes":
            any_are_worth_bytes(patch)
        write_sidecar(path, INDEX, make_codes())
    return path.read_bytes()


def any_are_worth_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_codes, "SMALLEST", 1)
    monkeypatch.setattr(byte_codes, "LARGEST_RESIDUAL", 9.0)


def test_it_lies_beside_the_database_and_is_not_taken_for_one(tmp_path: Path) -> None:
    path = sidecar_path(tmp_path / "photos.db", INDEX)
    assert path.parent == tmp_path
    assert path.name.startswith("photos.db")
    assert path.suffix not in (".db", ".sqlite", ".sqlite3", ".db3")
    assert path != sidecar_path(tmp_path / "photos.db", replace(INDEX, id=2))
    assert path != sidecar_path(tmp_path / "other.db", INDEX)


def test_what_is_written_is_read_again(path: Path) -> None:
    codes = open_sidecar(path, INDEX)
    assert codes.vector_ids.tolist() == IDS.tolist()
    assert np.array_equal(decoded(codes), decoded(make_codes()))


def test_codes_are_within_half_a_thousandth_of_the_scores(path: Path) -> None:
    codes = open_sidecar(path, INDEX)
    scores, positions = codes.faiss_index.search(VECTORS, len(VECTORS))
    exact = np.take_along_axis(VECTORS @ VECTORS.T, positions, axis=1)
    assert np.abs(scores - exact).max() < 5e-4


def test_codes_in_bytes_are_written_and_read_again_if_they_are_worth_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_sidecar(path, INDEX).in_bytes is None
    any_are_worth_bytes(monkeypatch)
    write_sidecar(path, INDEX, make_codes())
    codes = open_sidecar(path, INDEX)
    assert np.array_equal(decoded(codes), decoded(make_codes()))
    for query in VECTORS:
        asked = codes.in_bytes.asked(query)
        assert 0 < asked.error < 0.1
        scores = asked.scores_at(np.arange(len(codes)))
        assert np.abs(scores - codes.scores(query)).max() <= asked.error


@pytest.mark.parametrize(
    "change",
    [
        {"byte_codes_at": -64},
        {"byte_codes_at": 64.0},
        {"byte_codes_at": "64"},
        {"byte_codes_at": True},
        {"byte_codes_at": 2**40},
    ],
    ids=str,
)
def test_a_header_that_says_anything_of_codes_in_bytes_is_not_believed(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: dict
) -> None:
    any_are_worth_bytes(monkeypatch)
    monkeypatch.setattr(sidecar, "asdict", lambda header: {**asdict(header), **change})
    with pytest.raises(OSError, match="the new file cannot be read back"):
        write_sidecar(path, INDEX, make_codes())


def test_only_the_file_itself_is_left(path: Path) -> None:
    write_sidecar(path, INDEX, make_codes())
    assert list(path.parent.iterdir()) == [path]


def test_an_open_file_stays_whole_while_a_new_one_takes_its_place(path: Path) -> None:
    old = open_sidecar(path, INDEX)
    newer = replace(INDEX, sidecar="newer")
    write_sidecar(path, newer, make_codes(-VECTORS, IDS + 100))
    assert np.array_equal(decoded(old), decoded(make_codes()))
    assert old.vector_ids.tolist() == IDS.tolist()
    assert open_sidecar(path, newer).vector_ids.tolist() == (IDS + 100).tolist()


def test_an_index_of_no_vectors_has_a_file_too(tmp_path: Path) -> None:
    empty = replace(INDEX, sidecar_vector_id=0)
    codes = encode(empty, iter([]))
    write_sidecar(tmp_path / "empty", empty, codes)
    opened = open_sidecar(tmp_path / "empty", empty)
    assert opened.faiss_index.ntotal == len(opened.vector_ids) == 0


@pytest.mark.parametrize("share", np.linspace(0, 0.999, 20).round(3))
def test_a_file_cut_short_anywhere_is_unusable(path: Path, whole: bytes, share: float) -> None:
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SidecarUnusable, match=path.name):
        open_sidecar(path, INDEX)


@settings(max_examples=100)
@given(st.data())
def test_a_file_cut_short_by_any_number_of_bytes_is_unusable(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "short"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(SidecarUnusable):
        open_sidecar(path, INDEX)


@settings(max_examples=150)
@given(st.data())
def test_what_describes_a_file_may_hold_anything_and_nothing_crashes(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    described = len(whole) - whole.rindex(b'{"token"')
    at = data.draw(st.integers(len(whole) - described, len(whole) - 1))
    damage = data.draw(st.binary(min_size=1, max_size=8))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes((whole[:at] + damage + whole[at + len(damage) :])[: len(whole)])
    try:
        codes = open_sidecar(path, INDEX)
    except SidecarUnusable as unusable:
        assert path.name in str(unusable)  # noqa: PT017
    else:
        assert codes.vector_ids.tolist() == IDS.tolist()
        assert np.array_equal(decoded(codes), decoded(make_codes()))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_damage_within_a_file_of_the_same_length_is_noticed(
    path: Path, whole: bytes, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it is opened if it is small, and where the whole of it is asked for if it is large."""
    at = int(whole.rindex(b'{"token"') * share)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    sentence = f"{path.name} is damaged$"
    with pytest.raises(SidecarUnusable, match=sentence):
        open_sidecar(path, INDEX)
    monkeypatch.setattr(sidecar, "CHECKED_WHEN_OPENED", 0)
    with pytest.raises(SidecarUnusable, match=sentence):
        open_sidecar(path, INDEX, check=True)
    with pytest.raises(SidecarUnusable, match=sentence):
        check_sidecar(path, INDEX)


def test_opening_a_large_file_does_not_read_all_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise AssertionError("all of it was read")

    monkeypatch.setattr(sidecar, "CHECKED_WHEN_OPENED", 0)
    check_sidecar(path, INDEX)
    monkeypatch.setattr(sidecar, "_checksum", refuse)
    assert len(open_sidecar(path, INDEX)) == 40


def ending(header: bytes, length: int | None = None) -> bytes:
    length = len(header) if length is None else length
    return header + struct.pack("<IQ", zlib.crc32(header), length) + MAGIC


def header(**changes: object) -> bytes:
    fields = {
        "token": INDEX.sidecar,
        "image_table": INDEX.image_table,
        "index_id": INDEX.id,
        "fingerprint": INDEX.fingerprint,
        "dimensions": INDEX.dimensions,
        "vector_id": INDEX.sidecar_vector_id,
        "vectors": 0,
        "ids_at": 0,
        "arrays": 2,
        "checksum": 0,
    }
    return ending(json.dumps({**fields, **changes}).encode())


def checked(content: bytes, **changes: object) -> bytes:
    return content + header(checksum=zlib.crc32(content), **changes)


GARBAGE = {
    "empty": b"",
    "short": b"short",
    "noise": b"garbage" * 1000,
    "ending only": MAGIC,
    "no header": bytes(12) + MAGIC,
    "header of nothing": ending(b"{}"),
    "header of a list": ending(b"[1, 2]"),
    "header of no JSON": ending(b"not JSON"),
    "header of no UTF-8": ending(b"\xff\xfe"),
    "header longer than the file": ending(b"{}", length=2**16),
    "header longer than memory": ending(b"{}", length=2**62),
    "header longer than anything": ending(b"{}", length=2**64 - 1),
    "null for a number": header(vectors=None),
    "text for a number": header(ids_at="0"),
    "a fraction for a number": header(arrays=2.0),
    "less than no vectors": bytes(16) + header(vectors=-1, ids_at=32),
    "no codes": header(),
    "codes that are none": checked(b"12345678" * 40, ids_at=320),
    "ids without codes": checked(b"12345678" * 80, vectors=40),
    "another number of arrays": checked(b"12345678" * 160, vectors=40, arrays=4),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_unusable(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SidecarUnusable, match=path.name):
        open_sidecar(path, INDEX)


def test_a_file_of_a_version_that_is_not_known_is_unusable(path: Path) -> None:
    """It is as it was written, and yet nobody knows what it says."""
    path.write_bytes(header(half_bytes_at=64))
    with pytest.raises(SidecarUnusable, match=f"^{path.name} was written by another version$"):
        open_sidecar(path, INDEX)


def test_a_missing_file_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(SidecarUnusable, match="nowhere is missing"):
        open_sidecar(tmp_path / "nowhere", INDEX)


def test_a_folder_in_its_place_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(SidecarUnusable, match="is a folder"):
        open_sidecar(tmp_path, INDEX)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sidecar": "other"}, "not the sidecar that the database names"),
        ({"sidecar": None}, "not the sidecar that the database names"),
        ({"id": 2, "sidecar": "of the other"}, "not the sidecar that the database names"),
        ({"fingerprint": "f2"}, "belongs to another model"),
        ({"dimensions": 16}, "belongs to another model"),
    ],
)
def test_a_file_of_something_else_is_unusable(path: Path, change: dict, sentence: str) -> None:
    with pytest.raises(SidecarUnusable, match=sentence):
        open_sidecar(path, replace(INDEX, **change))


def test_a_file_that_belongs_to_an_index_without_one_is_unusable(path: Path) -> None:
    nameless = replace(INDEX, sidecar=None)
    write_sidecar(path, nameless, make_codes())
    with pytest.raises(SidecarUnusable, match="not the sidecar that the database names"):
        open_sidecar(path, nameless)


@pytest.mark.parametrize("when", ["sync", "rename", "interrupt"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def fail(*args: object) -> None:
        if when == "interrupt":
            raise KeyboardInterrupt
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = path.read_bytes()
    if when == "rename":
        monkeypatch.setattr(sidecar.Path, "replace", fail)
    else:
        monkeypatch.setattr(sidecar.os, "fsync", fail)
    with pytest.raises((OSError, KeyboardInterrupt)):
        write_sidecar(path, replace(INDEX, sidecar="newer"), make_codes(-VECTORS))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_sidecar(tmp_path / "nowhere" / "file", INDEX, make_codes())
    assert list(tmp_path.iterdir()) == []


# --- What else may be in its place -------------------------------------------------------------------


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_told_as_what_it_is_and_nobody_waits_for_it(path: Path, make) -> None:
    path.unlink()
    make(path)
    kind = "a named pipe" if path.is_fifo() else "a device"
    with pytest.raises(SidecarUnusable, match=f"{path.name} is {kind}"):
        open_sidecar(path, INDEX)
    with pytest.raises(OSError, match=f"it is {kind}; remove it"):
        write_sidecar(path, INDEX, make_codes())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_of_version_0_1_is_read_where_the_database_names_it(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        add_images(db, VECTORS)
        index = make_older(db)
        codes = open_sidecar(sidecar_path(tmp_path / "photos.db", index), index)
    assert codes.vector_ids.tolist() == list(range(1, 41))
    assert codes.rows is None


@pytest.mark.parametrize("at", range(-140, -20, 7))
def test_a_header_of_which_a_bit_is_another_is_no_header(path: Path, whole: bytes, at: int) -> None:
    """Also of a file that is too large to be read as a whole when it is opened."""
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(SidecarUnusable, match=f"{path.name} is damaged"):
        open_sidecar(path, INDEX)


@pytest.mark.parametrize("lost", [0, 40, 81, 400, 700, 1000, 1300])
def test_a_write_that_was_lost_without_an_error_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    before, real = path.read_bytes(), sidecar._write

    def write(file: BinaryIO, *args: object) -> None:
        real(file, *args)
        file.seek(lost)
        file.write(b"\xaa" * 8)

    monkeypatch.setattr(sidecar, "_write", write)
    with pytest.raises(OSError, match="the new file cannot be read back"):
        write_sidecar(path, replace(INDEX, sidecar="newer"), make_codes(-VECTORS))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_ids_and_tokens_are_in_the_checksum_as_well(path: Path, whole: bytes) -> None:
    codes = make_codes()
    for ids in (codes.vector_ids, codes.image_ids):
        at = whole.index(ids.astype("<i8").tobytes())
        path.write_bytes(whole[: at + 9] + b"\1" + whole[at + 10 :])
        with pytest.raises(SidecarUnusable, match="is damaged"):
            open_sidecar(path, INDEX)
