"""An index that is made in place of others: they are searched until it is whole, whatever happens."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils
from datasette.app import Datasette
from PIL import Image

from datasette_image_search import store
from datasette_image_search.embedders import registry
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.embedders.protocol import Embedder, ModelRequest
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.ingest import pipeline
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images, plan_images
from datasette_image_search.ingest.report import Progress, Summary
from datasette_image_search.search.status import status
from datasette_image_search.store import replacements
from datasette_image_search.store.tags import ensure_label_set
from datasette_image_search.store.vectors import count_vectors

from .commands import change, command, query, touch_later
from .conftest import COLOURS, draw_picture, query_json

Run = Callable[..., Summary]

REPLACE = {"model": "mean", "replace_model": True}


class Mean(Embedder):
    """The mean colour of a picture. Its weights are whatever is in their file."""

    id = "mean"
    image_size = 8
    dimensions = 4
    device = "cpu"
    precision = "float32"
    seen = 0
    """Pictures that were encoded by all of them, since a test set it to 0."""

    def __init__(self, request: ModelRequest):
        weights = request.weights.read_text() if request.weights else "1"
        self.fingerprint = f"mean-{weights}"
        self.factor = float(weights)

    def preprocess(self, picture: Image.Image) -> np.ndarray:
        mean = np.asarray(picture, dtype=np.float32).mean(axis=(0, 1))
        return np.append(mean + 1, self.factor).astype(np.float32)

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        Mean.seen += len(inputs)
        return inputs / np.linalg.norm(inputs, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def mean(monkeypatch: pytest.MonkeyPatch) -> type[Mean]:
    """A second model, as a plugin would register it; it has encoded nothing yet."""
    factories = {"palette": lambda request: PaletteEmbedder(), "mean": Mean}
    monkeypatch.setattr(registry, "_factories", lambda: factories)
    monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.setattr(pipeline, "check_embedder", lambda embedder: None)
    monkeypatch.setattr(Mean, "seen", 0)
    return Mean


@pytest.fixture
def run(database: Path, folder: Path) -> Run:
    """run() embeds `folder` into `database`, which has it by palette already."""

    def run(
        *paths: Path, on_progress=lambda progress: None, plan_only: bool = False, **changes
    ) -> Summary:
        request = EmbedRequest(database, "images", paths or (folder,), batch_size=2)
        request = replace(request, **changes)
        return plan_images(request) if plan_only else embed_images(request, on_progress)

    return run


def vectors_by(database: Path, model: str) -> dict[str, bytes]:
    """Path -> vector, of the index by a model that is searched."""
    sql = """
        select path, vector from _images_vectors as side
        join images on images.id = image_id join image_search_indexes as i on i.id = index_id
        where model = ? and not unfinished
    """
    return dict(query(database, sql, [model]))


def half_made(database: Path) -> dict[str, int]:
    """Model -> vectors of the unfinished index, if there is one."""
    sql = """
        select model, (select count(*) from _images_vectors where index_id = i.id)
        from image_search_indexes as i where unfinished
    """
    return dict(query(database, sql))


def searched_with(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as conn:
        return [index.model for index in store.read_indexes(conn, "images")]


def interrupt_after(images: int) -> Callable[[Progress], None]:
    """Ctrl-C when so many images are embedded."""

    def show(progress: Progress) -> None:
        if progress.done >= images:
            raise KeyboardInterrupt

    return show


# --- Beside the old one, and in its place --------------------------------------------------------


def test_the_old_index_is_searched_until_the_new_one_is_whole(run: Run, database: Path):
    before = vectors_by(database, "palette")
    looked = []

    def look(progress: Progress) -> None:
        with closing(sqlite3.connect(database)) as conn:
            found = store.find_index(conn)
            told = status(conn)
            looked.append((found.model, count_vectors(conn, found), told["vectors"]))
            if progress.done:
                assert "an index by mean is unfinished" in told["problem"]
        assert vectors_by(database, "palette") == before

    summary = run(**REPLACE, on_progress=look)

    assert looked == [("palette", 8, 8)] * 5
    assert summary.replacement.is_in_use
    assert (searched_with(database), half_made(database)) == (["mean"], {})
    assert len(vectors_by(database, "mean")) == 8
    assert query(database, "select count(*) from _images_vectors") == [(8,)]
    with closing(sqlite3.connect(database)) as conn:
        assert "unfinished" not in status(conn)["problem"]


def test_an_interrupted_run_is_gone_on_with_and_nothing_is_embedded_twice(
    run: Run, database: Path, mean: type[Mean]
):
    before = vectors_by(database, "palette")
    stopped = run(**REPLACE, on_progress=interrupt_after(4))
    assert (stopped.interrupted, stopped.embedded, stopped.replacement.is_in_use) == (
        True,
        4,
        False,
    )
    assert vectors_by(database, "palette") == before
    assert half_made(database) == {"mean": 4}

    # Without --model, it is that of the unfinished one.
    summary = run(replace_model=True)
    assert (summary.model, summary.embedded, summary.unchanged) == ("mean", 4, 4)
    # At most the batch is made again that was in the making.
    assert 8 <= mean.seen <= 10
    assert (searched_with(database), len(vectors_by(database, "mean"))) == (["mean"], 8)


def test_ctrl_c_in_the_middle_of_the_swap_changes_nothing(
    run: Run, database: Path, monkeypatch: pytest.MonkeyPatch, mean: type[Mean]
):
    before = vectors_by(database, "palette")
    take_over = replacements.take_over

    def take_over_and_stop(*arguments) -> None:
        take_over(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "take_over", take_over_and_stop)
        assert run(**REPLACE).interrupted
    assert vectors_by(database, "palette") == before
    assert half_made(database) == {"mean": 8}

    # Nothing is left to embed, so no model is loaded either.
    assert run(replace_model=True).device is None
    assert (searched_with(database), mean.seen) == (["mean"], 8)


def test_the_same_model_is_made_anew_beside_itself(run: Run, database: Path):
    before = vectors_by(database, "palette")
    assert run(replace_model=True, on_progress=interrupt_after(2)).interrupted
    assert (vectors_by(database, "palette"), half_made(database)) == (before, {"palette": 2})
    run(replace_model=True)
    assert (searched_with(database), half_made(database)) == (["palette"], {})
    assert vectors_by(database, "palette").keys() == before.keys()
    assert query(database, "select count(*) from _images_vectors") == [(8,)]


def test_what_hangs_on_the_old_index_goes_with_it_and_not_before(run: Run, database: Path):
    assert command("tag-images", database, "images", "red", "blue", "green").exit_code == 0
    assert command("index-images", database, "images", "--type", "HNSW32_SQ8").exit_code == 0
    run(**REPLACE, on_progress=interrupt_after(6))
    assert query(database, "select count(*) from images_tags") == [(8,)]
    planned = run(replace_model=True, plan_only=True)
    assert planned.replacement is not None
    assert planned.replacement.tags == 8
    run(replace_model=True)
    assert query(database, "select count(*) from images_tags") == [(0,)]
    assert query(database, "select count(*) from image_search_label_sets") == [(0,)]
    # What a person chose for the collection stays.
    assert query(database, "select model, index_type from image_search_indexes") == [
        ("mean", "HNSW32_SQ8")
    ]


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_a_server_that_is_running_answers_from_one_and_then_from_the_other(
    run: Run, database: Path
):
    datasette = Datasette([str(database)])

    async def found() -> list[int]:
        (row,) = await query_json(datasette, "select image_search('#6', 8) as hits")
        return [hit["id"] for hit in json.loads(row["hits"])]

    by_palette = await found()
    run(**REPLACE, on_progress=interrupt_after(4))
    assert await found() == by_palette
    run(replace_model=True)
    by_mean = await found()
    assert sorted(by_mean) == sorted(by_palette)
    assert await found() == by_mean
    page = await datasette.client.get("/-/image-search/photos/images?q=%236")
    assert page.status_code == 200


# --- What changes in between ---------------------------------------------------------------------


def test_a_plain_run_keeps_the_old_index_up_to_date_and_the_new_one_as_it_is(
    run: Run, database: Path, folder: Path
):
    run(**REPLACE, on_progress=interrupt_after(4))
    draw_picture(folder / "pink.jpg", "pink")
    summary = run()
    assert (summary.model, summary.embedded, summary.unfinished) == ("palette", 1, ("mean", 4))
    assert len(vectors_by(database, "palette")) == 9
    assert half_made(database) == {"mean": 4}
    assert run(replace_model=True).embedded == 5
    assert len(vectors_by(database, "mean")) == 9


def test_a_picture_that_changed_in_between_is_embedded_again(
    run: Run, database: Path, folder: Path
):
    run(**REPLACE, on_progress=interrupt_after(4))
    draw_picture(folder / "black.jpg", "pink", (90, 60))
    touch_later(folder / "black.jpg")
    assert run(replace_model=True).embedded == 5
    assert len(vectors_by(database, "mean")) == 8


def test_another_model_begins_anew_and_says_what_it_drops(run: Run, database: Path):
    run(**REPLACE, on_progress=interrupt_after(4))
    summary = run(model="palette", replace_model=True, on_progress=interrupt_after(2))
    assert summary.given_up == "mean"
    assert half_made(database) == {"palette": 2}


def test_other_weights_begin_anew(run: Run, database: Path, tmp_path: Path, mean: type[Mean]):
    (tmp_path / "weights").write_text("50")
    run(**REPLACE, on_progress=interrupt_after(4))
    # With those that were made ahead of the last commit.
    seen_before = mean.seen
    summary = run(**REPLACE, weights=tmp_path / "weights")
    assert (summary.embedded, summary.given_up, mean.seen - seen_before) == (8, "mean", 8)
    assert query(database, "select fingerprint from image_search_indexes") == [("mean-50",)]


def test_what_was_begun_can_be_given_up(run: Run, database: Path):
    before = vectors_by(database, "palette")
    run(**REPLACE, on_progress=interrupt_after(4))
    assert run(keep_model=True).given_up == "mean"
    assert (half_made(database), vectors_by(database, "palette")) == ({}, before)
    assert query(database, "select count(*) from _images_vectors") == [(8,)]


def test_the_unfinished_model_is_no_model_of_the_table_yet(run: Run):
    run(**REPLACE, on_progress=interrupt_after(4))
    for options in ({}, {"add_model": True}):
        with pytest.raises(ImageSearchError, match="by mean is unfinished: finish it with"):
            run(model="mean", **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"replace_model": True, "limit": 5}, "leave --limit out"),
        ({"drop_missing": True}, "--drop-missing works only with --replace-model"),
        ({"keep_model": True}, "'images' has none; run it without"),
        ({"keep_model": True, "replace_model": True}, "choose one"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    run: Run, database: Path, options: dict, sentence: str
):
    before = database.read_bytes()
    with pytest.raises(ImageSearchError, match=sentence):
        run(**options)
    assert database.read_bytes() == before


# --- What cannot be embedded now -----------------------------------------------------------------


def _gone(folder: Path) -> Callable[[], None]:
    (folder / "red.jpg").rename(folder.parent / "away")
    return lambda: (folder.parent / "away").rename(folder / "red.jpg") and None


def _damaged(folder: Path) -> Callable[[], None]:
    good = (folder / "red.jpg").read_bytes()
    (folder / "red.jpg").write_bytes(b"no picture")

    def mend() -> None:
        (folder / "red.jpg").write_bytes(good)
        touch_later(folder / "red.jpg", 20)

    return mend


@pytest.mark.parametrize("trouble", [_gone, _damaged])
def test_an_image_that_cannot_be_embedded_keeps_its_vector(
    run: Run, database: Path, folder: Path, trouble, mean: type[Mean]
):
    before = vectors_by(database, "palette")
    mend = trouble(folder)

    now = run(**REPLACE).replacement
    assert (now.is_in_use, now.left_out, now.example) == (False, 1, "red.jpg")
    assert vectors_by(database, "palette") == before
    assert half_made(database) == {"mean": 7}

    mend()
    assert run(replace_model=True).replacement.is_in_use
    assert len(vectors_by(database, "mean")) == mean.seen == 8


def test_images_can_be_done_without(run: Run, database: Path, folder: Path):
    _gone(folder)
    summary = run(**REPLACE, drop_missing=True)
    assert (summary.replacement.is_in_use, summary.replacement.left_out) == (True, 1)
    assert len(vectors_by(database, "mean")) == 7
    assert query(database, "select count(*) from images") == [(8,)]


def test_rows_that_are_pruned_lose_nothing(run: Run, database: Path, folder: Path):
    _gone(folder)
    summary = run(**REPLACE, prune=True)
    assert (summary.replacement.is_in_use, summary.replacement.left_out) == (True, 0)
    assert query(database, "select count(*) from images") == [(7,)]


def test_a_folder_may_come_later(run: Run, database: Path, folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    draw_picture(other / "a.jpg", "red")
    run(folder, other)
    # Two drives, and room for one of them at a time.
    now = run(folder, **REPLACE).replacement
    assert (now.is_in_use, now.left_out, now.example) == (False, 1, "a.jpg")
    assert run(other, replace_model=True).replacement.is_in_use
    assert len(vectors_by(database, "mean")) == 9


def test_a_moved_file_keeps_its_row_and_its_old_vector(run: Run, database: Path, folder: Path):
    ids = dict(query(database, "select filename, id from images"))
    (folder / "sub").mkdir()
    (folder / "red.jpg").rename(folder / "sub" / "red.jpg")
    run(**REPLACE, on_progress=interrupt_after(8))
    assert dict(query(database, "select filename, id from images")) == ids
    assert "sub/red.jpg" in vectors_by(database, "palette")
    assert run(replace_model=True).replacement.is_in_use


def test_imported_vectors_stay_until_all_their_pictures_are_embedded(tmp_path: Path, folder: Path):
    database = tmp_path / "imported.db"
    names = [f"{colour}.jpg" for colour in COLOURS]
    (tmp_path / "paths.txt").write_text("\n".join([*names, "nowhere.jpg"]))
    vectors = np.eye(9, dtype=np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    imported = command(
        *("import-image-vectors", database, "images", tmp_path / "vectors.npy"),
        *("--paths", tmp_path / "paths.txt", "--root", folder, "--model", "somebody/else"),
    )
    assert imported.exit_code == 0
    before = vectors_by(database, "somebody/else")
    assert len(before) == 9
    assert command("tag-images", database, "images", "red", "blue").exit_code == 1
    with closing(sqlite_utils.Database(database, execute_plugins=False)) as db:
        index = store.find_index(db.conn)
        ensure_label_set(db, index, ["a", "b"], ["{}"], top=1, threshold=None)
    change(database, "insert into images_tags (image_id, tag) select id, 'ours' from images")

    request = EmbedRequest(database, "images", [folder], **REPLACE)
    assert embed_images(request).replacement.left_out == 1
    assert vectors_by(database, "somebody/else") == before
    # So do tags that a person gave them.
    assert query(database, "select count(*) from images_tags where tag = 'ours'") == [(9,)]


def test_the_old_index_of_ones_own_table_is_of_its_own_column(folder: Path, tmp_path: Path):
    database = tmp_path / "own.db"
    with closing(sqlite_utils.Database(database)) as db:
        files = sorted(folder.iterdir())
        rows = [
            {"id": n, "a": str(f), "b": str(g)}
            for n, (f, g) in enumerate(zip(files, files[::-1], strict=True))
        ]
        db["pictures"].insert_all(rows, pk="id")
    own = EmbedRequest(database, "pictures", model="palette", path_column="a", batch_size=2)
    embed_images(own)
    sql = "select image_id, vector from _pictures_vectors where index_id = 1"
    before = query(database, sql)
    new = replace(own, model=None, path_column="b", replace_model=True)
    assert embed_images(new, interrupt_after(6)).interrupted
    assert query(database, sql) == before
    assert embed_images(new).replacement.is_in_use
    assert query(database, sql) == []
    assert query(database, "select path_column from image_search_indexes") == [("b",)]


# --- A second index ------------------------------------------------------------------------------


def test_a_second_index_is_promoted_without_embedding_again(
    run: Run, database: Path, mean: type[Mean], monkeypatch: pytest.MonkeyPatch
):
    run(model="mean", add_model=True)
    by_mean = vectors_by(database, "mean")
    with monkeypatch.context() as patched:
        patched.setattr(registry, "_factories", dict)
        patched.setattr(registry, "_loaded", {})
        with pytest.raises(ImageSearchError, match="name with --model the one to keep"):
            run(replace_model=True)
        summary = run(**REPLACE)
    assert (summary.embedded, summary.device, mean.seen) == (0, None, 8)
    assert summary.replacement.models == ("palette",)
    assert searched_with(database) == ["mean"]
    assert vectors_by(database, "mean") == by_mean
    assert query(database, "select count(*) from _images_vectors") == [(8,)]


def test_a_second_index_that_lacks_some_gets_those_first(
    run: Run, database: Path, mean: type[Mean]
):
    run(model="mean", add_model=True, limit=5)
    assert run(**REPLACE).embedded == 3
    assert (searched_with(database), mean.seen) == (["mean"], 8)


def test_a_second_index_with_other_weights_is_made_anew(
    run: Run, database: Path, tmp_path: Path, mean: type[Mean]
):
    run(model="mean", add_model=True)
    (tmp_path / "weights").write_text("50")
    assert run(**REPLACE, weights=tmp_path / "weights").embedded == 8
    assert query(database, "select fingerprint from image_search_indexes") == [("mean-50",)]


# --- As people run it ----------------------------------------------------------------------------


def test_what_is_said(database: Path, folder: Path):
    embed = ("embed-images", database, "images", folder)
    _gone(folder)
    new = (*embed, "--model", "mean", "--replace-model")
    cannot = "1 image cannot be embedded with mean, such as 'red.jpg'"

    planned = command(*new, "--dry-run")
    assert planned.exit_code == 0
    assert "; the index by mean in use, instead of that by palette only with" in planned.stdout
    assert cannot in planned.stdout

    result = command(*new)
    assert result.exit_code == 1
    assert result.stdout.startswith("7 embedded, 1 gone, 0 unchanged")
    warning, error = result.stderr.splitlines()
    assert warning.startswith(f"Warning: {cannot}")
    assert error.startswith(f"Error: searches of 'images' still use the index by palette: {cannot}")
    assert "--drop-missing" in error

    plain = command(*embed)
    assert plain.exit_code == 0
    assert "an index of 'images' by mean is unfinished, with 7 vectors" in plain.stderr

    replaced = command(*embed, "--replace-model", "--drop-missing")
    assert replaced.exit_code == 0
    in_use = "Searches of 'images' now use the index by mean, instead of that by palette"
    assert replaced.stdout.splitlines()[-1] == in_use


def test_a_search_by_the_model_in_the_making_says_what_there_is(run: Run, database: Path):
    run(**REPLACE, on_progress=interrupt_after(4))
    result = command("search-images", database, "images", "#1", "--model", "mean")
    assert result.exit_code == 1
    assert "'images' is not embedded with mean, but with palette" in result.stderr


# --- Databases of version 0.1 --------------------------------------------------------------------


def test_an_older_database_is_read_as_it_is_and_migrated_by_a_run(run: Run, database: Path):
    change(
        database,
        "drop table image_search_migrations",
        "drop index idx_image_search_indexes_image_table_model_unfinished",
        "alter table image_search_indexes drop column unfinished",
        "create unique index idx_image_search_indexes_image_table_model "
        "on image_search_indexes (image_table, model)",
    )
    before = database.read_bytes()
    found = command("search-images", database, "images", "red", "-k", 1)
    assert "red.jpg" in found.stdout
    assert searched_with(database) == ["palette"]
    assert database.read_bytes() == before

    assert run(replace_model=True, on_progress=interrupt_after(4)).interrupted
    assert half_made(database) == {"palette": 4}
    assert run(replace_model=True).replacement.is_in_use
