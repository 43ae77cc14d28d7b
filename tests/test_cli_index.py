"""`sqlite-utils index-images` as people run it, measure with it, and stop it."""

from __future__ import annotations

import errno
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

import faiss
import numpy as np
import pytest

from datasette_image_search.cli import progress
from datasette_image_search.search import approximate, byte_codes, indexing, sidecar
from datasette_image_search.store import Index

from .commands import change, command, embed_images, query
from .conftest import draw_picture, sidecar_of
from .faults.forked import Forker
from .vector_files import unit, write_npy

DIMENSIONS = 32
MANY = 6000


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many vectors, in clusters as those of pictures are; the first 20 are copies of each other."""
    folder = tmp_path_factory.mktemp("imported")
    middles = unit(60, DIMENSIONS)
    vectors = middles[np.arange(MANY) % 60] + 0.6 * unit(MANY, DIMENSIONS, seed=1)
    vectors[:20] = vectors[0]
    source, paths = write_npy(folder, [f"{number}.jpg" for number in range(MANY)], vectors)
    bring = ("import-image-vectors", folder / "photos.db", "images", source, "--paths", paths)
    result = command(*bring, "--root", "/photos", "--model", "my/pictures")
    assert result.exit_code == 0, result.output
    return folder / "photos.db"


@pytest.fixture
def collection(imported: Path, tmp_path: Path) -> Path:
    """A copy of it, alone in a folder, with an exact index."""
    (tmp_path / "home").mkdir()
    for file in imported.parent.glob("photos.db*"):
        shutil.copy(file, tmp_path / "home")
    return tmp_path / "home" / "photos.db"


def index_images(*arguments: object):
    """`index-images` that has to succeed."""
    result = command("index-images", *arguments)
    assert result.exit_code == 0, result.output
    return result


def last_line(*arguments: object) -> str:
    """What a run says at the end, less the time."""
    return index_images(*arguments).stdout.splitlines()[-1].partition(" in ")[0]


def evaluated(*arguments: object) -> dict[str, tuple[float, float, int]]:
    """Name -> recall@128, milliseconds and bytes per vector, of the table that --evaluate prints."""
    lines = index_images(*arguments, "--evaluate").stdout.splitlines()
    assert re.fullmatch(r"search +recall@20 +recall@128 +ms +bytes per vector", lines[0])
    rows = (re.split(r"  +", line) for line in lines[2:])
    return {
        name: (float(recall), float(ms), int(size.replace(",", "")))
        for name, _, recall, ms, size in rows
    }


def worth_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any vectors are."""
    monkeypatch.setattr(byte_codes, "SMALLEST", 1)
    monkeypatch.setattr(byte_codes, "LARGEST_RESIDUAL", 9.0)


def files_of(database: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in database.parent.iterdir()}


def status_of(database: Path) -> dict:
    ((text,),) = (
        json.loads(command("query", database, "select image_search_status()", "--arrays").stdout),
    )
    return json.loads(text[0])


def ids_of(database: Path, term: str, *options: object) -> list[int]:
    result = command("search-images", database, "images", term, "--json", *options)
    return [row["id"] for row in json.loads(result.stdout)]


# --- Writing an index ------------------------------------------------------------------------------


def test_few_vectors_are_searched_exactly(collection: Path):
    assert last_line(collection, "images") == (
        "6,000 vectors of 32 dimensions, exact (flat float16, 64 bytes each)"
    )
    assert sorted(files_of(collection)) == ["photos.db", "photos.db-image-search-1.faiss"]
    assert status_of(collection)["search"] == "exact"


