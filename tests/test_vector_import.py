"""Vectors of other programs find their images, are believed only as far as is known, and harm nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils

from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.ingest import vector_import, vector_sources
from datasette_image_search.ingest.import_request import ImportRequest
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images, plan_images
from datasette_image_search.ingest.report import Progress
from datasette_image_search.ingest.vector_import import ImportSummary, import_vectors
from datasette_image_search.store import find_index, read_indexes
from datasette_image_search.store.stored_vectors import vector_from_blob, vector_to_blob
from datasette_image_search.store.tables import IMPORTED

from .commands import change, query, touch_later, vectors_of
from .conftest import COLOURS, draw_picture
from .ignoring_case import ignore_case_below
from .planning import search_one
from .random_tables import make_own_table
from .vector_files import unit, write_llm, write_npy, write_rclip

NAMES = sorted(f"{colour}.jpg" for colour in COLOURS)
CLIP = "another-programs/clip"
"""A model that nobody here knows, so that its vectors may have any dimensions."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a new database goes."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "photos.db"


@pytest.fixture
def bring(path: Path, tmp_path: Path) -> Callable[..., ImportSummary]:
    """bring(names, vectors, ...) imports them from a .npy file into the table images of `path`."""

    def bring(names: list[str], vectors: np.ndarray, **options) -> ImportSummary:
        source, paths = write_npy(tmp_path, names, vectors)
        request = ImportRequest(path, "images", source, CLIP, paths)
        return import_vectors(replace(request, **options))

    return bring


@pytest.fixture
def palette_vectors(database: Path) -> np.ndarray:
    """What palette makes of the pictures in NAMES."""
    vectors = vectors_of(database)
    return np.stack([vector_from_blob(vectors[name]) for name in NAMES])


def counts(summary: ImportSummary) -> tuple[int, int, int, int, int]:
    return (
        summary.imported,
        summary.unchanged,
        summary.added,
        summary.skipped,
        summary.not_there,
    )


def index_of(path: Path, model: str | None = None):
    with closing(sqlite3.connect(path)) as conn:
        return find_index(conn, "images", model)


