"""
A whole run: scan -> decode -> embed -> store.

Threads decode ahead, the model encodes batches, and every batch is committed, so that a run that is
stopped loses no more than the batch in flight and the next one picks up there.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from sqlite_utils import Database

from .. import store
from ..embedders.protocol import Embedder
from ..embedders.registry import DEFAULT_MODEL, ModelRequest, load_embedder
from ..errors import ImageSearchError
from ..store import EmbeddedImage, Failure, ImageRecord, ImageTable, Index
from .decode import DecodedImage, DecodeError, DecodeSettings, decode_file
from .scan import Changes, FoundFile, find_changes

BATCH_SIZE = 32

COMMIT_SECONDS = 2.0
"""Slow files make small batches, so that a crash never costs more work than this."""

T = TypeVar("T")


class RunError(ImageSearchError):
    """A run that would make no sense, refused before anything is written."""


@dataclass(frozen=True)
class EmbedRequest:
    """
    What to embed into which table. `model` None is the model of the table, or the default;
    `weights` and `device` are as in ModelRequest; `workers` None is one decoder per processor.
    """

    database: Path
    table: str
    paths: Sequence[Path]
    model: str | None = None
    weights: Path | None = None
    device: str | None = None
    batch_size: int = BATCH_SIZE
    workers: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is: files done, of how many, and how many of the done have failed."""

    done: int
    total: int
    failed: int


@dataclass(frozen=True)
class Summary:
    """
    How a run ended. `failures` are this run's, `failed_before` counts files that failed in an
    earlier one and have not changed. `device` is None where no model was needed.
    """

    embedded: int
    unchanged: int
    failures: tuple[Failure, ...]
    failed_before: int
    failures_table: str
    seconds: float
    model: str
    device: str | None = None


def embed_images(
    request: EmbedRequest, on_progress: Callable[[Progress], None] = lambda progress: None
) -> Summary:
    """
    Bring an image table up to date with some files and folders.

    Nothing is written before the files are found and the model is loaded. Raises ImageSearchError
    with one sentence where the request cannot be carried out.
    """
    started = time.perf_counter()
    changes, index = _survey(request)
    model = _choose_model(request, index)
    embedder = None
    if changes.to_embed or index is None:
        embedder = load_embedder(
            ModelRequest(model, _weights(request, index), request.device, allow_download=True)
        )
        if index is not None and index.fingerprint != embedder.fingerprint:
            raise RunError(
                f"table {request.table!r} was embedded with other weights of {model}; "
                "use those (--weights), or another table"
            )
    db = Database(request.database, execute_plugins=False)
    try:
        table = store.ensure_tables(db, request.table)
        failures: list[Failure] = []
        if embedder is not None:
            index = store.ensure_index(
                db,
                table,
                model=model,
                weights=str(request.weights.resolve()) if request.weights else None,
                fingerprint=embedder.fingerprint,
                dimensions=embedder.dimensions,
            )
            failures = _embed(db, table, index, embedder, request, changes.to_embed, on_progress)
    finally:
        db.close()
    return Summary(
        embedded=len(changes.to_embed) - len(failures),
        unchanged=changes.unchanged,
        failures=tuple(failures),
        failed_before=changes.failed_before,
        failures_table=table.failures,
        seconds=time.perf_counter() - started,
        model=model,
        device=f"{embedder.device}, {embedder.precision}" if embedder else None,
    )


def _survey(request: EmbedRequest) -> tuple[Changes, Index | None]:
    """What changed, and the index there is, without writing: not even an empty database."""
    if not request.database.parent.is_dir():
        raise RunError(f"there is no folder {str(request.database.parent)!r} for the database")
    db = (
        Database(request.database, execute_plugins=False)
        if request.database.exists()
        else Database(memory=True, execute_plugins=False)
    )
    try:
        known = store.known_files(db.conn, request.table)
        roots = [root.path for root in store.roots(db.conn)]
        changes = find_changes(request.paths, known, roots)
        index = store.read_index(db.conn, request.table)
    finally:
        db.close()
    if not (changes.to_embed or changes.unchanged or changes.failed_before):
        names = ", ".join(repr(str(path)) for path in request.paths)
        raise RunError(f"there are no image files in {names}")
    return changes, index


