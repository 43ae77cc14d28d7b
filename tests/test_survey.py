"""What a run decides before it does anything."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlite_utils

from datasette_image_search.embedders.model_ids import DEFAULT_MODEL
from datasette_image_search.embedders.protocol import UnknownModel
from datasette_image_search.ingest.model_choice import ModelChoice, RunError
from datasette_image_search.ingest.pipeline import embed_images, plan_images
from datasette_image_search.ingest.report import Summary
from datasette_image_search.ingest.scopes import ScanError
from datasette_image_search.ingest.survey import EmbedRequest, Survey, take_survey
from datasette_image_search.store import StoreError

from .commands import change, query, touch_later, vectors_of
from .conftest import draw_picture

Run = Callable[..., Summary]


@pytest.fixture
def request_of(database: Path, folder: Path) -> Callable[..., EmbedRequest]:
    """request_of(...) is a request to embed `folder` into `database`, which has it already."""
    return lambda **changes: replace(EmbedRequest(database, "images", [folder]), **changes)


@pytest.fixture
def survey(request_of: Callable[..., EmbedRequest]) -> Callable[..., Survey]:
    return lambda **changes: take_survey(request_of(**changes))


@pytest.fixture
def run(request_of: Callable[..., EmbedRequest]) -> Run:
    return lambda **changes: embed_images(request_of(**changes))


def names_of(survey: Survey) -> list[str]:
    return [image.path for image in survey.to_embed]


def gone_of(survey: Survey) -> list[str]:
    return sorted(path for _, path in survey.gone)


def sides_of(database: Path) -> tuple[int, int, int]:
    """How many rows, vectors and thumbnails there are."""
    tables = ("images", "_images_vectors", "_images_thumbnails")
    return tuple(query(database, f"select count(*) from {table}")[0][0] for table in tables)


# --- The model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [None, "palette", "ViT-B-32/openai"])
def test_a_new_table_gets_the_model_that_is_named_or_the_default(
    tmp_path: Path, folder: Path, model: str | None
):
    survey = take_survey(EmbedRequest(tmp_path / "new.db", "images", [folder], model=model))
    assert survey.choice == ModelChoice(model or DEFAULT_MODEL)
    assert len(survey.to_embed) == 8


@pytest.mark.parametrize("model", [None, "palette"])
def test_a_table_keeps_its_model(survey, model: str | None):
    found = survey(model=model)
    assert (found.model, found.index.model) == ("palette", "palette")
    assert not found.choice.is_replacement
    assert (names_of(found), found.unchanged) == ([], 8)


def test_another_model_is_a_choice_between_three(survey):
    with pytest.raises(RunError) as refused:
        survey(model="ViT-B-32/openai")
    sentence = str(refused.value)
    assert "'images' is embedded with palette, not ViT-B-32/openai" in sentence
    for choice in ("--model palette", "--add-model", "--replace-model"):
        assert choice in sentence


@pytest.mark.parametrize("anyway", ["", "add_model", "replace_model"])
@pytest.mark.parametrize(
    ("model", "meant"), [("palete", "palette"), ("rn50/openia", "RN50/openai")]
)
def test_a_model_that_there_is_not_is_no_reason_to_replace_another(
    survey, model: str, meant: str, anyway: str
):
    with pytest.raises(UnknownModel) as refused:
        survey(model=model, **({anyway: True} if anyway else {}))
    assert str(refused.value).startswith(f"there is no model {model!r}; did you mean {meant!r}?")
    assert "--replace-model" not in str(refused.value)


def test_a_model_that_is_added_embeds_every_image_beside_the_index_there_is(survey):
    found = survey(model="ViT-B-32/openai", add_model=True)
    assert found.choice == ModelChoice("ViT-B-32/openai")
    assert [image.image_id for image in found.to_embed] == list(range(1, 9))


@pytest.mark.parametrize(
    ("model", "named"), [("ViT-B-32/openai", "ViT-B-32/openai"), (None, "palette")]
)
def test_a_model_that_replaces_embeds_every_image_instead(survey, model, named: str):
    found = survey(model=model, replace_model=True)
    assert (found.model, found.index) == (named, None)
    assert [index.model for index in found.choice.replaced] == ["palette"]
    assert (found.replacement.models, found.replacement.left_out) == (("palette",), 0)
    assert [image.image_id for image in found.to_embed] == list(range(1, 9))


# --- Rows without a vector -----------------------------------------------------------------------


@pytest.mark.parametrize("has_triggers", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        "delete from _images_vectors where image_id = 6",
        "update images set sha256 = 'of other bytes' where id = 6",
    ],
    ids=["vector deleted", "sha256 changed"],
)
def test_a_row_without_a_vector_gets_one_again(
    run: Run, database: Path, survey, damage: str, has_triggers: bool
):
    before = vectors_of(database)
    if not has_triggers:
        sqlite_utils.Database(database, execute_plugins=False)["images"].transform()
    change(database, damage)

    assert names_of(survey()) == ["red.jpg"]
    summary = run()

    assert (summary.embedded, summary.unchanged) == (1, 7)
    assert vectors_of(database).keys() == before.keys()
    assert None not in vectors_of(database).values()
    assert query(database, "select id from images where path = 'red.jpg'") == [(6,)]
    assert query(
        database,
        "select count(*) from images join _images_vectors as v on v.image_id = images.id "
        "and v.sha256 = images.sha256",
    ) == [(8,)]
    assert run().unchanged == 8


def test_a_row_that_another_tool_replaced_gets_a_vector_again(run: Run, database: Path):
    table = sqlite_utils.Database(database, execute_plugins=False)["images"]
    table.insert(table.get(6), replace=True)
    assert sides_of(database) == (8, 7, 7)
    assert run().embedded == 1
    assert sides_of(database) == (8, 8, 8)


def test_a_table_that_was_renamed_is_embedded_again_in_its_rows(run: Run, database: Path):
    rows = query(database, "select * from images")
    change(database, "alter table images rename to photos")

    with pytest.raises(StoreError, match="renamed to 'photos'"):
        run(table="photos", model="palette")
    summary = run(table="photos", model="palette", replace_model=True)

    assert (summary.embedded, summary.unchanged) == (8, 0)
    assert query(database, "select * from photos") == rows
    assert None not in vectors_of(database, "photos").values()
    assert run(table="photos").unchanged == 8


def test_a_row_that_was_deleted_comes_back_with_another_id(run: Run, database: Path):
    change(database, "delete from images where path = 'blue.jpg'")
    assert (run().embedded, sides_of(database)) == (1, (8, 8, 8))


# --- Gone ----------------------------------------------------------------------------------------


def test_files_that_are_gone_are_counted_and_kept(run: Run, survey, database: Path, folder: Path):
    (folder / "red.jpg").unlink()
    assert gone_of(survey()) == ["red.jpg"]
    for _ in range(2):
        summary = run()
        assert (summary.gone, summary.pruned, summary.unchanged) == (1, False, 7)
        assert sides_of(database) == (8, 8, 8)


def test_files_that_are_gone_are_removed_where_that_is_asked_for(
    run: Run, database: Path, folder: Path
):
    (folder / "red.jpg").unlink()
    (folder / "blue.jpg").unlink()

    summary = run(prune=True)

    assert (summary.gone, summary.pruned, summary.unchanged) == (2, True, 6)
    assert sides_of(database) == (6, 6, 6)
    assert {"red.jpg", "blue.jpg"}.isdisjoint(vectors_of(database))
    assert run(prune=True).gone == 0


def test_failures_of_files_that_are_gone_are_removed_with_them(
    run: Run, database: Path, folder: Path
):
    failures = "select path from _images_failures order by path"
    for name in ("bad.jpg", "red.jpg", "worse.jpg"):
        (folder / name).write_bytes(b"no picture")
        touch_later(folder / name)
    run()
    (folder / "bad.jpg").unlink()
    (folder / "red.jpg").unlink()

    kept = run()
    assert (kept.gone, kept.failed_before) == (1, 1)
    assert query(database, failures) == [("bad.jpg",), ("red.jpg",), ("worse.jpg",)]
    pruned = run(prune=True)
    assert (pruned.gone, pruned.failed_before) == (1, 1)
    assert query(database, failures) == [("worse.jpg",)]
    assert sides_of(database) == (7, 7, 7)


def test_a_file_that_comes_back_is_unchanged(run: Run, folder: Path, tmp_path: Path):
    (folder / "red.jpg").rename(tmp_path / "red.jpg")
    assert run().gone == 1
    (tmp_path / "red.jpg").rename(folder / "red.jpg")
    assert (run().gone, run().unchanged) == (0, 8)


@pytest.mark.parametrize("is_there", [True, False], ids=["emptied", "missing"])
def test_a_drive_that_is_not_mounted_changes_nothing(
    run: Run, database: Path, folder: Path, tmp_path: Path, is_there: bool
):
    draw_picture(tmp_path / "other" / "pink.jpg", "pink")
    before = database.read_bytes()
    shutil.move(folder, tmp_path / "unmounted")
    if is_there:
        folder.mkdir()
    for paths in ([folder], [tmp_path / "other", folder]):
        with pytest.raises(ScanError, match=f"{folder}.* mount it"):
            run(paths=paths, prune=True)
    assert database.read_bytes() == before


@pytest.mark.parametrize("is_there", [True, False], ids=["emptied", "missing"])
def test_a_drive_below_a_folder_that_is_given_prunes_nothing_either(
    run: Run, database: Path, folder: Path, tmp_path: Path, is_there: bool
):
    draw_picture(tmp_path / "top.jpg", "pink")
    assert run(paths=[tmp_path]).embedded == 1
    before = database.read_bytes()
    shutil.rmtree(folder)
    if is_there:
        folder.mkdir()
    with pytest.raises(ScanError, match=f"{folder}.* the table has 8 of them; .* mount it"):
        run(paths=[tmp_path], prune=True)
    assert database.read_bytes() == before


# --- Less than everything ------------------------------------------------------------------------


def test_no_more_than_the_limit_is_embedded_in_a_run(tmp_path: Path, folder: Path):
    request = EmbedRequest(tmp_path / "new.db", "images", [folder], model="palette", limit=3)
    runs = [embed_images(request) for _ in range(4)]
    assert [(run.embedded, run.unchanged) for run in runs] == [(3, 0), (3, 3), (2, 6), (0, 8)]


def test_the_limit_counts_what_is_embedded_and_not_what_is_moved(survey, folder: Path):
    draw_picture(folder / "pink.jpg", "pink")
    draw_picture(folder / "brown.jpg", "brown")
    shutil.copy(folder / "red.jpg", folder / "copy.jpg")
    found = survey(limit=1)
    assert (names_of(found), len(found.reused)) == (["brown.jpg"], 1)


def test_a_plan_counts_what_the_run_then_does_and_writes_nothing(
    request_of, database: Path, folder: Path
):
    draw_picture(folder / "new.jpg", "pink")
    (folder / "bad.jpg").write_bytes(b"bad")
    (folder / "red.jpg").rename(folder / "moved.jpg")
    shutil.copy(folder / "blue.jpg", folder / "copy.jpg")
    (folder / "black.jpg").unlink()
    request = request_of(prune=True)
    before = database.read_bytes()

    plan = plan_images(request)
    assert database.read_bytes() == before
    run = embed_images(request)

    names = ("reused", "moved", "unchanged", "gone", "failed_before")
    assert {name: getattr(plan, name) for name in names} == {
        "reused": 1,
        "moved": 1,
        "unchanged": 6,
        "gone": 1,
        "failed_before": 0,
    }
    assert {name: getattr(run, name) for name in names} == {n: getattr(plan, n) for n in names}
    assert plan.embedded == run.embedded + len(run.failures) == 2


def test_a_plan_for_a_new_database_makes_no_file(tmp_path: Path, folder: Path):
    new = tmp_path / "new" / "photos.db"
    new.parent.mkdir()
    assert plan_images(EmbedRequest(new, "images", [folder])).embedded == 8
    assert list(new.parent.iterdir()) == []


# --- Refused -------------------------------------------------------------------------------------


def test_a_run_without_anything_to_embed_says_what_to_name(survey):
    with pytest.raises(StoreError, match="'images' was made from folders; name the folders"):
        survey(paths=(), path_column="path")
    with pytest.raises(RunError, match=r"name the folders to embed, or .* --path-column"):
        survey(paths=())


def test_a_table_that_is_not_there_has_no_images_of_its_own(survey):
    with pytest.raises(StoreError, match="there is no table 'nothing' in this database"):
        survey(table="nothing", paths=(), path_column="path")


def test_the_collector_of_garbage_is_as_before_whatever_comes_of_a_survey(survey):
    assert gc.isenabled()
    survey()
    with pytest.raises(RunError):
        survey(model="palette", replace_model=True, limit=1)
    assert gc.isenabled()
    gc.disable()
    try:
        survey()
        assert not gc.isenabled()
    finally:
        gc.enable()
