"""The commands as people type them: through sqlite-utils itself."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlite_utils
from click.testing import CliRunner, Result
from sqlite_utils.cli import cli

from .conftest import COLOURS, SHARED, draw_picture, sidecar_of


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def rows_of(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_embed_then_search(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "photos.db"

    embedded = run("embed-images", database, "images", folder, "--model", "palette")
    assert embedded.exit_code == 0, embedded.output
    assert embedded.stdout.startswith("8 embedded, 0 unchanged, 0 failed in ")
    assert "images/s, palette on cpu" in embedded.stdout
    assert sidecar_of(database).exists()

    found = run("search-images", database, "images", "blue", "-k", "3")
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0].split() == ["score", "relevance", "id", "path", "matched"]
    assert lines[2].split()[2:] == ["2", "blue.jpg", "blue", "in", "filename"]
    assert len(lines) == 2 + 3


def test_a_second_run_embeds_nothing(folder: Path, database: Path) -> None:
    again = run("embed-images", database, "images", folder)
    assert again.stdout.startswith("0 embedded, 8 unchanged, 0 failed in ")


def test_a_bad_file_is_a_line_in_the_report(tmp_path: Path, folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"this is no picture")
    result = run("embed-images", tmp_path / "p.db", "images", folder, "--model", "palette")
    assert result.exit_code == 0
    assert "Failed: broken.jpg: the file is not a picture" in result.stderr
    assert result.stdout.startswith("8 embedded, 0 unchanged, 1 failed")


def test_many_bad_files_are_not_many_lines(tmp_path: Path, folder: Path) -> None:
    for number in range(30):
        (folder / f"broken{number:02}.jpg").write_bytes(b"")
    result = run("embed-images", tmp_path / "p.db", "images", folder, "--model", "palette")
    assert "Failed: broken00.jpg and 29 more: the file is empty" in result.stderr.splitlines()


@pytest.mark.parametrize(
    ("output", "read"),
    [
        ("--json", json.loads),
        ("--csv", lambda text: list(csv.DictReader(io.StringIO(text)))),
    ],
)
def test_output_for_programs(database: Path, output: str, read) -> None:
    result = run("search-images", database, "images", "red", "-k", "2", output)
    best, second = read(result.stdout)
    assert (str(best["id"]), best["path"]) == ("6", "red.jpg")
    assert float(best["score"]) > float(second["score"])


def test_paths_are_those_of_the_files(folder: Path, database: Path) -> None:
    result = run("search-images", database, "images", "red", "-k", "1", "--paths")
    assert result.stdout == f"{folder / 'red.jpg'}\n"


def test_a_filter_never_comes_back_short(folder: Path, database: Path) -> None:
    where = ("--where", "path in ('black.jpg', :other)", "-p", "other", "white.jpg")
    rows = rows_of(run("search-images", database, "images", "red", "--json", *where))
    assert sorted(row["path"] for row in rows) == ["black.jpg", "white.jpg"]


def test_words_that_are_not_known_are_a_warning_beside_the_hits(database: Path) -> None:
    result = run("search-images", database, "images", "red sports car", "-k", "1", "--json")
    assert rows_of(result)[0]["path"] == "red.jpg"
    assert "Warning: palette does not know 'sports car'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sports car"], "palette does not know 'sports car'; it understands colours"),
        (["#99"], "there is no image #99 with a vector in 'images'"),
        ([""], "the query is empty"),
        (["red - red"], "cancel each other out"),
        (["red", "--where", "no_column = 1"], "the filter 'no_column = 1' does not work"),
        (["red", "--where", "path = :missing"], "the filter 'path = :missing' does not work"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_1(
    database: Path, arguments: list[str], sentence: str
) -> None:
    result = run("search-images", database, "images", *arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_searching_what_is_not_there(tmp_path: Path, database: Path) -> None:
    missing = tmp_path / "missing.db"
    result = run("search-images", missing, "images", "red")
    assert (result.exit_code, missing.exists()) == (1, False)
    assert f"there is no database {str(missing)!r}" in result.stderr

    result = run("search-images", database, "pictures", "red")
    assert "'pictures' is not an image table; this database has 'images'" in result.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "many"])
@pytest.mark.parametrize(
    "asked",
    [
        ("embed-images", "--max-megapixels"),
        ("index-images", "--target-recall"),
        ("search-images", "--min-score"),
    ],
)
def test_numbers_that_are_none_are_refused(database: Path, asked: tuple, number: str) -> None:
    command, option = asked
    result = run(command, database, "images", "red", option, number)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: Invalid value for '{option}': " in result.stderr


def test_a_link_to_a_database_in_no_folder(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "nowhere" / "photos.db")
    result = run("embed-images", tmp_path / "link.db", "images", folder, "--model", "palette")
    assert result.exit_code == 1
    assert f"there is no folder {str(tmp_path / 'nowhere')!r}" in result.stderr


def test_a_file_that_is_no_database(tmp_path: Path, folder: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, only a text that is long enough to have a header" * 10)
    for command in (["search-images", text, "images", "red"], ["embed-images", text, "i", folder]):
        result = run(*command)
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: {str(text)!r}: file is not a database; give the path of one, or of a new file\n"
        )


def test_the_default_model_without_its_weights(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine without a network."""
    database = tmp_path / "photos.db"

    def fail(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    result = run("embed-images", database, "images", folder)
    assert result.exit_code == 1
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("Error: the weights of ViT-B-32-256/datacomp_s34b_b86k are not in")
    assert "--model palette" in sentence
    assert "--weights FILE" in sentence
    assert not database.exists()


def test_another_model_is_refused_for_the_same_table(folder: Path, database: Path) -> None:
    result = run("embed-images", database, "images", folder, "--model", "timm/test_vit")
    assert result.exit_code == 1
    assert "'images' is embedded with palette, not timm/test_vit" in result.stderr


@pytest.mark.parametrize("table", ['my "photos" of \'21', "bilder für alle", "select", "100% {x}"])
def test_any_table_name(tmp_path: Path, table: str) -> None:
    folder = tmp_path / "photos of 'Zoë' & \"co\""
    draw_picture(folder / "d'été" / "rouge é.png", "red")
    draw_picture(folder / "blue #1?.png", "blue")
    database = tmp_path / "p.db"
    assert run("embed-images", database, table, folder, "--model", "palette").exit_code == 0
    (row,) = rows_of(run("search-images", database, table, "red", "-k", "1", "--json"))
    assert row["path"] == "d'été/rouge é.png"
    result = run("search-images", database, table, "red", "-k", "1", "--paths")
    assert Path(result.stdout.rstrip("\n")).is_file()


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "foreign"])
def test_no_damage_to_the_sidecar_changes_an_answer(
    tmp_path: Path, folder: Path, embed, damage: str
) -> None:
    database = embed(folder)
    draw_picture(tmp_path / "other" / "lime.png", "lime")
    embed(tmp_path / "other", table="others")
    search = ("search-images", database, "images", "green", "--json")
    before = rows_of(run(*search))
    sidecar, other = sidecar_of(database), sidecar_of(database, "others")
    if damage == "missing":
        sidecar.unlink()
    elif damage == "truncated":
        sidecar.write_bytes(sidecar.read_bytes()[:-100])
    elif damage == "empty":
        sidecar.write_bytes(b"")
    else:
        sidecar.write_bytes(other.read_bytes())

    code = "import sys; from sqlite_utils.cli import cli; cli()"
    fresh = subprocess.run(
        [sys.executable, "-c", code, *map(str, search)], check=False, capture_output=True, text=True
    )
    assert json.loads(fresh.stdout) == before, fresh.stderr


