"""A survey of the work of a run, which writes nothing."""

from __future__ import annotations

import gc
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import get_args

from sqlite_utils import Database

from .. import store
from ..checked import check_choice, check_fields
from ..decoding.formats import BATCH_SIZE, THUMBNAIL_SIZE, Precision
from ..embedders.catalogue import check_model
from ..files.remote_urls import clean_url, is_url
from ..store import Index, Key, reads
from ..store.connections import check_folder, open_if_exists
from ..store.finding import check_not_renamed, check_vectors
from ..store.indexes import image_table_names
from ..store.own_rows import own_rows
from ..store.reads import count_images, images_with_content, known_files
from ..store.replacements import unfinished_index
from ..store.schema import check_new_name
from ..store.tables import Failure, KnownSource, Location, Root, table_exists
from ..store.vectors import count_vectors
from .left_out import LeftOut
from .model_choice import ModelChoice, RunError, choose_model
from .moved_roots import find_moved_root, root_of, tell_database
from .own_images import ImageSource, find_own_changes
from .replacing import Replacement, replacement_by
from .rereading import reused_to_read
from .reuse import Reuse, find_reuse, hash_of, of_known_size
from .scan import (
    Changes,
    GoneFiles,
    Place,
    find_changes,
    storages_of,
)
from .scopes import NotThere, ScanError, check_mounted
from .walk import FoundFile, ScanOptions


@dataclass(frozen=True)
class EmbedRequest:
    """
    The images to embed, and the table: the images in `paths`; or, without any, those that the table has
    in `path_column` (paths, relative to the folder of the database) or `content_column` (BLOBs), None
    being the columns of the last run.

    `model` None is the model of the table, or the default; `weights`, `device` and `precision` are
    as in ModelRequest; `workers` None is one decoder per processor; `thumbnail_size` is in pixels,
    None for no thumbnails; `max_pixels` None is as many as the memory allows; `limit` is how many
    images are embedded at most; `copies` says that images of a folder that is gone were not moved.

    `text_columns` are those whose words are searched, besides those that always are; none for the ones of the last run.

    `replace_model` makes an index that replaces the existing ones. They are searched until it has vectors
    of all their images, or without that if `drop_missing` is set; `keep_model` gives up an unfinished
    one.

    `ray` is the address of a Ray cluster that encodes, "local" for one that is started here, None for this process;
    `ray_cpus` are the processors of each of its actors, where there is no GPU.
    """

    database: Path
    table: str
    paths: Sequence[Place] = ()
    model: str | None = None
    weights: Path | None = None
    device: str | None = None
    precision: Precision | None = None
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
    drop_missing: bool = False
    keep_model: bool = False
    copies: bool = False
    text_columns: Sequence[str] = ()
    ray: str | None = None
    ray_cpus: int | None = None

    def __post_init__(self) -> None:
        some = (1, None)
        check_fields(
            self,
            batch_size=some,
            workers=some,
            thumbnail_size=(16, 4096),
            max_pixels=some,
            limit=some,
            ray_cpus=some,
        )
        if self.ray_cpus is not None and self.ray is None:
            raise RunError("--ray-cpus works only with --ray; add that, or leave it out")
        if self.precision is not None:
            check_choice("precision", self.precision, get_args(Precision))

    @property
    def decoders(self) -> int:
        return self.workers or os.cpu_count() or 1


