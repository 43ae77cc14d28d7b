"""
A whole run: survey -> decode -> embed -> store.

Threads decode ahead, the model encodes batches, and every batch is committed, so that a run that is
stopped loses no more than the batch in flight and the next one picks up there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from sqlite_utils import Database

from .. import store
from ..cluster.head import ClusterLost
from ..embedders.fingerprints import INT8, precision_of
from ..embedders.protocol import Embedder, ModelRequest
from ..embedders.registry import load_embedder
from ..embedders.self_test import check_embedder
from ..errors import ImageSearchError, counted
from ..files.run_lock import only_run
from ..store import Index
from ..store.connections import check_writable, open_or_make
from ..store.indexes import WeightsOf, ensure_index, recorded_weights
from ..store.metadata import write_metadata
from ..store.migrations import migrate
from ..store.own_rows import own_content
from ..store.replacements import delete_index, take_over
from ..store.schema import ensure_tables
from ..store.tables import (
    IMPORTED,
    ReusedImage,
)
from ..store.writes import (
    delete_images,
    ensure_roots,
    forget_failures,
    forget_old_warnings,
    forget_unreadable,
    record_unusable,
    write_batch,
    write_companions,
    write_reused,
)
from .batches import batches
from .cluster import cluster_encoder
from .encoding import EncodedBatch, Encoder, EncodingSettings, HereEncoder
from .made_ahead import made_ahead
from .model_choice import RunError
from .own_images import NO_CONTENT, ImageSource, OwnImage
from .provenance import is_made_by, stored_pictures
from .replacing import replacement_by
from .report import FailedImage, NodeWork, Progress, Summary, rows_gone, summary_of
from .rereading import read_again
from .scan import places_of
from .survey import EmbedRequest, Survey, take_survey
from .walk import FoundFile

BATCH = 500
"""Files that are moved, copied or gone per transaction, small so that readers do not wait."""


def plan_images(request: EmbedRequest) -> Summary:
    """A summary of what `embed_images` would do; writes nothing and loads no model."""
    return summary_of(take_survey(request))


def embed_images(
    request: EmbedRequest,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_plan: Callable[[Summary], None] = lambda plan: None,
    weights_of: WeightsOf = recorded_weights,
) -> Summary:
    """
    Bring an image table up to date with some files and folders, or with its own rows.

    Nothing is written before the files are found and the model is loaded. Before that,
    `on_plan` gets the summary of `plan_images`. A KeyboardInterrupt ends the run without the batch in
    flight; the summary says so. Raises ImageSearchError if the request cannot be carried out.
    """
    started = time.perf_counter()
    check_writable(request.database)
    with only_run(request.database):
        survey = take_survey(request)
        plan = summary_of(survey)
        on_plan(plan)
        embedder = None
        model = _model_asked(request, survey, weights_of)
        if survey.to_embed or survey.index is None or request.weights is not None:
            embedder = load_embedder(model if request.ray is None else _for_any_device(model))
            if request.replace_model and _is_of_another(survey.index, embedder):
                # Nothing of that one is of use.
                survey = take_survey(request, embedder.fingerprint)
                plan = summary_of(survey)
                on_plan(plan)
            _check_embedder(request, survey, embedder)
        with (
            _encoder(request, survey, model, embedder, on_progress) as encoder,
            open_or_make(request.database) as db,
        ):
            if request.wal:
                db.enable_wal()
            run = _Run(db, request, survey, embedder, encoder, on_progress)
            try:
                run.carry_out()
            except KeyboardInterrupt:
                run.interrupted = True
            except ClusterLost as error:
                raise ClusterLost(f"{error}, {counted(run.done, 'image')} of this run") from error
            return replace(
                plan,
                embedded=run.done - len(run.failures) + len(survey.unusable),
                reused=run.reused,
                moved=run.moved,
                read=run.read,
                failures=tuple(run.failures),
                warnings=tuple(run.warnings),
                failures_table=run.table.failures,
                pruned=run.pruned,
                companions=plan.companions - run.parted,
                gone=rows_gone(run.gone),
                seconds=time.perf_counter() - started,
                device=run.where if embedder else None,
                nodes=run.nodes,
                interrupted=run.interrupted,
                migrated=run.migrated,
                replacement=run.replacement,
            )


def _is_of_another(index: Index | None, embedder: Embedder) -> bool:
    return index is not None and index.fingerprint not in (IMPORTED, embedder.fingerprint)


def _model_asked(request: EmbedRequest, survey: Survey, weights_of: WeightsOf) -> ModelRequest:
    weights = request.weights
    if weights is None and survey.index is not None:
        weights = weights_of(survey.index)
    precision: str | None = request.precision
    if precision is None and survey.index is not None:
        precision = precision_of(survey.index.fingerprint)
    return ModelRequest(survey.model, weights, request.device, precision, allow_download=True)


def _for_any_device(model: ModelRequest) -> ModelRequest:
    """As this machine can load it, for its fingerprint: the device that is asked for is one of the nodes."""
    return replace(model, device=None, precision=INT8 if model.precision == INT8 else None)


@contextmanager
def _encoder(
    request: EmbedRequest,
    survey: Survey,
    model: ModelRequest,
    embedder: Embedder | None,
    on_progress: Callable[[Progress], None],
) -> Iterator[Encoder | None]:
    def tell(waiting: str) -> None:
        on_progress(Progress(0, len(survey.to_embed), 0, waiting, is_cluster=True))

    settings = EncodingSettings(
        request.batch_size, request.decoders, request.thumbnail_size, request.max_pixels
    )
    if embedder is None:
        yield None
    elif request.ray is None or not survey.to_embed:
        yield HereEncoder(embedder, settings)
    else:
        with cluster_encoder(
            request.ray,
            request.ray_cpus,
            model,
            embedder,
            settings,
            survey.to_embed,
            workers=request.workers,
            on_waiting=tell,
        ) as encoder:
            yield encoder


def _check_embedder(request: EmbedRequest, survey: Survey, embedder: Embedder) -> None:
    if survey.index is None:
        check_embedder(embedder)
    elif survey.index.fingerprint == IMPORTED:
        _check_imported(request, survey.index, embedder)
    elif _is_of_another(survey.index, embedder):
        if precision_of(survey.index.fingerprint) != precision_of(embedder.fingerprint):
            raise RunError(
                f"table {request.table!r} was embedded {'without' if embedder.precision == INT8 else 'with'} --precision int8, "
                "and its vectors are others; leave --precision out, or embed everything again with --replace-model"
            )
        raise RunError(
            f"table {request.table!r} was embedded with other weights of {survey.model}; use those with "
            "--weights, or embed everything again with --replace-model"
        )


def _check_imported(request: EmbedRequest, index: Index, embedder: Embedder) -> None:
    """
    Raises unless the imported vectors are found to be this embedder's, so that its vectors may join them.
    """
    with open_or_make(request.database) as db:
        pictures = stored_pictures(db.conn, index, request.database)
        if not is_made_by(embedder, pictures, repr(request.table)):
            raise RunError(
                f"the vectors of {request.table!r} were imported, and none of their pictures is available "
                f"to check that {index.model} made them; make some available, or use --replace-model to "
                "embed everything again"
            )


class _Run:
    """A run in progress; its counts survive a KeyboardInterrupt."""

    def __init__(
        self,
        db: Database,
        request: EmbedRequest,
        survey: Survey,
        embedder: Embedder | None,
        encoder: Encoder | None,
        on_progress: Callable[[Progress], None],
    ):
        self.db = db
        self.request = request
        self.survey = survey
        self.embedder = embedder
        self.on_progress = on_progress
        self.encoder = encoder
        self.done = 0
        self.reused = 0
        self.moved = 0
        self.read = 0
        self.total = 0
        self.parted = 0
        self.alone: list[tuple[str, str]] = []
        self.gone = survey.gone
        self.images_of: Counter[str] = Counter()
        self.failures = [FailedImage(each.path, each.reason) for each in survey.unusable]
        self.warnings: list[FailedImage] = []
        self.interrupted = False
        self.pruned = False
        self.replacement = survey.replacement
        own_column = survey.path_column or survey.content_column
        self.migrated = migrate(db)
        self.table = ensure_tables(db, request.table, own_column, request.text_columns or None)

    def carry_out(self) -> None:
        choice = self.survey.choice
        index = choice.index
        with store.transaction(self.db):
            if choice.given_up is not None:
                delete_index(self.db, self.table, choice.given_up)
            if self.embedder is not None:
                index = self._ensure_index(self.embedder)
            if self.survey.path_column is not None:
                forget_unreadable(self.db, self.table)
            record_unusable(self.db, self.table, self.survey.unusable)
            roots = self._ensure_roots(self.survey)
            settled = [(roots[root], path) for root, path in self.survey.settled]
            forget_failures(self.db, self.table, settled)
        # Without an index there is nothing to embed, nor any image to have a vector from.
        if index is not None:
            self._bring_up_to_date(index, self.survey, roots)
            if self.alone:
                self._part(index)
        if self.request.prune:
            self._prune(roots)
        forget_old_warnings(self.db, self.table)
        if index is not None and choice.is_replacement:
            self._put_into_use(index)

    def _bring_up_to_date(self, index: Index, survey: Survey, roots: dict[str, int]) -> None:
        self._reuse(index, survey, roots)
        self._read_metadata(survey, roots)
        self._pair(survey)
        if self.encoder is not None and survey.to_embed:
            self._embed(index, survey, self.encoder, roots)

    def _part(self, index: Index) -> None:
        """What is left of pairs whose pictures turned out to be bad are images, or companions of the next best picture."""
        self.parted = len(self.alone)
        limit = self.request.limit
        if limit is not None:
            limit -= self.done
        left = places_of(self.alone)
        if limit == 0 or not left:
            return
        request = replace(self.request, paths=left, limit=limit, retry_failed=False, copies=True)
        try:
            survey = take_survey(request)
        except ImageSearchError:
            return  # What cannot be looked at any more is for the next run.
        self.parted -= survey.companions
        # Rows that were gone, and of these files, which may have been moved.
        taken = {reuse.source_id for reuse in survey.reused if reuse.moved}
        taken |= {file.image_id for file in survey.to_embed if file.image_id is not None}
        self.gone = {file: row for file, row in self.gone.items() if row.image_id not in taken}
        with store.transaction(self.db):
            roots = self._ensure_roots(survey)
        self._bring_up_to_date(index, survey, roots)

    def _ensure_index(self, embedder: Embedder) -> Index:
        weights = self.request.weights
        return ensure_index(
            self.db,
            self.table,
            model=self.survey.model,
            weights=str(weights.resolve()) if weights else None,
            fingerprint=embedder.fingerprint,
            dimensions=embedder.dimensions,
            path_column=self.survey.path_column,
            content_column=self.survey.content_column,
            unfinished=self.survey.choice.is_unfinished,
        )

    def _put_into_use(self, index: Index) -> None:
        """Replace the earlier indexes, unless images would lose their vector by that."""
        choice = self.survey.choice

        def note() -> None:
            self.replacement = found

        with store.transaction(self.db, committed=note):
            found = replacement_by(self.db.conn, choice, index=index)
            if not found.left_out or self.request.drop_missing:
                take_over(self.db, self.table, index, choice.replaced)
                found = replace(found, is_in_use=True)

    def _ensure_roots(self, survey: Survey) -> dict[str, int]:
        """Path -> id, of all existing and new roots."""
        files = [image for image in survey.to_embed if isinstance(image, FoundFile)]
        reused = [reuse.file for reuse in survey.reused]
        return ensure_roots(self.db, {file.root for file in (*files, *reused)})

    def _reuse(self, index: Index, survey: Survey, roots: dict[str, int]) -> None:
        for batch in batches(survey.reused, BATCH):
            write_reused(
                self.db,
                self.table,
                index,
                [
                    ReusedImage(
                        image_id=reuse.source_id if reuse.moved else reuse.file.image_id,
                        source_id=reuse.source_id,
                        root_id=roots[reuse.file.root],
                        path=reuse.file.path,
                        size=reuse.file.size,
                        mtime=reuse.file.mtime,
                        companions=reuse.file.companions,
                    )
                    for reuse in batch
                ],
            )
            moved = sum(reuse.moved for reuse in batch)
            self.moved += moved
            self.reused += len(batch) - moved

    def _pair(self, survey: Survey) -> None:
        for batch in batches(survey.to_pair, BATCH):
            companions = [(file.image_id, file.companions) for file in batch if file.image_id]
            write_companions(self.db, self.table, companions)

    def _read_metadata(self, survey: Survey, roots: dict[str, int]) -> None:
        files = survey.to_read
        done = 0
        for batch in batches(read_again(files, roots, self.request.decoders), BATCH):
            found = [image for image in batch if image is not None]
            write_metadata(self.db, self.table, found, partial(self._count_read, len(found)))
            done += len(batch)
            self.on_progress(Progress(done, len(files), 0, "", "Reading metadata"))

    def _count_read(self, count: int) -> None:
        self.read += count

    def _embed(self, index: Index, survey: Survey, encoder: Encoder, roots: dict[str, int]) -> None:
        self.total += len(survey.to_embed)
        self._show_progress()
        # The model need not wait while a batch is written.
        encode = partial(self._encode, survey, encoder, roots)
        with made_ahead(encode) as encoded:
            for batch in encoded:
                committed = partial(self._count, batch)
                write_batch(self.db, self.table, index, batch.images, batch.failures, committed)
                self._show_progress()

    def _encode(
        self,
        survey: Survey,
        encoder: Encoder,
        roots: dict[str, int],
        is_wanted: Callable[[], bool],
    ) -> Generator[EncodedBatch, None, None]:
        # In another thread than that of the other connection.
        with open_or_make(self.request.database) as db:
            with_content = partial(self._with_content, db)
            yield from encoder.encode(survey.to_embed, roots, with_content, is_wanted)

    def _count(self, batch: EncodedBatch) -> None:
        for failure, told in zip(batch.failures, batch.told, strict=True):
            (self.warnings if failure.embedded else self.failures).append(told)
        self.alone += batch.alone
        self.done += batch.count
        self.images_of[batch.node] += batch.count

    def _with_content(self, db: Database, image: ImageSource) -> ImageSource:
        column = self.survey.content_column
        if column is None or not isinstance(image, OwnImage):
            return image
        content = own_content(db.conn, self.table, column, image.image_id)
        if image.size and not content and image.problem is None:
            return replace(image, problem=NO_CONTENT)
        return replace(image, content=content)

    def _prune(self, roots: dict[str, int]) -> None:
        for batch in batches(self.gone.items(), BATCH):
            delete_images(
                self.db,
                self.table,
                [
                    (before.image_id, roots[root], path)
                    for (root, path), before in batch
                    if before.image_id is not None
                ],
                [(roots[root], path) for (root, path), before in batch if before.failed],
            )
        self.pruned = True

    @property
    def where(self) -> str:
        return self.encoder.where if self.encoder else ""

    @property
    def nodes(self) -> tuple[NodeWork, ...]:
        return self.encoder.nodes(self.images_of) if self.encoder else ()

    def _show_progress(self) -> None:
        failed, is_cluster = len(self.failures), self.request.ray is not None
        self.on_progress(Progress(self.done, self.total, failed, self.where, is_cluster=is_cluster))
