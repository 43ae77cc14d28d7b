"""`sqlite-utils tag-images` as people run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlite_utils
from click.testing import CliRunner, Result
from sqlite_utils.cli import cli

from datasette_image_search.search import tags

from .commands import change, command, embed_images, query
from .conftest import draw_picture

COLOURS = ("red", "green", "blue")

AS_IT_IS = ("--template", "{}")


def tag(*arguments: object) -> Result:
    result = command("tag-images", *arguments)
    assert result.exit_code == 0, result.output
    return result


def tags_of(database: Path, table: str = "images") -> dict[str, str]:
    sql = f"select path, tag from {table} join {table}_tags on image_id = id"
    return dict(query(database, sql))


def test_tags_and_a_count(database: Path):
    result = tag(database, "images", *COLOURS, *AS_IT_IS)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["tag", "images"]
    assert sum(int(images) for _, images in lines[2:-1]) == 8
    assert result.stdout.splitlines()[-1] == (
        "8 images tagged, 0 without a tag, of 3 labels, in the table images_tags"
    )
    found = tags_of(database)
    assert {colour: found[f"{colour}.jpg"] for colour in COLOURS} == {c: c for c in COLOURS}


def test_new_images_are_tagged_by_the_next_run_without_labels(database: Path, folder: Path):
    tag(database, "images", *COLOURS, "--threshold", "0.5", *AS_IT_IS)
    tag(database, "images", "dark", "bright")
    draw_picture(folder / "new.jpg", "blue")
    embed_images(database, "images", folder)
    counts = [line for line in tag(database, "images").stdout.splitlines() if "label" in line]
    assert [line.split(",")[0] for line in counts] == ["1 image tagged", "1 image tagged"]
    sql = "select tag from images_tags join images on id = image_id where path = 'new.jpg'"
    assert ("blue",) in query(database, sql)


def test_labels_from_a_file_and_from_standard_input(database: Path, tmp_path: Path):
    file = tmp_path / "labels.txt"
    file.write_text("\ufeffred\r\n\n green \n", encoding="utf-8")
    result = tag(database, "images", "blue", "--labels-file", file, *AS_IT_IS)
    assert "of 3 labels" in result.stdout
    assert set(tags_of(database).values()) == {*COLOURS}
    line = ["tag-images", str(database), "images", "--labels-file", "-", *AS_IT_IS]
    result = CliRunner().invoke(cli, line, input="green\nblue\nred\n")
    assert result.stdout.endswith(
        "0 images tagged, 0 without a tag, of 3 labels, in the table images_tags\n"
    )


def test_a_part_of_the_images(database: Path):
    where = ("--where", "filename like :name", "-p", "name", "b%")
    assert "2 images tagged" in tag(database, "images", *COLOURS, *where).stdout
    assert "6 images tagged" in tag(database, "images", *COLOURS).stdout


def test_in_place_of_other_labels(database: Path):
    tag(database, "images", *COLOURS)
    tag(database, "images", "dark", "bright", "--replace", "--top", "2")
    assert query(database, "select tag, count(*) from images_tags group by tag") == [
        ("bright", 8),
        ("dark", 8),
    ]
    sql = "select labels, templates, top, threshold from image_search_label_sets"
    assert query(database, sql) == [('["dark", "bright"]', '["a photo of a {}"]', 2, None)]


def test_the_same_labels_with_another_template_replace_the_old_ones(database: Path):
    tag(database, "images", *COLOURS)
    tag(database, "images", "dark", "bright")
    result = tag(database, "images", *reversed(COLOURS), *AS_IT_IS)
    assert result.stdout.startswith("Dropped the tags of red, green, blue as 'a photo of a {}'\n")
    sql = "select labels, templates from image_search_label_sets"
    assert query(database, sql) == [
        ('["dark", "bright"]', '["a photo of a {}"]'),
        ('["blue", "green", "red"]', '["{}"]'),
    ]
    sql = "select tag in ('dark', 'bright'), count(*) from images_tags group by 1"
    assert query(database, sql) == [(0, 8), (1, 8)]


def test_what_was_dropped_is_said(database: Path):
    tag(database, "images", *COLOURS, "--template", "{} here", "--template", "{} there")
    for replacing, said in [
        ((*COLOURS, *AS_IT_IS), "red, green, blue as '{} here', '{} there'"),
        (("dark", "bright", "--replace"), "red, green, blue as '{}'"),
    ]:
        first, *_ = tag(database, "images", *replacing).stdout.splitlines()
        assert first == f"Dropped the tags of {said}"
    assert "Dropped" not in tag(database, "images", "dark", "bright", "--top", "2").stdout


def test_without_a_template_labels_keep_theirs(database: Path):
    tag(database, "images", *COLOURS, *AS_IT_IS)
    before = tags_of(database)
    result = tag(database, "images", *COLOURS)
    assert "Dropped" not in result.stdout
    assert "0 images tagged" in result.stdout
    assert tags_of(database) == before
    assert query(database, "select templates from image_search_label_sets") == [('["{}"]',)]


def test_a_run_without_labels_says_which_it_counts(database: Path):
    tag(database, "images", *COLOURS, *AS_IT_IS)
    tag(database, "images", "dark", "bright", "red", "lime", "navy", "blue", "teal")
    lines = tag(database, "images").stdout.splitlines()
    assert [line for line in lines if line.endswith(":")] == [
        "red, green, blue as '{}':",
        "dark, bright, red, lime, navy and 2 more as 'a photo of a {}':",
    ]


def test_a_long_list_of_tags_is_cut_short(tmp_path: Path, embed):
    for hue in range(0, 360, 12):
        draw_picture(tmp_path / "hues" / f"{hue:03}.png", f"hsl({hue}, 100%, 50%)")
    database = embed(tmp_path / "hues")
    labels = [f"{light}{name}" for light in ("", "light ", "dark ", "pale ", "vivid ", "bright ")
              for name in ("red", "orange", "yellow", "green", "blue", "purple", "pink")]  # fmt: skip
    result = tag(database, "images", *labels, "--top", "5", *AS_IT_IS)
    assert "... and " in result.stdout
    assert len(result.stdout.splitlines()) == 2 + 20 + 1 + 1


def test_a_table_of_a_persons_own_with_text_keys(tmp_path: Path, folder: Path):
    path = tmp_path / "my.db"
    db = sqlite_utils.Database(path)
    rows = ({"key": f"the {file.stem}", "file": str(file)} for file in folder.iterdir())
    db["pictures"].insert_all(rows, pk="key")
    db.close()
    embed_images(path, "pictures", "--path-column", "file", "--model", "palette")
    tag(path, "pictures", *COLOURS, *AS_IT_IS)
    found = dict(query(path, "select image_id, tag from pictures_tags"))
    assert found["the blue"] == "blue"
    change(path, "delete from pictures where key = 'the blue'")
    assert "the blue" not in dict(query(path, "select image_id, tag from pictures_tags"))
    draw_picture(folder / "red.jpg", "green", size=(120, 90))
    embed_images(path, "pictures")
    assert "1 image tagged" in tag(path, "pictures").stdout
    assert dict(query(path, "select image_id, tag from pictures_tags"))["the red"] == "green"


def test_words_that_are_understood_in_part_are_a_warning(database: Path):
    result = tag(database, "images", "red car", "blue sea", *AS_IT_IS)
    assert len(result.stderr.splitlines()) == 2
    assert "car" in result.stderr.splitlines()[0]
    assert result.stderr.startswith("Warning: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there are no labels; name two or more, such as: cat dog"),
        (["--top", "2"], "there are no labels; name two or more"),
        (["cat"], "'cat' is the only label"),
        (["red", "red"], "the label 'red' comes 2 times"),
        (["red", ""], "one of the labels is empty"),
        (["cat", "dog"], "palette does not know 'cat'"),
        (["red", "blue", "--template", "colour"], "the template 'colour' has no place for the"),
        (
            ["red", "blue", "--threshold", "30"],
            "the threshold is 30; it must be above 0 and at most 1",
        ),
        (["red", "blue", "--model", "timm/other"], "'images' is not embedded with timm/other"),
        (["red", "blue", "--where", "nothing = 1"], "the filter 'nothing = 1' does not work"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_1(database: Path, arguments, sentence: str):
    result = command("tag-images", database, "images", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert sentence in line


def test_labels_that_are_not_utf_8(database: Path, tmp_path: Path):
    (tmp_path / "labels.txt").write_bytes(b"caf\xe9\nbar\n")
    result = command("tag-images", database, "images", "--labels-file", tmp_path / "labels.txt")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "are not UTF-8" in result.stderr


def test_a_model_without_words_names_one_that_has_them(database: Path, monkeypatch):
    from datasette_image_search.embedders.palette import PaletteEmbedder
    from datasette_image_search.embedders.protocol import Embedder

    monkeypatch.setattr(PaletteEmbedder, "encode_texts", Embedder.encode_texts)
    tags.label_vectors.cache_clear()
    result = command("tag-images", database, "images", "red", "blue")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "sees pictures only" in line
    assert "embed with a model that reads words, such as palette" in line


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path):
    result = command("tag-images", tmp_path / "no.db", "images", "red", "blue")
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])


def test_ctrl_c_keeps_what_is_committed(database: Path, monkeypatch: pytest.MonkeyPatch):
    softmax = tags._softmax
    batches = 0

    def interrupt(logits: np.ndarray) -> np.ndarray:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise KeyboardInterrupt
        return softmax(logits)

    with monkeypatch.context() as patch:
        patch.setattr(tags, "IMAGES", 3)
        patch.setattr(tags, "_softmax", interrupt)
        result = command("tag-images", database, "images", *COLOURS)
    assert (result.exit_code, result.stdout) == (
        130,
        "Interrupted: 6 images tagged, 0 without a tag, of 3 labels\n",
    )
    assert query(database, "select count(*) from images_tags") == [(6,)]
    assert "2 images tagged" in tag(database, "images", *COLOURS).stdout