def test_the_import_of_the_commands_is_light() -> None:
    """sqlite-utils imports us on every run, so nothing heavy may come along."""
    code = "import sys, datasette_image_search.cli; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"torch", "open_clip", "timm", "faiss", "datasette", "PIL", "huggingface_hub"}
    assert heavy.isdisjoint(modules)


@pytest.mark.skipif(not SHARED.exists(), reason="no real photos on this machine")
def test_real_photos_and_their_exif(tmp_path: Path) -> None:
    database = tmp_path / "photos.db"
    result = run("embed-images", database, "images", SHARED / "exif", "--model", "palette")
    assert result.exit_code == 0, result.output
    row = next(sqlite_utils.Database(database)["images"].rows_where("filename = 'DSCN0010.jpg'"))
    assert row["camera_make"] == "Nikon"
    assert row["taken_at"] == "2008-10-22T16:28:39"
    assert (round(row["latitude"], 3), round(row["longitude"], 3)) == (43.467, 11.885)
    assert (row["width"], row["height"]) == (640, 480)


def test_colours_are_all_found_by_their_names(database: Path) -> None:
    for colour in COLOURS:
        (best,) = rows_of(run("search-images", database, "images", colour, "-k", "1", "--json"))
        assert best["path"] == f"{colour}.jpg"