def test_bytes_beside_half_precision_are_counted(collection: Path, monkeypatch: pytest.MonkeyPatch):
    """64 in half precision, and 64 with what makes the sums the same."""
    worth_bytes(monkeypatch)
    assert last_line(collection, "images") == (
        "6,000 vectors of 32 dimensions, exact (flat float16 and bytes, 128 bytes each)"
    )
    for more in ([], ["--type", "SQ8"]):
        recall, _, size = evaluated(collection, "images", *more)["flat float16 and bytes"]
        assert (recall, size) == (1.0, 128)


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        ("ivf", r"IVF150,SQ8 nprobe=\d+"),
        ("HNSW32_SQ8", r"HNSW32_SQ8 efSearch=\d+"),
        ("IVF16,Flat", r"IVF16,Flat nprobe=\d+"),
        ("SQ8", "SQ8"),
    ],
)
def test_an_approximate_index_is_told_with_its_recall(collection: Path, type: str, expected: str):
    exact = ids_of(collection, "#4000")
    line = last_line(collection, "images", "--type", type)
    match = re.fullmatch(
        rf"6,000 vectors of 32 dimensions, {expected} \(float16 for the scores, \d+ bytes each\), "
        r"recall@20 ([\d.]+) and recall@128 ([\d.]+) for 200 queries",
        line,
    )
    assert min(map(float, match.groups())) >= 0.98
    assert len(files_of(collection)) == 3
    assert status_of(collection)["problem"] is None
    assert re.fullmatch(
        r".*, recall@20 .* and recall@128 .* for 200 queries; exact under filters and beyond the best 128",
        status_of(collection)["search"],
    )
    assert len(set(exact) & set(ids_of(collection, "#4000"))) >= 9
    assert ids_of(collection, "#4000", "--exact") == exact


def test_the_type_and_the_target_stay_until_others_are_asked_for(collection: Path):
    asked = ("--type", "IVF32,SQ8", "--target-recall", "0.6")
    low = last_line(collection, "images", *asked)
    assert "IVF32,SQ8" in low
    assert last_line(collection, "images") == low
    high = last_line(collection, "images", "--target-recall", "1")
    probes = [int(re.search(r"nprobe=(\d+)", line)[1]) for line in (low, high)]
    assert probes[0] < probes[1]
    assert "recall@20 1.000 and recall@128 1.000" in high
    assert "exact" in last_line(collection, "images", "--type", "auto")
    assert "exact" in last_line(collection, "images")
    assert len(files_of(collection)) == 2


def test_a_recall_that_is_not_reached_is_said(collection: Path):
    result = index_images(collection, "images", "--type", "PQ1x2", "--target-recall", "1")
    assert re.fullmatch(
        r"Warning: PQ1x2 reaches a recall of 0\.\d+ at best, less than the target of 1; try another "
        r"--type, or flat, which is exact\n",
        result.stderr,
    )


def test_the_index_of_one_model_of_several(tmp_path: Path, folder: Path, database: Path):
    source, paths = write_npy(tmp_path, ["blue.jpg", "red.jpg"], unit(2))
    other = ("--model", "my/others", "--add-model")
    bring = ("import-image-vectors", database, "images", source, "--paths", paths)
    assert command(*bring, "--root", folder, *other).exit_code == 0
    assert last_line(database, "images", "--model", "my/others").startswith(
        "2 vectors of 16 dimensions"
    )
    assert last_line(database, "images").startswith("8 vectors of 449 dimensions")