def everything(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as conn:
        return list(conn.iterdump())


# --- A new table ---------------------------------------------------------------------------------


def test_a_new_table_has_a_row_for_each_vector(path: Path, folder: Path, bring):
    summary = bring([*NAMES, "away/there.jpg"], unit(9), roots=[folder])
    assert counts(summary) == (9, 0, 9, 0, 1)
    rows = query(
        path, "select path, folder, filename, size, mtime, sha256, width from images order by id"
    )
    assert [row[:3] for row in rows[-2:]] == [
        ("yellow.jpg", "", "yellow.jpg"),
        ("away/there.jpg", "away", "there.jpg"),
    ]
    assert rows[0][3] == (folder / "black.jpg").stat().st_size
    assert rows[0][4] is not None
    assert rows[0][5:] == (None, None)
    assert rows[-1][3:] == (None, None, None, None)
    assert query(path, "select path from image_search_roots") == [(str(folder),)]


def test_every_image_is_found_by_its_own_vector(path: Path, folder: Path, bring, monkeypatch):
    monkeypatch.setattr(vector_sources, "BLOCK", 3)
    names = [f"{number}.jpg" for number in range(10)]
    bring(names, unit(10) * 7, roots=[folder])
    index = index_of(path)
    with closing(sqlite3.connect(path)) as conn:
        for name, vector in zip(names, unit(10), strict=True):
            (hit,) = search_one(conn, index, vector, 1).hits
            assert query(path, "select path from images where id = ?", [hit.id]) == [(name,)]
            assert hit.score == pytest.approx(1, abs=1e-3)


def test_a_new_database_is_hardly_larger_than_its_vectors(path: Path, tmp_path: Path, bring):
    bring([f"{number}.jpg" for number in range(3000)], unit(3000, 512), roots=[tmp_path / "away"])
    assert path.stat().st_size < 1.4 * 3000 * 512 * 4


def test_absolute_paths_need_no_root(path: Path, tmp_path: Path, bring):
    bring([str(tmp_path / "a" / "b" / "1.jpg"), str(tmp_path / "a" / "c" / "2.jpg")], unit(2))
    assert query(path, "select path from image_search_roots") == [(str(tmp_path / "a"),)]
    assert query(path, "select path from images order by id") == [("b/1.jpg",), ("c/2.jpg",)]


def test_each_path_belongs_to_its_deepest_root(path: Path, tmp_path: Path, bring):
    roots = [tmp_path / "a", tmp_path / "b"]
    bring(
        [str(tmp_path / "b" / "1.jpg"), str(tmp_path / "a" / "b" / "2.jpg")], unit(2), roots=roots
    )
    assert query(
        path,
        "select r.path, i.path from images as i join image_search_roots as r on r.id = root_id "
        "order by i.id",
    ) == [(str(tmp_path / "b"), "1.jpg"), (str(tmp_path / "a"), "b/2.jpg")]


def test_a_link_to_a_root_is_the_root(path: Path, folder: Path, tmp_path: Path, bring):
    (tmp_path / "link").symlink_to(folder)
    bring(NAMES, unit(8), roots=[folder])
    linked = [str(tmp_path / "link" / name) for name in NAMES]
    assert counts(bring(linked, unit(8))) == (0, 8, 0, 0, 0)


def test_folders_spelled_otherwise_on_a_drive_that_ignores_case(
    path: Path, tmp_path: Path, bring, monkeypatch: pytest.MonkeyPatch
):
    drive = tmp_path / "drive"
    draw_picture(drive / "Photos" / "Divers" / "a.jpg", "red")
    ignore_case_below(drive, monkeypatch)
    assert bring(["Divers/a.jpg"], unit(1), roots=[drive / "Photos"]).added == 1
    for name in (f"{drive}/Photos/DIVERS/a.jpg", f"{drive}/photos/divers/a.jpg"):
        assert bring([name], unit(1)).added == 0
    assert bring(["divers/a.jpg"], unit(1), roots=[drive / "PHOTOS"]).added == 0
    assert query(path, "select path from images") == [("Divers/a.jpg",)]


def test_dots_in_paths(path: Path, folder: Path, bring):
    bring(["./red.jpg", "sub/../blue.jpg"], unit(2), roots=[folder])
    assert query(path, "select path from images order by id") == [("red.jpg",), ("blue.jpg",)]


# --- A table that is there -----------------------------------------------------------------------


def test_vectors_go_to_the_rows_of_their_paths(
    path: Path, database: Path, folder: Path, palette_vectors: np.ndarray, bring
):
    """Beside palette's, in any order."""
    shutil.copy(database, path)
    order = np.random.default_rng(1).permutation(8)
    shuffled = [str(folder / NAMES[at]) for at in order]
    summary = bring(shuffled, unit(8)[order], add_model=True)
    assert counts(summary) == (8, 0, 0, 0, 0)
    rows = query(
        path,
        "select images.path, v.index_id, vector from _images_vectors v join images on images.id = "
        "image_id where v.sha256 = images.sha256 order by path",
    )
    for number, name in enumerate(NAMES):
        palette, ours = rows[2 * number], rows[2 * number + 1]
        assert palette == (name, 1, vector_to_blob(palette_vectors[number]))
        assert ours[:2] == (name, 2)
        assert np.allclose(vector_from_blob(ours[2]), unit(8)[number], atol=1e-6)


def test_importing_again_writes_what_differs(path: Path, folder: Path, bring):
    bring(NAMES, unit(8), roots=[folder])
    generation = index_of(path).generation
    before = query(path, "select id, image_id, vector from _images_vectors")
    assert counts(bring(NAMES, unit(8))) == (0, 8, 0, 0, 0)
    assert query(path, "select id, image_id, vector from _images_vectors") == before
    assert index_of(path).generation == generation
    changed = unit(8)
    changed[2] = unit(1, seed=5)
    assert counts(bring(NAMES, changed)) == (1, 7, 0, 0, 0)
    assert index_of(path).generation != generation
    after = query(path, "select id, image_id, vector from _images_vectors")
    assert len(set(after) & set(before)) == 7
    assert max(after)[0] > max(before)[0]


def test_unknown_paths_are_refused_skipped_or_added(path: Path, folder: Path, bring):
    bring(NAMES[:3], unit(8)[:3], roots=[folder])
    before = everything(path)
    with pytest.raises(ImageSearchError) as refused:
        bring(NAMES, unit(8))
    assert str(refused.value).startswith(
        "5 of the 8 paths of vectors.npy have no row in 'images', such as 'orange.jpg', "
    )
    assert everything(path) == before
    assert counts(bring(NAMES, unit(8), unknown="skip")) == (0, 3, 0, 5, 0)
    assert counts(bring(NAMES, unit(8), unknown="add")) == (5, 3, 5, 0, 0)
    assert len(vectors_of(path)) == 8


def test_files_that_come_later_are_recorded_then(path: Path, tmp_path: Path, bring):
    drive = tmp_path / "drive"
    assert counts(bring(["red.jpg"], unit(1), roots=[drive])) == (1, 0, 1, 0, 1)
    draw_picture(drive / "red.jpg", "red")
    bring(["red.jpg"], unit(1), roots=[drive])
    size = (drive / "red.jpg").stat().st_size
    assert query(path, "select size, mtime is not null from images") == [(size, 1)]


def test_triggers_of_ours_and_of_a_person_are_as_before(path: Path, folder: Path, bring):
    bring(NAMES, unit(8), roots=[folder])
    sql = "select name, sql from sqlite_master where type = 'trigger' order by name"
    ours = query(path, sql)
    assert len(ours) == 11
    change(
        path,
        "create table log (id)",
        "create trigger mine after insert on images begin insert into log values (new.id); end",
    )
    bring([*NAMES, "new.jpg"], unit(9), unknown="add")
    assert query(path, "select * from log") == [(9,)]
    change(path, "drop trigger mine")
    assert query(path, sql) == ours


def test_a_row_gets_no_vector_of_an_earlier_one_with_its_id(path: Path, folder: Path, bring):
    bring(["a.jpg"], unit(1), roots=[folder])
    change(
        path,
        'drop trigger "_images_image_search_deleted"',
        "delete from images",
        "insert into _images_thumbnails values (1, null, x'00')",
    )
    bring(["b.jpg"], unit(2)[1:], roots=[folder])
    assert vectors_of(path) == {"b.jpg": vector_to_blob(unit(2)[1])}
    assert query(path, "select count(*) from _images_thumbnails") == [(0,)]


def test_columns_that_a_person_dropped_are_not_missed(path: Path, folder: Path, bring):
    bring(["a.jpg"], unit(1), roots=[folder])
    with closing(sqlite_utils.Database(path)) as db:
        db["images"].transform(drop=["lens", "filename"])
    assert counts(bring(["a.jpg", "b.jpg"], unit(2), unknown="add")) == (1, 1, 1, 0, 1)


def test_a_table_of_ours_whose_keys_a_person_made_texts(path: Path, folder: Path, bring):
    bring(["a.jpg"], unit(1), roots=[folder])
    with closing(sqlite_utils.Database(path)) as db:
        make_own_table(db, "pictures", "key", str)
        db["images"].transform(types={"id": str})
    with pytest.raises(ImageSearchError, match="transform PATH images --type id integer"):
        bring(["a.jpg"], unit(1))
    with pytest.raises(ImageSearchError, match="no rows can be added"):
        bring(["a.jpg"], unit(1), table="pictures", unknown="add", roots=[folder])


# --- A person's own table ------------------------------------------------------------------------


@pytest.fixture
def own(path: Path, folder: Path) -> Path:
    """A database with the table images(name, file), a path relative to its folder or absolute."""
    with closing(sqlite_utils.Database(path)) as db:
        db["images"].insert_all(
            [
                {"name": "r", "file": str(folder / "red.jpg")},
                {"name": "b", "file": "../pictures/blue.jpg"},
                {"name": "b again", "file": str(folder / "blue.jpg")},
                {"name": "none", "file": None},
            ],
            pk="name",
        )
    return path


def test_a_persons_own_table(own: Path, folder: Path, bring):
    options = {"path_column": "file", "roots": [folder]}
    assert counts(bring(["red.jpg", "blue.jpg"], unit(2), **options)) == (3, 0, 0, 0, 0)
    red, blue = map(vector_to_blob, unit(2))
    vectors = dict(query(own, "select image_id, vector from _images_vectors"))
    assert vectors == {"r": red, "b": blue, "b again": blue}
    assert index_of(own).path_column == "file"
    assert query(own, "select count(*) from _images_sources where size > 0") == [(3,)]
    plan = plan_images(EmbedRequest(own, "images"))
    assert (plan.unchanged, plan.embedded) == (3, 0)
    # The second time, the column is known.
    assert counts(bring(["red.jpg", "blue.jpg"], unit(2), roots=[folder])) == (0, 3, 0, 0, 0)


def test_an_own_table_gets_no_rows(own: Path, folder: Path, bring):
    for options in ({}, {"unknown": "add"}):
        with pytest.raises(ImageSearchError):
            bring(["red.jpg", "pink.jpg"], unit(2), path_column="file", roots=[folder], **options)
    with pytest.raises(ImageSearchError, match="--path-column"):
        bring(["red.jpg"], unit(1), roots=[folder])
    assert not index_tables(own)


def index_tables(path: Path) -> list[tuple]:
    return query(path, "select name from sqlite_master where name like '%image%search%'")


def test_paths_of_an_own_table_are_relative_to_the_database(own: Path, bring):
    assert counts(bring(["../pictures/red.jpg"], unit(1), path_column="file"))[0] == 1


def test_another_model_takes_no_imported_vector_away_from_an_own_table(
    own: Path, folder: Path, bring
):
    bring(["red.jpg", "blue.jpg"], unit(2), path_column="file", roots=[folder])
    embed_images(EmbedRequest(own, "images", model="palette", add_model=True, path_column="file"))
    sql = "select index_id, image_id from _images_vectors where sha256 is not null order by 1, 2"
    assert query(own, sql) == [
        (number, name) for number in (1, 2) for name in ("b", "b again", "r")
    ]


# --- What is refused, with nothing written --------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "vectors", "options", "said"),
    [
        (["a"], np.full((1, 16), np.nan), {}, "NaN"),
        (["a"], np.zeros((1, 16)), {}, "all zeros"),
        (["a", "./a", "b"], unit(3), {}, "'a' is in vectors.npy more than once"),
        (["a", ""], unit(2), {}, "path number 2 of vectors.npy is empty"),
        (["a\0b"], unit(1), {}, "has a null byte"),
        (["/a/b"], unit(1), {}, "are not below"),
        (["a"], unit(1), {"roots": []}, "is a relative path"),
        (["/a", "/b/c"], unit(2), {"roots": []}, "have no folder in common"),
        (["a"], unit(1), {"model": None}, "name it with --model"),
        (["a"], unit(1), {"model": "palette"}, "have 16 dimensions, and palette has"),
        (
            ["a"],
            unit(1),
            {"model": "ViT-B-32/openai"},
            "16 dimensions, and ViT-B-32/openai has 512;",
        ),
        (["a"], unit(1), {"model": "RN50/mine"}, "have 16 dimensions, and RN50/mine has 1,024;"),
        (["a"], unit(1), {"model": "timm/test_vit"}, "16 dimensions, and timm/test_vit has 64;"),
        (
            ["a"],
            unit(1, 1),
            {"model": "RN50/openai"},
            "have 1 dimension, and RN50/openai has 1,024",
        ),
        (
            ["a"],
            unit(1, 512),
            {"model": "ViT-B-32/openai", "weights": Path("/missing.pt")},
            "there is no weights file",
        ),
        (["a"], unit(1), {"weights": Path("/missing.pt")}, "there is no model"),
        (["a"], unit(1), {"unknown": "skip"}, "has no row for any path"),
        (["a"], unit(1), {"path_column": "file"}, "there is no table 'images'"),
        (["a"], unit(1), {"add_model": True, "replace_model": True}, "choose one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_leaves_no_database(
    path: Path, folder: Path, bring, names: list[str], vectors: np.ndarray, options: dict, said: str
):
    with pytest.raises(ImageSearchError, match=said):
        bring(names, vectors, **{"roots": [folder], **options})
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("vectors", "options", "said"),
    [
        (
            unit(8, 32),
            {},
            "have 32 dimensions, and the index of 'images' by another-programs/clip has 16",
        ),
        (unit(8, seed=3), {}, "differ from those that 'images' has of the same images"),
        (unit(8), {"model": "palette"}, "is embedded with another-programs/clip, not palette"),
        (unit(8), {"model": "palete"}, "there is no model 'palete'; did you mean 'palette'\\?"),
        (unit(8)[:3], {"replace_model": True}, "would leave 5 images"),
        (unit(8), {"path_column": "path"}, "leave --path-column out"),
    ],
    ids=["dimensions", "other vectors", "other model", "no model", "too few", "no own table"],
)
def test_what_is_refused_leaves_a_database_as_it_was(
    path: Path, folder: Path, bring, vectors: np.ndarray, options: dict, said: str
):
    bring(NAMES, unit(8), roots=[folder])
    before = everything(path)
    with pytest.raises(ImageSearchError, match=said):
        bring(NAMES[: len(vectors)], vectors, **options)
    assert everything(path) == before


def test_an_error_while_writing_leaves_everything_as_it_was(path: Path, folder: Path, bring):
    bring(NAMES[:2], unit(8)[:2], roots=[folder])
    change(
        path,
        "create trigger mine before insert on _images_vectors when new.image_id = 7 "
        "begin select raise(abort, 'no'); end",
    )
    before = everything(path)
    with pytest.raises(sqlite3.IntegrityError):
        bring(NAMES, unit(8), unknown="add")
    assert everything(path) == before


def test_a_database_is_not_its_own_source(tmp_path: Path, folder: Path):
    source = write_llm(tmp_path / "llm.db", {"photos": {"red.jpg": unit(1)[0]}})
    before = everything(source)
    with pytest.raises(ImageSearchError, match="is the database to import from"):
        import_vectors(ImportRequest(source, "images", source, roots=[folder]))
    assert everything(source) == before


def test_replacing_drops_the_other_models(path: Path, folder: Path, bring):
    bring(NAMES, unit(8), roots=[folder], model="another-programs/typo")
    assert counts(bring(NAMES, unit(8, seed=3), replace_model=True)) == (8, 0, 0, 0, 0)
    with closing(sqlite3.connect(path)) as conn:
        assert [index.model for index in read_indexes(conn, "images")] == [CLIP]
    assert vectors_of(path)[NAMES[0]] == vector_to_blob(unit(8, seed=3)[0])


def test_replacing_gives_up_what_embed_images_had_begun(path: Path, folder: Path, bring):
    bring(NAMES, unit(8), roots=[folder], model="another-programs/typo")
    stop = EmbedRequest(path, "images", [folder], "palette", replace_model=True, batch_size=2)
    assert embed_images(stop, interrupted).interrupted
    assert query(path, "select count(*) from _images_vectors where index_id = 2") == [(2,)]
    assert bring(NAMES, unit(8, seed=3), replace_model=True).given_up == "palette"
    assert query(path, "select model, unfinished from image_search_indexes") == [(CLIP, 0)]
    assert query(path, "select count(*) from _images_vectors") == [(8,)]


@pytest.mark.parametrize("is_new", [False, True])
def test_what_is_committed_before_a_ctrl_c_is_told(
    path: Path, folder: Path, bring, ctrl_c_after_commits: None, is_new: bool
):
    """Of a new database it is nothing, which has its name only in the end."""
    if not is_new:
        change(path, "create table notes (note text)")
    with pytest.raises(KeyboardInterrupt) if is_new else nullcontext():
        summary = bring(NAMES, unit(8), roots=[folder])
        assert (summary.imported, summary.interrupted) == (8, True)
    assert path.exists() != is_new


# --- Not alone -----------------------------------------------------------------------------------


def interrupted(progress: Progress) -> None:
    if progress.done:
        raise KeyboardInterrupt


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """meanwhile(act) has another program act while the vectors are looked at."""

    def meanwhile(act: Callable[[], None]) -> None:
        prepare = vector_import._prepare

        def slowly(*arguments):
            job = prepare(*arguments)
            act()
            return job

        monkeypatch.setattr(vector_import, "_prepare", slowly)

    return meanwhile


@pytest.mark.parametrize("during", ["looking", "writing"])
def test_a_database_that_another_program_makes_meanwhile_stays(
    path: Path, tmp_path: Path, folder: Path, meanwhile, during: str
):
    def make() -> None:
        change(path, "create table notes (note text)", "insert into notes values ('precious')")

    def ctrl_c(progress: Progress) -> None:
        if during == "writing":
            make()
        raise KeyboardInterrupt

    if during == "looking":
        meanwhile(make)
    source, paths = write_npy(tmp_path, NAMES, unit(8))
    with pytest.raises(KeyboardInterrupt):
        import_vectors(ImportRequest(path, "images", source, CLIP, paths, roots=[folder]), ctrl_c)
    assert query(path, "select note from notes") == [("precious",)]
    assert query(path, "select name from sqlite_master") == [("notes",)]
    assert list(path.parent.iterdir()) == [path]


def test_a_table_that_another_program_makes_meanwhile_is_not_written_to(
    path: Path, folder: Path, bring, meanwhile
):
    meanwhile(lambda: change(path, "create table images (id integer primary key, path text)"))
    with pytest.raises(ImageSearchError, match="has created the table 'images' meanwhile"):
        bring(NAMES, unit(8), roots=[folder])
    assert query(path, "select name from sqlite_master") == [("images",)]


# --- Whether the model made them -----------------------------------------------------------------


def test_vectors_that_the_model_makes_itself_are_proven(
    path: Path, folder: Path, palette_vectors: np.ndarray, bring
):
    summary = bring(NAMES, palette_vectors.astype("f2"), roots=[folder], model="palette")
    assert summary.unproven is None
    assert index_of(path).fingerprint == PaletteEmbedder().fingerprint


def test_vectors_that_the_model_does_not_make_are_refused(
    path: Path, folder: Path, palette_vectors: np.ndarray, bring
):
    with pytest.raises(
        ImageSearchError, match="differ from those that palette makes of the same pictures"
    ):
        bring(NAMES, palette_vectors[::-1], roots=[folder], model="palette")
    assert not path.exists()


def test_some_pictures_on_their_side_prove_nothing_against(
    path: Path, folder: Path, palette_vectors: np.ndarray, bring
):
    palette_vectors[0] = palette_vectors[1]
    assert bring(NAMES, palette_vectors, roots=[folder], model="palette").unproven is None


def test_without_model_or_pictures_the_name_is_believed(
    path: Path, tmp_path: Path, palette_vectors: np.ndarray, bring
):
    nowhere = {"roots": [tmp_path], "model": "ViT-B-32/openai"}
    unproven = bring(["a.jpg"], unit(1, 512), **nowhere).unproven
    assert unproven == "its weights are not on this machine"
    away = {"roots": [tmp_path / "away"], "model": "palette", "table": "elsewhere"}
    assert "none of the pictures is available" in bring(NAMES, palette_vectors, **away).unproven
    assert query(path, "select fingerprint from image_search_indexes") == [(IMPORTED,)] * 2


def test_vectors_for_an_embedded_table_have_to_be_of_its_model(
    path: Path, folder: Path, database: Path, palette_vectors: np.ndarray, bring, tmp_path: Path
):
    """What the table has of the same images tells, although the files are gone."""
    shutil.copy(database, path)
    folder.rename(tmp_path / "moved")
    names = [str(folder / name) for name in [*NAMES, "new.jpg"]]
    vectors = np.vstack([palette_vectors, palette_vectors[:1]])
    options = {"model": "palette", "unknown": "add"}
    with pytest.raises(ImageSearchError, match="could not check"):
        bring(names[8:], vectors[8:], **options)
    with pytest.raises(ImageSearchError, match="differ from those that"):
        bring(names, vectors[::-1], **options)
    assert counts(bring(names, vectors, **options)) == (1, 8, 1, 0, 1)
    assert index_of(path).fingerprint == PaletteEmbedder().fingerprint


# --- embed-images afterwards ---------------------------------------------------------------------


def test_embedding_the_same_folder_adopts_the_vectors(
    path: Path, folder: Path, palette_vectors: np.ndarray, bring
):
    bring(NAMES, palette_vectors, roots=[folder], model="palette")
    change(path, f"update image_search_indexes set fingerprint = '{IMPORTED}'")
    draw_picture(folder / "pink.jpg", "pink")
    before = query(path, "select id, image_id, vector from _images_vectors")
    summary = embed_images(EmbedRequest(path, "images", [folder]))
    assert (summary.embedded, summary.unchanged) == (1, 8)
    assert query(path, "select id, image_id, vector from _images_vectors limit 8") == before
    assert index_of(path).fingerprint == PaletteEmbedder().fingerprint


def test_embedding_refuses_to_mix(path: Path, folder: Path, palette_vectors: np.ndarray, bring):
    bring(NAMES, palette_vectors, roots=[folder], model="palette")
    for name, vector in zip(NAMES, palette_vectors[::-1], strict=True):
        change(
            path,
            f"delete from _images_vectors where image_id = (select id from images where path = '{name}')",
            "insert into _images_vectors (index_id, image_id, vector) "
            f"select 1, id, x'{vector_to_blob(vector).hex()}' from images where path = '{name}'",
        )
    change(path, f"update image_search_indexes set fingerprint = '{IMPORTED}'")
    draw_picture(folder / "pink.jpg", "pink")
    before = everything(path)
    with pytest.raises(ImageSearchError, match="differ from those that palette makes"):
        embed_images(EmbedRequest(path, "images", [folder]))
    assert everything(path) == before


def test_embedding_where_nothing_can_be_compared_is_refused(
    path: Path, tmp_path: Path, folder: Path, palette_vectors: np.ndarray, bring
):
    bring(NAMES, palette_vectors, roots=[tmp_path / "away"], model="palette")
    before = everything(path)
    with pytest.raises(ImageSearchError, match="none of their pictures is available"):
        embed_images(EmbedRequest(path, "images", [folder]))
    assert everything(path) == before


def test_another_model_takes_no_imported_vector_away(path: Path, folder: Path, bring):
    bring([*NAMES, "away.jpg"], unit(9), roots=[folder])
    change(path, "update images set size = null, mtime = null where path = 'red.jpg'")
    touch_later(folder / "blue.jpg")
    before = {name: blob for name, blob in vectors_of(path).items() if name != "blue.jpg"}
    embed_images(EmbedRequest(path, "images", [folder], model="palette", add_model=True))
    sql = (
        "select path, vector from _images_vectors v join images on images.id = v.image_id "
        "where index_id = 1 and v.sha256 is images.sha256"
    )
    # blue.jpg has changed since: nobody knows what its vector is of.
    assert dict(query(path, sql)) == before
    assert query(path, "select count(*) from _images_vectors where index_id = 2") == [(8,)]


# --- Other sources -------------------------------------------------------------------------------


def test_rclip_as_a_whole(path: Path, folder: Path, tmp_path: Path):
    gone = tmp_path / "pictures" / "gone.jpg"
    files = [folder / "red.jpg", folder / "blue.jpg", gone]
    vectors = dict(zip(files, unit(3, 512), strict=True))
    source = write_rclip(tmp_path / "db.sqlite3", vectors)
    touch_later(folder / "blue.jpg")
    summary = import_vectors(ImportRequest(path, "images", source))
    assert summary.model == "ViT-B-32-256/datacomp_s34b_b86k"
    assert counts(summary) == (3, 0, 3, 0, 1)
    with closing(sqlite_utils.Database(path)) as db:
        assert [row["size"] for row in db["images"].rows][-1] == 9
    # red is as rclip saw it, blue has changed since.
    change(path, "delete from images where path = 'gone.jpg'")
    request = EmbedRequest(path, "images", [folder / "red.jpg", folder / "blue.jpg"])
    assert (plan_images(request).unchanged, plan_images(request).embedded) == (1, 1)


def test_llm_as_a_whole(path: Path, folder: Path, tmp_path: Path):
    photos = dict(zip(NAMES, unit(8, 512), strict=True))
    source = write_llm(tmp_path / "llm.db", {"photos": photos})
    summary = import_vectors(ImportRequest(path, "images", source, roots=[folder]))
    assert counts(summary) == (8, 0, 8, 0, 0)
    assert vectors_of(path)["red.jpg"] == vector_to_blob(photos["red.jpg"])
