"""`sqlite-utils search-images`: several queries, pictures on the disk, and how results were found."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils

from datasette_image_search import Images
from datasette_image_search.search import queries
from datasette_image_search.search.query import vector_to_term
from datasette_image_search.sql import register_functions

from .commands import change, command, embed_images
from .conftest import COLOURS, SHARED, draw_picture
from .documents import PROJECT, names_in_tables
from .random_tables import add_images, random_vectors
from .vector_files import unit


def search(*arguments: object):
    """`search-images` that has to succeed."""
    result = command("search-images", *arguments)
    assert result.exit_code == 0, result.output
    return result


def rows_of(*arguments: object) -> list[dict]:
    return json.loads(search(*arguments, "--json").stdout)


# --- What is written ---------------------------------------------------------------------------------


def test_by_text_and_by_likeness(database: Path):
    change(database, "update images set folder = 'Lisbon' where path in ('red.jpg', 'blue.jpg')")
    both = rows_of(database, "images", "red + lisbon")
    assert [row["path"] for row in both[:2]] == ["red.jpg", "blue.jpg"]
    assert both[0]["matched"] == "red in filename; lisbon in folder"
    assert (len(both), both[-1]["matched"]) == (8, "")
    by_text = rows_of(database, "images", "lisbon", "--by", "text")
    assert sorted(row["path"] for row in by_text) == ["blue.jpg", "red.jpg"]
    assert {(row["score"], row["matched"]) for row in by_text} == {(None, "lisbon in folder")}
    by_likeness = rows_of(database, "images", "red", "--by", "likeness", "-k", 1)
    assert list(by_likeness[0]) == ["score", "relevance", "id", "path", "at"]


def test_words_that_the_model_does_not_know_but_somebody_wrote(database: Path):
    change(database, "update images set title = 'Lisbon' where path = 'red.jpg'")
    result = search(database, "images", "lisbon")
    assert result.stdout.splitlines()[2].split() == ["6", "red.jpg", "lisbon", "in", "title"]
    assert "palette does not know 'lisbon'" in result.stderr
    result = search(database, "images", "porto", "--by", "text")
    assert (result.stdout, result.stderr) == ("", "No image has these words in its texts\n")
    result = search(database, "images", "text:porto")
    assert (result.stdout, result.stderr) == ("", "No image has these words in its texts\n")


# --- Several queries -------------------------------------------------------------------------------


def test_results_of_several_queries_say_which_of_them_they_are_for(database: Path):
    rows = rows_of(database, "images", "red", "blue", "#4", "-k", 2)
    assert [row["query"] for row in rows] == ["red", "red", "blue", "blue", "#4", "#4"]
    assert [row["path"] for row in rows[::2]] == ["red.jpg", "blue.jpg", "orange.jpg"]
    assert list(rows[0]) == ["query", "score", "relevance", "id", "path", "at", "matched"]
    for name in ("red", "blue", "#4"):
        alone = rows_of(database, "images", name, "-k", 2)
        assert list(alone[0]) == ["score", "relevance", "id", "path", "at", "matched"]
        together = [row for row in rows if row["query"] == name]
        assert [row["id"] for row in together] == [row["id"] for row in alone]
        assert [row["score"] for row in together] == pytest.approx(
            [row["score"] for row in alone], abs=1e-6
        )


def test_output_of_several_queries_for_programs(database: Path):
    asked = (database, "images", "red", "blue", "-k", 2)
    rows = rows_of(*asked)
    read = list(csv.DictReader(io.StringIO(search(*asked, "--csv").stdout)))
    assert read == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]
    assert [json.loads(line) for line in search(*asked, "--nl").stdout.splitlines()] == rows


def test_a_table_of_several_queries(database: Path):
    term = vector_to_term(unit(1, 449)[0])
    lines = search(database, "images", "red", term, "-k", 1).stdout.splitlines()
    assert lines[0].split() == ["query", "score", "relevance", "id", "path", "matched"]
    assert lines[2].split()[0] == "red"
    assert lines[2].endswith("red in filename")
    assert re.match(r"vec:.{33}\.\.\.  ", lines[3])
    assert len(lines[3]) < 100


def test_a_query_that_fails_is_named_and_nothing_is_printed(database: Path):
    for failing, sentence in [
        ("", "'': the query is empty; type some words"),
        ("2: + red", "a term is missing in '2: + red'"),
        ("red - red", "the terms of 'red - red' cancel each other out"),
        ("#99", "there is no image #99 with a vector in 'images'"),
        ("a dog", "'a dog': palette does not know 'dog'"),
    ]:
        for more in ([], ["--sort", "path"], ["--by", "likeness"]):
            asked = ("search-images", database, "images", "red", failing, "--json", *more)
            result = command(*asked)
            assert (result.exit_code, result.stdout) == (1, "")
            (line,) = result.stderr.splitlines()
            assert line.startswith(f"Error: {sentence}")


def test_paths_of_several_queries_are_each_printed_once(folder: Path, database: Path):
    asked = (database, "images", "red", "orange", "-k", 3, "--paths")
    paths = search(*asked).stdout.splitlines()
    assert len(paths) == len(set(paths)) < 6
    assert str(folder / "red.jpg") == paths[0]
    assert search(*asked, "-0").stdout == "".join(f"{path}\0" for path in paths)


# --- Pictures on the disk --------------------------------------------------------------------------


def test_a_picture_on_the_disk_is_found_again(folder: Path, database: Path, tmp_path: Path):
    for colour in COLOURS:
        copy = shutil.copy(folder / f"{colour}.jpg", tmp_path / "copy.jpg")
        (row,) = rows_of(database, "images", "--image", copy, "-k", 1)
        assert row["path"] == f"{colour}.jpg"
        assert row["score"] == pytest.approx(1, abs=1e-3)


def test_a_picture_gets_the_vector_that_embedding_gives_it(
    database: Path, tmp_path: Path, embed: Callable[..., Path]
):
    """Also one that is large enough to be decoded smaller."""
    large = draw_picture(tmp_path / "large" / "large.jpg", "teal", (3000, 2000))
    embed(large.parent)
    (row,) = rows_of(database, "images", "--image", large, "-k", 1)
    assert row["path"] == "large.jpg"
    assert row["score"] == pytest.approx(1, abs=1e-5)


def test_pictures_without_words_are_a_query_each(database: Path, tmp_path: Path):
    lime, navy = (draw_picture(tmp_path / f"{name}.png", name) for name in ("lime", "navy"))
    rows = rows_of(database, "images", "--image", lime, "--image", navy, "-k", 1)
    assert [(row["query"], row["path"]) for row in rows] == [
        (str(lime), "green.jpg"),
        (str(navy), "blue.jpg"),
    ]


def test_pictures_are_added_to_the_words_of_each_query(
    folder: Path, database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    pictures = ("--image", "red.jpg", "--image", "blue.jpg")
    result = search(database, "images", *pictures, "--json", "--", "orange", "- red")
    rows = json.loads(result.stdout)
    for added, same in (("+ orange", "#6 + #2 + orange"), ("- red", "#6 + #2 - red")):
        found = [row for row in rows if row["query"] == f"red.jpg + blue.jpg {added}"]
        wanted = rows_of(database, "images", same)
        assert [row["id"] for row in found] == [row["id"] for row in wanted]
        assert [row["score"] for row in found] == pytest.approx(
            [row["score"] for row in wanted], abs=1e-3
        )


def test_what_is_no_picture_is_one_sentence(database: Path, tmp_path: Path):
    (tmp_path / "notes.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    for name, sentence in [
        ("notes.jpg", "cannot search with '{}': the file is not a picture of a known format"),
        ("empty.jpg", "cannot search with '{}': the file is empty"),
        ("", "cannot search with '{}': the file cannot be read: "),
        ("gone.jpg", "there is no file '{}' to search with"),
    ]:
        path = tmp_path / name
        result = command("search-images", database, "images", "red", "--image", path)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert sentence.format(path) in line


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("red.jpg", "#6"),
        ("./red.jpg", "#6"),
        ("./red.jpg - dark", "#6 - dark"),
        ("2:red.jpg + 0.5:./blue.jpg", "2:#6 + 0.5:#2"),
        ("red - {folder}/blue.jpg", "red - #2"),
        ("~/red.jpg + #2", "#6 + #2"),
        ("./a - b.jpg", "#6"),
        ('"red.jpg"', '"red.jpg"'),
        ('"./red.jpg"', '"./red.jpg"'),
    ],
)
def test_the_path_of_a_file_is_a_term(
    folder: Path, database: Path, monkeypatch: pytest.MonkeyPatch, typed: str, same: str
):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    shutil.copy("red.jpg", "a - b.jpg")
    found = rows_of(database, "images", typed.format(folder=folder))
    wanted = rows_of(database, "images", same)
    assert [row["id"] for row in found] == [row["id"] for row in wanted]
    assert [row["score"] for row in found] == pytest.approx(
        [row["score"] for row in wanted], abs=1e-3
    )


def test_words_are_words_if_there_is_no_such_file(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    # Neither what only looks like one, nor a file that has the name of a word.
    Path("red").touch()
    for words in ("red", "red.jpg", "red " * 240):
        assert rows_of(database, "images", words, "-k", 1)[0]["path"] == "red.jpg"
    for typed, sentence in (
        ("./red.jpg", "there is no file 'red.jpg' to search with"),
        ("./red - blue", "cannot search with 'red': the file is empty"),
        ("/gone/red.jpg + blue", "there is no file '/gone/red.jpg' to search with"),
    ):
        result = command("search-images", database, "images", typed)
        assert (result.exit_code, result.stdout) == (1, "")
        assert sentence in result.stderr


@pytest.mark.parametrize("query", ["./red.jpg", "./red.jpg - dark", "red.jpg"])
def test_sql_and_python_open_no_file_for_a_text(
    folder: Path, database: Path, monkeypatch: pytest.MonkeyPatch, query: str
):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(queries, "_picture_vector", lambda *_: pytest.fail("a file was opened"))
    with Images(database) as images:
        register_functions(images.conn)
        sql = "select image_similarity(1, ?)"
        (score,) = images.conn.execute(sql, [query]).fetchone()
        assert score == pytest.approx(images.similarity(1, query), abs=1e-3)


def test_a_query_that_begins_with_a_minus(database: Path):
    for words in ("-red", "- red"):
        result = command("search-images", database, "images", words, "-k", 1)
        assert result.exit_code == 2
        (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
        hint = f'Put a query that begins with - at the end, after --, as in: -- "{words}"'
        assert line == f"Error: No such option {words[:2]!r}. {hint}"
        assert command("search-images", database, "images", "-k", 1, "--", words).exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-kitchen", "Invalid value for '-k': 'itchen' is not a valid integer range"),
        ("-purple", "Option '-p' requires 2 arguments"),
        ("-0red", "No such option '-r'"),
        ("-2:red", "No such option '-2'"),
    ],
)
def test_a_minus_before_words_that_begin_as_an_option_does(
    database: Path, words: str, said: str
) -> None:
    result = command("search-images", database, "images", "blue", words)
    hint = f'Put a query that begins with - at the end, after --, as in: -- "{words}"'
    assert result.stderr.splitlines()[-1] == f"Error: {said}. {hint}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--explian"], "No such option '--explian'. (Did you mean"),
        (["--min-score", "-1", "-k", "x"], "Invalid value for '-k': 'x' is not a valid integer"),
        (["-k5", "--where"], "Option '--where' requires an argument."),
    ],
)
def test_a_mistake_in_an_option_is_no_query(database: Path, options: list[str], said: str) -> None:
    result = command("search-images", database, "images", "red", *options)
    assert said in result.stderr
    assert "Put a query" not in result.stderr


def test_something_has_to_be_searched_for(database: Path):
    result = command("search-images", database, "images")
    assert result.exit_code == 1
    assert "type a QUERY, or name a file with --image" in result.stderr


# --- Which, and how many ---------------------------------------------------------------------------


def test_an_offset_goes_on_where_the_first_page_ended(database: Path):
    whole = rows_of(database, "images", "red", "-k", 8)
    pages = [rows_of(database, "images", "red", "-k", 3, "--offset", at) for at in (0, 3, 6, 9)]
    assert [row["id"] for page in pages for row in page] == [row["id"] for row in whole]


def test_a_lowest_score(database: Path):
    whole = rows_of(database, "images", "red", "-k", 8)
    least = whole[2]["score"]
    assert rows_of(database, "images", "red", "-k", 8, "--min-score", least) == whole[:3]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--where", "id > 99"], "No image passes the filter"),
        (["--min-score", "0.999"], "No image has a score of 0.999 or more"),
        (["--offset", "20"], "No image comes after the first 20"),
        (
            ["--where", "id > 2", "--min-score", "0.999"],
            "No image passes the filter and has a score of 0.999 or more",
        ),
        (["blue", "--where", "id > 99"], "No image passes the filter for 'red'"),
    ],
)
def test_nothing_found_is_said_to_people_only(database: Path, arguments, sentence: str):
    result = search(database, "images", "red", *arguments)
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == sentence
    for output, nothing in [("--json", "[]\n"), ("--nl", ""), ("--paths", "")]:
        result = search(database, "images", "red", *arguments, output)
        assert (result.stdout, result.stderr) == (nothing, "")


def test_only_the_query_that_finds_nothing_says_so(database: Path):
    result = search(database, "images", "red", "#1", "--min-score", "0.99")
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == "No image has a score of 0.99 or more for 'red'\n"


# --- How -------------------------------------------------------------------------------------------


def test_the_plan_is_explained_beside_the_results(database: Path):
    result = search(database, "images", "red", "-k", 2, "--json", "--explain")
    assert len(json.loads(result.stdout)) == 2
    header, _, *lines = result.stderr.splitlines()
    assert header.split() == ["step", "looked", "at", "passed", "ms"]
    assert re.match(r"text +1 +1 +\d+\.\d\d$", lines[0])
    assert re.match(r"rank +8 +8 +\d+\.\d\d$", lines[1])
    assert re.match(r"score +\d +\d +\d+\.\d\d$", lines[2])


def test_the_plans_of_several_queries(database: Path):
    asked = ("red", "blue", "--where", "path like 'b%'", "--csv", "--explain")
    result = search(database, "images", *asked)
    assert len(list(csv.reader(io.StringIO(result.stdout)))) == 1 + 2 * 2
    assert {line.split()[0] for line in result.stderr.splitlines()[2:]} == {"red", "blue"}


def test_an_approximate_index_can_be_left_aside(database: Path):
    assert command("index-images", database, "images", "--type", "HNSW32_SQ8").exit_code == 0
    for options, step in [((), "propose"), (("--exact",), "rank")]:
        asked = ("red", "-k", 3, "--by", "likeness", "--explain", "--json")
        result = search(database, "images", *asked, *options)
        assert result.stderr.splitlines()[2].split()[0] == step
        assert json.loads(result.stdout)[0]["path"] == "red.jpg"


def test_the_documentation_explains_every_step(tmp_path: Path):
    """Of plans that together have all there are."""
    path = tmp_path / "photos.db"
    vectors = random_vectors(3000)
    with closing(sqlite_utils.Database(path, execute_plugins=False)) as db:
        add_images(db, vectors)
        # Unary plus keeps SQLite from the index; the nearest is number 2999, so what passes comes late.
        order = np.argsort(vectors @ vectors[0]).argsort()
        db["images"].add_column("nearness", int)
        db.conn.executemany(
            "update images set nearness = ? where id = ?",
            [(int(place), id) for id, place in enumerate(order, start=1)],
        )
        db.conn.commit()
        db["images"].create_index(["nearness"])
    assert command("index-images", path, "images", "--type", "HNSW32_SQ8").exit_code == 0
    steps = set()
    for options in (
        ("--where", "nearness < 50"),
        ("--where", "+nearness < 50"),
        ("--where", "+nearness < 2875"),
        (),
    ):
        lines = search(path, "images", "#1", "-k", 5, "--explain", *options).stderr.splitlines()
        # A line before the table says if no image is a match.
        (rule,) = (at for at, line in enumerate(lines) if line.startswith("---"))
        steps |= {line.split()[0] for line in lines[rule + 1 :]}
    assert steps == {"list", "rank", "propose", "widen", "enumerate", "score"}
    assert steps <= names_in_tables((PROJECT / "docs" / "tables.md").read_text(encoding="utf-8"))


# --- Whose -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", [int, str])
def test_a_table_of_a_persons_own(tmp_path: Path, folder: Path, key_type: type):
    path = tmp_path / "my.db"
    db = sqlite_utils.Database(path)
    files = [f"pictures/{colour}.jpg" for colour in COLOURS]
    rows = ({"key": key_type(10 + at), "file": file} for at, file in enumerate(files))
    db["mine"].insert_all(rows, pk="key")
    db.close()
    embed_images(path, "mine", "--path-column", "file", "--model", "palette")
    rows = rows_of(path, "mine", "red", "blue", "-k", 1)
    assert [row["path"] for row in rows] == ["pictures/red.jpg", "pictures/blue.jpg"]
    assert {type(row["id"]) for row in rows} == {key_type}
    paths = search(path, "mine", "--image", folder / "red.jpg", "-k", 1, "--paths").stdout
    assert paths == f"{folder / 'red.jpg'}\n"


def test_images_in_the_database_have_no_paths(tmp_path: Path, folder: Path):
    path = tmp_path / "my.db"
    assert command("insert-files", path, "mine", *folder.iterdir()).exit_code == 0
    embed_images(path, "mine", "--content-column", "content", "--model", "palette")
    rows = rows_of(path, "mine", "red", "blue", "--image", folder / "red.jpg", "-k", 1)
    columns = ["query", "score", "relevance", "id", "at", "matched"]
    assert [list(row) for row in rows] == [columns] * 2
    assert search(path, "mine", "red").stdout.splitlines()[0].split() == [
        "score",
        "relevance",
        "id",
    ]
    assert (
        search(path, "mine", "red", "--csv").stdout.splitlines()[0]
        == "score,relevance,id,at,matched"
    )
    result = command("search-images", path, "mine", "red", "--paths")
    assert result.exit_code == 1
    assert "the images of 'mine' are in the database, not in files" in result.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-0"], "-0 works only with --paths; add --paths"),
        (["--csv", "-0"], "-0 works only with --paths; add --paths"),
        (["--json", "--csv"], "choose one of --json and --csv"),
        (["--paths", "--json", "--nl"], "choose one of --json and --nl and --paths"),
        (["--where", ""], "--where is empty; give a condition, or no --where for all rows"),
        (["--where", "  "], "--where is empty; give a condition, or no --where for all rows"),
        (["-p", "name", "red"], "-p sets a :NAME in --where; add --where"),
    ],
)
@pytest.mark.parametrize("asked", [("search-images", "red"), ("find-duplicates",)])
def test_options_that_do_not_go_together_are_one_sentence(
    database: Path, asked: tuple[str, ...], options: list[str], sentence: str
):
    name, *queries = asked
    result = command(name, database, "images", *queries, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {sentence}\n"


def test_the_same_format_twice_is_that_format(database: Path):
    assert search(database, "images", "red", "--json", "--json").stdout.startswith("[")


def test_a_deleted_image_is_not_found(database: Path):
    change(database, "delete from images where path = 'red.jpg'")
    rows = rows_of(database, "images", "red", "orange", "-k", 8)
    assert len(rows) == 14
    assert "red.jpg" not in {row["path"] for row in rows}


@pytest.mark.skipif(not SHARED.exists(), reason="no real photos on this machine")
def test_a_photo_is_found_whichever_way_it_lies(tmp_path: Path):
    folder = SHARED / "orientation"
    database = tmp_path / "photos.db"
    embed_images(database, "images", folder, "--model", "palette")
    turned = sorted(folder.rglob("*ortrait_[2-8].jpg"))
    assert turned
    for photo in turned:
        best = rows_of(database, "images", "--image", photo, "-k", 1)[0]
        assert best["score"] > 0.999