def test_later_runs_add_to_the_index_and_tell_how_far_they_are(
    tmp_path: Path, folder: Path, database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    index_images(database, "images", "--type", "HNSW32_SQ8")
    draw_picture(folder / "teal.jpg", "teal")
    result = embed_images(database, "images", folder)
    assert "1 of 1 vectors added, " in result.stderr
    assert "HNSW32" in status_of(database)["search"]
    assert status_of(database)["newer_than_sidecar"] == 0
    draw_picture(folder / "lime.jpg", "lime")
    assert embed_images(database, "images", folder, "--silent").stderr == ""


def test_progress_while_it_is_made(collection: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    lines = index_images(collection, "images", "--type", "ivf").stderr.splitlines()
    assert [line.partition(" vectors, ")[0] for line in lines[:2]] == [
        "0 of 6,000",
        "6,000 of 6,000",
    ]
    assert [line.partition(", ")[0] for line in lines if "training" in line][::5] == [
        "0 of 10 rounds of training",
        "5 of 10 rounds of training",
        "10 of 10 rounds of training",
    ]
    assert any(line.startswith("6,000 of 6,000 vectors added") for line in lines)
    assert index_images(collection, "images", "--silent").stderr == ""


def test_progress_while_a_search_reads_what_the_sidecar_would_have(
    collection: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    sidecar_of(collection).unlink()
    lines = command("search-images", collection, "images", "#3").stderr.splitlines()
    assert [line.partition(" vectors, ")[0] for line in lines] == ["0 of 6,000", "6,000 of 6,000"]
    assert command("search-images", collection, "images", "#3").stderr == ""


# --- Measuring -------------------------------------------------------------------------------------


def test_measuring_says_what_is_there_and_changes_nothing(collection: Path):
    before = files_of(collection)
    rows = evaluated(collection, "images")
    assert list(rows) == ["numpy brute force", "flat float16"]
    (brute_recall, _, brute_bytes), (flat_recall, _, flat_bytes) = rows.values()
    assert brute_recall == flat_recall == 1
    assert (brute_bytes, flat_bytes) == (128, 64)
    assert files_of(collection) == before


def test_what_another_index_would_be_is_measured_without_writing_it(collection: Path):
    before = files_of(collection)
    rows = evaluated(collection, "images", "--type", "IVF64,SQ8", "--target-recall", "0.01")
    name, (recall, _, size) = list(rows.items())[2]
    assert name == "IVF64,SQ8 nprobe=1"
    assert 0.1 < recall < 0.98
    assert size > 64 + 32
    assert files_of(collection) == before


def test_an_index_that_is_there_is_measured_as_it_is_searched(collection: Path):
    """With what was deleted since, and added."""
    index_images(collection, "images", "--type", "IVF16,Flat", "--target-recall", "1")
    change(collection, "delete from images where id % 3 = 1")
    change(
        collection,
        "insert into images (id, root_id, path) values (9000, 1, 'new.jpg')",
        "insert into _images_vectors (index_id, image_id, vector) "
        "select 1, 9000, vector from _images_vectors where image_id = 5000",
    )
    before = files_of(collection)
    rows = evaluated(collection, "images")
    assert [recall for recall, _, _ in rows.values()] == [1.0, 1.0, pytest.approx(1, abs=0.1)]
    assert files_of(collection) == before


def test_queries_of_a_persons_own_may_have_any_length(collection: Path, tmp_path: Path):
    queries = unit(30, DIMENSIONS, seed=7)
    lines = []
    for factor, type in ((1, "f4"), (1000, "f8"), (0.1, "f4")):
        np.save(tmp_path / "queries.npy", (factor * queries).astype(type))
        asked = (
            "--type",
            "IVF16,SQ8",
            "--target-recall",
            "0.01",
            "--queries",
            tmp_path / "queries.npy",
        )
        lines.append(last_line(collection, "images", *asked))
    assert lines[0].endswith(" for 30 queries")
    assert len(set(lines)) == 1
    rows = evaluated(collection, "images", "--queries", tmp_path / "queries.npy")
    assert list(rows.values())[1][0] == 1


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (unit(3, 8), "have 8 dimensions, but 'images' was embedded with my/pictures, which"),
        (np.full((2, DIMENSIONS), np.nan, "f4"), "query number 1 of '{}' holds NaN or infinity"),
        (np.eye(DIMENSIONS)[:5] * np.array([[1, 1, 0, 1, 1]]).T, "query number 3 of '{}' is all"),
        (np.zeros((0, DIMENSIONS), "f4"), "there are no queries in '{}'"),
        (unit(1, DIMENSIONS)[0], "'{}' has the shape (32,), not a row for each vector"),
        (np.ones((2, DIMENSIONS), int), "holds int64, not vectors in float16, float32 or float64"),
        (None, "there is no file '{}' with queries"),
    ],
)
def test_queries_that_are_none_are_refused(collection: Path, tmp_path: Path, array, sentence: str):
    path = tmp_path / "queries.npy"
    if array is not None:
        np.save(path, array)
    before = files_of(collection)
    result = command("index-images", collection, "images", "--type", "ivf", "--queries", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence.format(path) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert files_of(collection) == before


# --- What goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--type", "tree"], "FAISS makes no index of 32 dimensions by 'tree'; use one of auto,"),
        (
            ["--type", "IVF0,Flat"],
            "by 'IVF0,Flat', in which a number is too small; use one of auto",
        ),
        (["--type", "HNSW0"], "by 'HNSW0', in which a number is too small; use one of auto"),
        (
            ["--type", "hnsw"],
            "FAISS makes no index of 32 dimensions by 'hnsw'; use one of auto, flat, ivf, or",
        ),
        (["--gpu"], "there is nothing to build for 6,000 vectors"),
        (
            ["--type", "IVF7000,Flat"],
            "'IVF7000,Flat' needs at least 7,000 vectors, and there are 6,000",
        ),
        (["--model", "palette"], "'images' is not embedded with palette, but with my/pictures"),
    ],
)
@pytest.mark.parametrize("evaluate", [[], ["--evaluate"]], ids=["write", "evaluate"])
def test_what_cannot_be_made_is_one_sentence_and_changes_nothing(
    collection: Path, arguments: list[str], sentence: str, evaluate: list[str]
):
    before = files_of(collection)
    result = command("index-images", collection, "images", *arguments, *evaluate)
    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert files_of(collection) == before


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this FAISS knows GPUs")
def test_a_faiss_without_gpus(collection: Path):
    result = command("index-images", collection, "images", "--type", "ivf", "--gpu")
    assert result.exit_code == 1
    assert "this FAISS is built without GPUs (as faiss-cpu is)" in result.stderr