def _choose_model(request: EmbedRequest, index: Index | None) -> str:
    if index is None:
        return request.model or DEFAULT_MODEL
    if request.model not in (None, index.model):
        raise RunError(
            f"table {request.table!r} is embedded with {index.model}, not {request.model}; "
            f"use --model {index.model}, or another table"
        )
    return index.model


def _weights(request: EmbedRequest, index: Index | None) -> Path | None:
    if request.weights is None and index is not None and index.weights is not None:
        return Path(index.weights)
    return request.weights


def _embed(
    db: Database,
    table: ImageTable,
    index: Index,
    embedder: Embedder,
    request: EmbedRequest,
    files: Sequence[FoundFile],
    on_progress: Callable[[Progress], None],
) -> list[Failure]:
    root_ids = {file.root: store.ensure_root(db, file.root).id for file in files}
    settings = DecodeSettings(embedder.preprocess, embedder.image_size)
    workers = request.workers or os.cpu_count() or 1
    failures: list[Failure] = []
    done = 0
    on_progress(Progress(done, len(files), 0))
    for batch in _batches(decode_ahead(files, settings, workers), request.batch_size):
        failed = [
            Failure(root_ids[file.root], file.path, file.size, file.mtime, str(outcome))
            for file, outcome in batch
            if isinstance(outcome, DecodeError)
        ]
        decoded = [(file, outcome) for file, outcome in batch if isinstance(outcome, DecodedImage)]
        images = []
        if decoded:
            vectors = embedder.encode_images(np.stack([image.model_input for _, image in decoded]))
            images = [
                EmbeddedImage(
                    file.image_id,
                    _record(file, root_ids[file.root], image),
                    vector,
                    image.thumbnail,
                )
                for (file, image), vector in zip(decoded, vectors, strict=True)
            ]
        store.write_batch(db, table, index, images, failed)
        failures += failed
        done += len(batch)
        on_progress(Progress(done, len(files), len(failures)))
    return failures


def decode_ahead(
    files: Iterable[FoundFile], settings: DecodeSettings, workers: int
) -> Iterator[tuple[FoundFile, DecodedImage | DecodeError]]:
    """
    Each file with its picture, or with what is wrong with it, in the order of `files`.

    Threads work a few files ahead of the reader and no further, so that memory stays flat.
    """
    waiting: deque[tuple[FoundFile, Future[DecodedImage | DecodeError]]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for file in files:
            waiting.append((file, executor.submit(_outcome, file, settings)))
            if len(waiting) > 4 * workers:
                file, future = waiting.popleft()
                yield file, future.result()
        for file, future in waiting:
            yield file, future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _outcome(file: FoundFile, settings: DecodeSettings) -> DecodedImage | DecodeError:
    try:
        if file.problem is not None:
            raise DecodeError(file.problem)
        return decode_file(file.absolute, settings)
    except DecodeError as error:
        return error


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, or of as many as came in COMMIT_SECONDS."""
    batch: list[T] = []
    deadline = time.monotonic() + COMMIT_SECONDS
    for item in items:
        batch.append(item)
        if len(batch) >= size or time.monotonic() >= deadline:
            yield batch
            batch = []
            deadline = time.monotonic() + COMMIT_SECONDS
    if batch:
        yield batch


def _record(file: FoundFile, root_id: int, image: DecodedImage) -> ImageRecord:
    path = PurePosixPath(file.path)
    return ImageRecord(
        root_id=root_id,
        path=file.path,
        folder="" if path.parent == PurePosixPath() else str(path.parent),
        filename=path.name,
        format=image.format,
        width=image.width,
        height=image.height,
        size=file.size,
        mtime=file.mtime,
        sha256=image.sha256,
        **asdict(image.exif),
    )