@dataclass(frozen=True)
class Survey:
    """
    The work to do. Of `to_read` only the metadata is read. `gone` are the missing files, by root and path, and `empty_rows` counts rows of a
    person's own table without an image. `unusable` says why rows of it cannot be images. `other_tables`
    are the image tables beside a new one. `unfinished` is an index that will replace others, but not in
    this run, with the number of its vectors. `settled`, `left_out` and `companions` are as in Changes.
    """

    choice: ModelChoice
    path_column: str | None
    content_column: str | None
    to_embed: tuple[ImageSource, ...]
    reused: tuple[Reuse, ...]
    unchanged: int
    failed_before: int
    gone: Mapping[tuple[str, str], KnownSource]
    to_read: tuple[FoundFile, ...] = ()
    to_pair: tuple[FoundFile, ...] = ()
    empty_rows: int = 0
    unusable: tuple[Failure, ...] = ()
    is_new_table: bool = False
    other_tables: tuple[str, ...] = ()
    replacement: Replacement | None = None
    unfinished: tuple[Index, int] | None = None
    settled: tuple[tuple[str, str], ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
    companions: int = 0

    @property
    def model(self) -> str:
        return self.choice.model

    @property
    def index(self) -> Index | None:
        """The one to add to, None for a new one."""
        return self.choice.index


def take_survey(request: EmbedRequest, fingerprint: str | None = None) -> Survey:
    """
    `fingerprint` is as in choose_model(). Raises ImageSearchError with one sentence if the request cannot
    be carried out.
    """
    check_folder(request.database)
    _check_replacement(request)
    columns = [name for name in (request.path_column, request.content_column) if name is not None]
    if len(columns) + bool(request.paths) > 1:
        raise RunError("give either files and folders, or --path-column, or --content-column")
    with _without_collector(), open_if_exists(request.database) as db:
        is_new_table = not table_exists(db.conn, request.table)
        others = tuple(image_table_names(db.conn))
        if is_new_table:
            _check_table_name(request, others)
            if request.paths:
                check_new_name(db.conn, request.table)
        indexes = store.read_indexes(db.conn, request.table)
        if not request.replace_model:
            check_not_renamed(db.conn, request.table)
            if indexes:
                check_vectors(db.conn, indexes[0].table)
        if request.model is not None and request.model not in [index.model for index in indexes]:
            check_model(request.model, has_weights=request.weights is not None)
        unfinished = unfinished_index(db.conn, request.table)
        choice = choose_model(request, indexes, unfinished, fingerprint)
        if request.paths:
            survey = _survey_files(db, request, choice)
        else:
            survey = _survey_own_table(db, request, choice, indexes)
        if choice.is_replacement:
            covered = {image.image_id for image in survey.to_embed if image.problem is None}
            covered |= {
                reuse.source_id if reuse.moved else reuse.file.image_id for reuse in survey.reused
            }
            if request.prune:
                covered |= {before.image_id for before in survey.gone.values()}
            survey = replace(survey, replacement=replacement_by(db.conn, choice, covered))
        if unfinished is not None and unfinished not in (choice.index, choice.given_up):
            vectors = count_vectors(db.conn, unfinished)
            survey = replace(survey, unfinished=(unfinished, vectors))
    return replace(survey, is_new_table=is_new_table, other_tables=others if is_new_table else ())


@contextmanager
def _without_collector() -> Iterator[None]:
    """
    A survey makes a million objects, and nearly all of them stay: Python's collector of garbage, which looks through all
    of them again and again, would take a fifth of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_replacement(request: EmbedRequest) -> None:
    if request.replace_model and request.limit is not None:
        raise RunError(
            "--replace-model embeds all images, because searches miss images without a vector; leave "
            "--limit out: the next run continues an interrupted one"
        )
    if request.drop_missing and not request.replace_model:
        raise RunError("--drop-missing works only with --replace-model; add that, or leave it out")


def _check_table_name(request: EmbedRequest, image_tables: Sequence[str]) -> None:
    """
    Raises RunError if a file or folder is given instead of the name of a new table. The table may have
    the name of the embedded folder or of a parent.
    """
    table = Path(request.table)
    is_path = "/" in request.table or os.sep in request.table
    paths = [path for path in request.paths if isinstance(path, Path)]
    missing = [path for path in paths if not path.exists()]
    if not table.exists():
        if not is_path or (request.paths and not missing):
            return
    elif not is_path:
        folder = table.resolve()
        if not missing and any(folder in (p.resolve(), *p.resolve().parents) for p in paths):
            return
    table_as_place = clean_url(request.table) if is_url(request.table) else table
    files = [table_as_place, *request.paths]
    name = image_tables[0] if image_tables else "images"
    if len(missing) == 1 and str(missing[0]) == missing[0].name:
        # The two were swapped.
        files.remove(missing[0])
        name = missing[0].name
    line = shlex.join(["sqlite-utils", "embed-images", *map(str, (request.database, name, *files))])
    raise RunError(f"{request.table!r} is given instead of the table name; run: {line}")


def _survey_files(
    db: Database,
    request: EmbedRequest,
    choice: ModelChoice,
) -> Survey:
    index = choice.index
    known = known_files(db.conn, request.table, index)
    roots = reads.roots(db.conn)
    _check_absolute(request, known, roots)
    try:
        changes = find_changes(
            request.paths,
            known,
            [root.path for root in roots],
            request.scan,
            retry_failed=request.retry_failed,
            database=request.database,
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
        for file in changes.respelled:
            assert file.image_id is not None
            reused.append(Reuse(file, file.image_id, moved=True))
    reused_files = {(reuse.file.root, reuse.file.path) for reuse in reused}
    to_embed = [file for file in changes.to_embed if (file.root, file.path) not in reused_files]
    moved = {reuse.source_id for reuse in reused if reuse.moved}
    if choice.replaced:
        to_embed = _with_rows_of_moved(db, request, choice.replaced, to_embed, changes)
        moved |= {file.image_id for file in to_embed if file.image_id is not None}
    gone = {
        file: before
        for file, before in changes.missing.items()
        if before.image_id is None or before.image_id not in moved
    }
    check_mounted(
        changes.emptied, [file for file, before in gone.items() if before.image_id is not None]
    )
    has_images = changes.to_embed or changes.unchanged or changes.failed_before or changes.respelled
    if not (has_images or changes.settled or changes.companions):
        names = ", ".join(repr(str(path)) for path in request.paths)
        met = changes.left_out.met()
        left_out = f", only what is left out: {', '.join(met)}" if met else ""
        raise RunError(f"there are no image files in {names}{left_out}")
    found_again = {reuse.file.key for reuse in reused if reuse.moved}
    if table_exists(db.conn, request.table) and any(
        file.image_id is None and file.problem is None and file.key not in found_again
        for file in changes.to_embed
    ):
        store.find_image_table(db.conn, request.table).check_takes_rows()
    return Survey(
        choice,
        path_column=None,
        content_column=None,
        to_embed=_limited(request, to_embed),
        reused=tuple(reused),
        unchanged=changes.unchanged,
        failed_before=changes.failed_before,
        gone=gone,
        to_read=(*changes.to_read, *reused_to_read(reused, known.values())),
        to_pair=changes.to_pair,
        settled=changes.settled,
        left_out=changes.left_out,
        companions=changes.companions,
    )


def _check_absolute(
    request: EmbedRequest, known: Iterable[tuple[str, str]], roots: Sequence[Root]
) -> None:
    """No file is ever found below a relative root: all of its images would get second rows."""
    of_table = {root for root, _ in known}
    for root in roots:
        if root.path in of_table and not (is_url(root.path) or Path(root.path).is_absolute()):
            raise RunError(
                f"the folder {root.path!r} of table {request.table!r} is not an absolute path; tell the "
                f"database where it is: {tell_database(request.database, root, 'ABSOLUTE_PATH')}"
            )


def _check_moved(
    request: EmbedRequest,
    changes: Changes[FoundFile],
    known: Mapping[tuple[str, str], KnownSource],
    roots: Sequence[Root],
) -> None:
    """The images of a folder that was moved would get second rows, beside those of the old place."""
    moved = find_moved_root(changes.to_embed, known, roots, storages_of(request.paths))
    if moved is not None:
        raise RunError(
            f"most images in {moved.now_at!r} are those of {moved.root.path!r}, which is empty or "
            "gone (nothing was changed); if they are copies, add --copies; if it was moved, tell the "
            f"database: {tell_database(request.database, moved.root, moved.now_at)}"
        )


def _find_reuse(
    db: Database,
    request: EmbedRequest,
    index: Index,
    changes: Changes[FoundFile],
    known: Mapping[tuple[str, str], KnownSource],
) -> list[Reuse]:
    table = store.find_image_table(db.conn, request.table)
    candidates = of_known_size(changes.to_embed, known)
    with ThreadPoolExecutor(request.decoders) as executor:
        return find_reuse(
            candidates,
            executor.map(hash_of, candidates),
            GoneFiles(changes.missing, storages_of(request.paths)),
            cache(lambda sha256: images_with_content(db.conn, table, index, sha256)),
        )


def _with_rows_of_moved(
    db: Database,
    request: EmbedRequest,
    replaced: Sequence[Index],
    files: Sequence[FoundFile],
    changes: Changes[FoundFile],
) -> list[FoundFile]:
    """
    The files, those with the row of an image that was moved there. A new index cannot have its vector
    from the image, but the image keeps its row, and with that the vectors of the indexes there are.
    """
    table = store.find_image_table(db.conn, request.table)
    sizes = {before.size for before in changes.missing.values() if before.image_id is not None}
    new = [
        file
        for file in files
        if file.image_id is None and file.problem is None and file.size in sizes
    ]

    @cache
    def same_content(sha256: str) -> list[tuple[Key, Location]]:
        found = [images_with_content(db.conn, table, old, sha256) for old in replaced]
        return list(dict.fromkeys(chain.from_iterable(found)))

    with ThreadPoolExecutor(request.decoders) as executor:
        hashes = executor.map(hash_of, new)
        found = find_reuse(
            new, hashes, GoneFiles(changes.missing, storages_of(request.paths)), same_content
        )
    rows = {reuse.file: reuse.source_id for reuse in found if reuse.moved}
    return [replace(file, image_id=rows.get(file, file.image_id)) for file in files]


def _survey_own_table(
    db: Database,
    request: EmbedRequest,
    choice: ModelChoice,
    indexes: Sequence[Index],
) -> Survey:
    index = choice.index
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
    table.check_is_own("name the folders to embed")
    rows, unusable = own_rows(db.conn, table, index, column, is_path=path_column is not None)
    folder = request.database.resolve().parent if path_column is not None else None
    changes = find_own_changes(rows, folder, retry_failed=request.retry_failed)
    if not (rows or unusable):
        raise RunError(f"table {table.name!r} has no images in its column {column!r}")
    return Survey(
        choice,
        path_column=path_column,
        content_column=content_column,
        to_embed=_limited(request, changes.to_embed),
        reused=(),
        unchanged=changes.unchanged,
        failed_before=changes.failed_before,
        gone={},
        empty_rows=count_images(db.conn, table) - len(rows) - len(unusable),
        unusable=tuple(unusable),
    )


def _limited(request: EmbedRequest, images: Iterable[ImageSource]) -> tuple[ImageSource, ...]:
    return tuple(images)[: request.limit]