@pytest.mark.parametrize("evaluate", [[], ["--evaluate"]], ids=["write", "evaluate"])
def test_a_table_without_vectors(database: Path, evaluate: list[str]):
    change(database, "delete from images")
    result = command("index-images", database, "images", *evaluate)
    assert result.exit_code == 1
    assert "'images' has no vectors to index; embed its images first" in result.stderr


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path):
    result = command("index-images", tmp_path / "no.db", "images")
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])


@pytest.mark.parametrize("evaluate", [[], ["--evaluate"]], ids=["write", "evaluate"])
@pytest.mark.parametrize(
    ("module", "name"),
    [(approximate, "_add"), (approximate, "_found"), (indexing, "written_beside")],
    ids=["adding", "tuning", "writing"],
)
def test_ctrl_c_leaves_everything_as_it_was(
    collection: Path, monkeypatch: pytest.MonkeyPatch, module, name: str, evaluate: list[str]
):
    if evaluate and name == "written_beside":
        pytest.skip("nothing is written")
    work = getattr(module, name)

    def interrupt(*args, **options):
        if name == "written_beside" and not isinstance(args[2], approximate.Approximate):
            return work(*args, **options)
        raise KeyboardInterrupt

    index_images(collection, "images", "--type", "IVF8,Flat")
    before = files_of(collection)
    monkeypatch.setattr(module, name, interrupt)
    result = command("index-images", collection, "images", "--type", "ivf", *evaluate)
    assert (result.exit_code, result.stdout) == (130, "Interrupted: nothing was changed\n")
    assert files_of(collection) == before


def test_a_full_disk_leaves_everything_as_it_was(collection: Path, monkeypatch: pytest.MonkeyPatch):
    index_images(collection, "images", "--type", "IVF8,Flat")
    before, write = files_of(collection), sidecar._write

    def fail(file: BinaryIO, index: Index, made: object, report: object) -> None:
        write(file, index, made, report)
        if isinstance(made, approximate.Approximate):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sidecar, "_write", fail)
    result = command("index-images", collection, "images", "--type", "ivf")
    assert result.exit_code == 1
    assert "could not be written (No space left on device)" in result.stderr
    assert files_of(collection) == before
    assert query(collection, "select index_type from image_search_indexes") == [("IVF8,Flat",)]


def command_with_short_files(longest: int, *arguments: object) -> tuple[int, str]:
    """For a process of its own, which has files of so many bytes at most: its exit code and stderr."""
    import resource

    # Python finds the folder for temporary files by writing one, which is not what has to fail.
    tempfile.gettempdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, before[1]))
    done = command(*arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return done.exit_code, done.stderr


@pytest.mark.parametrize("share", [0.0, 0.6, 0.9999])
def test_a_write_that_fails_at_any_place_is_told_and_the_old_file_stays(
    collection: Path, forker: Forker, share: float
):
    """At the last flush, too: the system refuses what is longer."""
    file = sidecar_of(collection)
    before = file.read_bytes()
    longest = int(share * len(before))
    arguments = ("index-images", str(collection), "images", "--type", "flat", "-s")
    code, stderr = forker.call(command_with_short_files, longest, *arguments)
    assert code == 1, stderr
    assert "could not be written (File too large)" in stderr
    assert "Traceback" not in stderr
    assert file.read_bytes() == before
    assert not list(file.parent.glob("*.tmp"))
