"""What a run would do, found out without writing anything."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Protocol

from sqlite_utils import Database

from .. import store
from ..embedders.catalogue import check_model
from ..embedders.registry import DEFAULT_MODEL
from ..errors import ImageSearchError
from ..store import Index, KnownFile, Root, StoreError
from .formats import BATCH_SIZE, THUMBNAIL_SIZE
from .moved_roots import find_moved_root, root_of, tell_database
from .own_images import ImageSource, find_own_changes
from .reuse import Reuse, find_reuse, hash_of, of_known_size
from .scan import (
    Changes,
    FoundFile,
    GoneFiles,
    NotThere,
    ScanError,
    ScanOptions,
    check_mounted,
    find_changes,
)

BUSY_SECONDS = 60
"""How long to wait for another process that is writing to the database."""


PAGE_SIZE = 16_384


class RunError(ImageSearchError):
    """A run that would make no sense, refused before anything is written."""


@dataclass(frozen=True)
class EmbedRequest:
    """
    What to embed into which table: the images in `paths`; or, without any, those that the table has
    in `path_column` (paths, relative to the folder of the database) or `content_column` (BLOBs),
    None being the columns of the last run.

    `model` None is the model of the table, or the default; `weights`, `device` and `precision` are
    as in ModelRequest; `workers` None is one decoder per processor; `thumbnail_size` is in pixels,
    None for no thumbnails; `max_pixels` None is as many as the memory allows; `limit` is how many
    images are embedded at most; `copies` says that images of a folder that is gone were not moved.
    """

    database: Path
    table: str
    paths: Sequence[Path] = ()
    model: str | None = None
    weights: Path | None = None
    device: str | None = None
    precision: str | None = None
    batch_size: int = BATCH_SIZE
    workers: int | None = None
    path_column: str | None = None
    content_column: str | None = None
    scan: ScanOptions = field(default_factory=ScanOptions)
    thumbnail_size: int | None = THUMBNAIL_SIZE
    max_pixels: int | None = None
    retry_failed: bool = False
    prune: bool = False
    limit: int | None = None
    wal: bool = False
    add_model: bool = False
    replace_model: bool = False
    copies: bool = False

    @property
    def decoders(self) -> int:
        return self.workers or os.cpu_count() or 1


@dataclass(frozen=True)
class Survey:
    """
    What there is to do. `index` is the one to add to, None for a new one, and `replaced` are those
    that give way to it. `gone` are the files that are not there any more, by root and path, and
    `empty_rows` counts those of a person's own table that have nothing in the column of their images.
    `other_tables` are the image tables that there are beside a new one.
    """

    model: str
    index: Index | None
    replaced: tuple[Index, ...]
    path_column: str | None
    content_column: str | None
    to_embed: tuple[ImageSource, ...]
    reused: tuple[Reuse, ...]
    unchanged: int
    failed_before: int
    gone: Mapping[tuple[str, str], KnownFile]
    empty_rows: int = 0
    is_new_table: bool = False
    other_tables: tuple[str, ...] = ()


def take_survey(request: EmbedRequest) -> Survey:
    """Raises ImageSearchError with one sentence where the request cannot be carried out."""
    check_folder(request.database)
    columns = [name for name in (request.path_column, request.content_column) if name is not None]
    if len(columns) + bool(request.paths) > 1:
        raise RunError("name files and folders, or --path-column, or --content-column: one of them")
    with closing(open_database(request.database)) as db:
        is_new_table = not store.table_exists(db.conn, request.table)
        others = tuple(store.image_table_names(db.conn))
        if is_new_table:
            _check_table_name(request, others)
        indexes = store.read_indexes(db.conn, request.table)
        if not request.replace_model:
            store.check_not_renamed(db.conn, request.table)
            if indexes:
                store.check_vectors(db.conn, request.table)
        if request.model is not None and request.model not in [index.model for index in indexes]:
            check_model(request.model, has_weights=request.weights is not None)
        model, index, replaced = choose_model(request, indexes)
        if request.paths:
            survey = _survey_files(db, request, model, index, replaced)
        else:
            survey = _survey_own_table(db, request, model, index, replaced, indexes)
    return replace(survey, is_new_table=is_new_table, other_tables=others if is_new_table else ())


def _check_table_name(request: EmbedRequest, image_tables: Sequence[str]) -> None:
    """
    Raises RunError where a file or folder stands where the name of a new table goes. The name of the
    folder that is embedded, or of one that it is in, may well be the table's.
    """
    table = Path(request.table)
    is_path = "/" in request.table or os.sep in request.table
    missing = [path for path in request.paths if not path.exists()]
    if not table.exists():
        if not is_path or (request.paths and not missing):
            return
    elif not is_path:
        folder = table.resolve()
        if not missing and any(
            folder in (p.resolve(), *p.resolve().parents) for p in request.paths
        ):
            return
    files = [table, *request.paths]
    name = image_tables[0] if image_tables else "images"
    if len(missing) == 1 and str(missing[0]) == missing[0].name:
        # The two were swapped.
        files.remove(missing[0])
        name = missing[0].name
    line = shlex.join(["sqlite-utils", "embed-images", *map(str, (request.database, name, *files))])
    raise RunError(f"{request.table!r} stands where the name of the table goes: {line}")


def check_folder(database: Path) -> None:
    """Raises RunError where the folder for a database is missing."""
    folder = database.resolve().parent if database.is_symlink() else database.parent
    if not folder.is_dir():
        raise RunError(f"there is no folder {str(folder)!r} for the database")


def check_writable(database: Path) -> None:
    """Raises RunError where a database, or the folder that its journal and sidecars go to, is read-only."""
    check_folder(database)
    database = database.resolve()
    if not os.access(database.parent, os.W_OK):
        raise RunError(
            f"the folder {str(database.parent)!r} cannot be written to, and the database needs it for "
            "its journal and indexes; make it writable, or work on a copy in another folder"
        )
    if database.exists() and not os.access(database, os.W_OK):
        raise RunError(
            f"the database {str(database)!r} cannot be written to; make it writable, or work on a copy"
        )


def connect(database: Path) -> Database:
    """
    A connection that waits for other writers. It knows the SQL functions of this package and of other
    plugins, as that of any command of sqlite-utils: triggers of a person's own may use them.
    """
    db = Database(database)
    # Of a new database only. On a page of SQLite's usual 4096 bytes there is room for one vector of
    # 512 dimensions, and half of the file would be empty.
    db.execute(f"pragma page_size = {PAGE_SIZE}")
    wait_for_writers(db)
    return db


def wait_for_writers(db: Database) -> None:
    """Of other processes, up to BUSY_SECONDS, before something is written here."""
    db.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000}")


def open_database(database: Path) -> Database:
    """To look into. Connecting would make an empty file of a database that is not there."""
    return connect(database) if database.exists() else Database(memory=True)


class ModelChoice(Protocol):
    """What a request says of models; `model` None is the model of the table."""

    @property
    def table(self) -> str: ...

    @property
    def model(self) -> str | None: ...

    @property
    def add_model(self) -> bool: ...

    @property
    def replace_model(self) -> bool: ...


def choose_model(
    request: ModelChoice, indexes: Sequence[Index]
) -> tuple[str, Index | None, tuple[Index, ...]]:
    """The model, its index if there is one, and the indexes that it replaces."""
    if request.add_model and request.replace_model:
        raise RunError("--add-model keeps the index there is, --replace-model drops it: choose one")
    if not indexes:
        return request.model or DEFAULT_MODEL, None, ()
    models = [index.model for index in indexes]
    if request.model is None or request.model in models:
        index = indexes[0] if request.model is None else indexes[models.index(request.model)]
        if request.replace_model:
            # The same name with other weights, or simply everything anew.
            return index.model, None, tuple(indexes)
        return index.model, index, ()
    if request.replace_model:
        return request.model, None, tuple(indexes)
    if request.add_model:
        return request.model, None, ()
    raise RunError(
        f"table {request.table!r} is embedded with {' and '.join(models)}, not {request.model}; "
        f"use --model {models[0]}, or --add-model for a second index beside it, "
        "or --replace-model to embed everything again"
    )


def _survey_files(
    db: Database,
    request: EmbedRequest,
    model: str,
    index: Index | None,
    replaced: tuple[Index, ...],
) -> Survey:
    known = store.known_files(db.conn, request.table, index)
    roots = store.roots(db.conn)
    _check_absolute(request, known, roots)
    try:
        changes = find_changes(
            request.paths,
            known,
            [root.path for root in roots],
            request.scan,
            retry_failed=request.retry_failed,
        )
    except NotThere as error:
        root = root_of(error.path, roots)
        if root is None:
            raise
        raise ScanError(
            f"{error}; if the folder {root.path!r} was moved, tell the database: "
            f"{tell_database(request.database, root, 'NEW_FOLDER')}"
        ) from None
    if not request.copies:
        _check_moved(request, changes, known, roots)
    reused: list[Reuse] = []
    if index is not None:
        reused = _find_reuse(db, request, index, changes, known)
    reused_files = {(reuse.file.root, reuse.file.path) for reuse in reused}
    moved = {reuse.source_id for reuse in reused if reuse.moved}
    gone = {
        file: before
        for file, before in changes.missing.items()
        if before.image_id is None or before.image_id not in moved
    }
    check_mounted(
        changes.emptied, [file for file, before in gone.items() if before.image_id is not None]
    )
    if not (changes.to_embed or changes.unchanged or changes.failed_before):
        names = ", ".join(repr(str(path)) for path in request.paths)
        raise RunError(f"there are no image files in {names}")
    if replaced:
        _check_all_named(request, known, changes)
    return Survey(
        model=model,
        index=index,
        replaced=replaced,
        path_column=None,
        content_column=None,
        to_embed=_limited(
            request, (f for f in changes.to_embed if (f.root, f.path) not in reused_files)
        ),
        reused=tuple(reused),
        unchanged=changes.unchanged,
        failed_before=changes.failed_before,
        gone=gone,
    )


def _check_absolute(
    request: EmbedRequest, known: Iterable[tuple[str, str]], roots: Sequence[Root]
) -> None:
    """No file is ever found below a relative root: all of its images would get second rows."""
    of_table = {root for root, _ in known}
    for root in roots:
        if root.path in of_table and not Path(root.path).is_absolute():
            raise RunError(
                f"the folder {root.path!r} of table {request.table!r} is no absolute path; tell the "
                f"database where it is: {tell_database(request.database, root, 'ABSOLUTE_PATH')}"
            )


def _check_moved(
    request: EmbedRequest,
    changes: Changes[FoundFile],
    known: Mapping[tuple[str, str], KnownFile],
    roots: Sequence[Root],
) -> None:
    """The images of a folder that was moved would get second rows, beside those of the old place."""
    moved = find_moved_root(changes.to_embed, known, roots)
    if moved is not None:
        raise RunError(
            f"most images in {moved.now_at!r} are those of {moved.root.path!r}, which is empty or "
            "gone (nothing was changed); if they are copies, add --copies; if it was moved, tell the "
            f"database: {tell_database(request.database, moved.root, moved.now_at)}"
        )


def _check_all_named(
    request: EmbedRequest,
    known: Mapping[tuple[str, str], KnownFile],
    changes: Changes[FoundFile],
) -> None:
    """Images that are not looked at would lose their vectors to --replace-model, and get no others."""
    looked_at = {(file.root, file.path) for file in changes.to_embed} | changes.missing.keys()
    left_out = [
        file
        for file, before in known.items()
        if before.image_id is not None and not before.failed and file not in looked_at
    ]
    if left_out:
        roots = ", ".join(repr(root) for root in sorted({root for root, _ in left_out}))
        raise RunError(
            f"--replace-model would leave {len(left_out):,} images of table {request.table!r} without "
            f"a vector, those of {roots}; name all folders of the table"
        )


def _find_reuse(
    db: Database,
    request: EmbedRequest,
    index: Index,
    changes: Changes[FoundFile],
    known: Mapping[tuple[str, str], KnownFile],
) -> list[Reuse]:
    table = store.find_image_table(db.conn, request.table)
    candidates = of_known_size(changes.to_embed, known)
    with ThreadPoolExecutor(request.decoders) as executor:
        return find_reuse(
            candidates,
            executor.map(hash_of, candidates),
            GoneFiles(changes.missing),
            cache(lambda sha256: store.images_with_content(db.conn, table, index, sha256)),
        )


def _survey_own_table(
    db: Database,
    request: EmbedRequest,
    model: str,
    index: Index | None,
    replaced: tuple[Index, ...],
    indexes: Sequence[Index],
) -> Survey:
    path_column, content_column = request.path_column, request.content_column
    if path_column is None and content_column is None and indexes:
        last = index or indexes[0]
        path_column, content_column = last.path_column, last.content_column
    column = path_column or content_column
    if column is None:
        raise RunError(
            "name the folders to embed, or for images that the table has already, "
            "--path-column or --content-column"
        )
    table = store.find_image_table(db.conn, request.table)
    if table.is_ours:
        raise StoreError(f"table {table.name!r} was made from folders; name the folders to embed")
    rows = store.own_rows(db.conn, table, index, column, is_path=path_column is not None)
    folder = request.database.resolve().parent if path_column is not None else None
    changes = find_own_changes(rows, folder, retry_failed=request.retry_failed)
    if not rows:
        raise RunError(f"table {table.name!r} has no images in its column {column!r}")
    return Survey(
        model=model,
        index=index,
        replaced=replaced,
        path_column=path_column,
        content_column=content_column,
        to_embed=_limited(request, changes.to_embed),
        reused=(),
        unchanged=changes.unchanged,
        failed_before=changes.failed_before,
        gone={},
        empty_rows=store.count_images(db.conn, table) - len(rows),
    )


def _limited(request: EmbedRequest, images: Iterable[ImageSource]) -> tuple[ImageSource, ...]:
    return tuple(images)[: request.limit]
