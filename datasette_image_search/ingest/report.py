"""What a run tells while it goes on, at its end, and before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..decoding.decode import may_need_extra, missing_extra_for
from ..decoding.kinds import HEAD
from ..store.tables import KnownSource
from .left_out import LeftOut
from .own_images import ImageSource, OwnImage
from .replacing import Replacement
from .survey import Survey

EMBEDDING = "Embedding"
"""What a run does with pictures, as its progress says."""


@dataclass(frozen=True)
class Progress:
    """
    Progress of a run: images done and in total, failures among the done, and the device; "" if no model
    is used. `is_cluster` says that the device is nodes and actors, whose numbers may change.
    """

    done: int
    total: int
    failed: int
    device: str
    doing: str = EMBEDDING
    is_cluster: bool = False


@dataclass(frozen=True)
class NodeWork:
    """
    What a node of a cluster did: its actors and their device, the images that are committed, how many of these in a second
    in which the cluster worked, and the batches that were lost with an actor. `problem` says why an actor of it was given up.
    """

    name: str
    actors: int
    device: str
    images: int
    rate: float
    lost: int
    problem: str | None = None


@dataclass(frozen=True)
class FailedImage:
    """
    An image that could not be embedded, or only in part; `file` is its path if `path` is only the key of a
    row.
    """

    path: str
    reason: str
    file: str | None = None


@dataclass(frozen=True)
class Summary:
    """
    The result of a run or, with `embedded` as the number to embed, of a plan. `reused` counts copies, and
    files of which only the time has changed. `failures` are this run's, or those that are certain before
    any picture is decoded, which `embedded` does not count; `failed_before` counts images that failed in an
    earlier one and have not changed. `read` counts unchanged files of which only the metadata was read.
    `warnings` are of images that were embedded though something is wrong with
    them. `gone` files were removed from the table if `pruned`. `empty_rows`
    of a person's own table have no image in `column`. `other_tables` are the image tables beside a new
    one. `device` is None if no model was needed. `given_up` is the model of an unfinished index that
    was dropped; `unfinished` is that of one that was kept, with the number of its vectors. `migrated` says
    whether the run brought the database to this version, `not_written` why the sidecars could not be
    written, None if they were. `left_out` is what was met in the folders and is no picture. `located` counts the
    images that got a place, if the extra `places` is installed. `companions` counts the files that are no images, as they
    are of the photo of another. `nodes` are those of a cluster.
    """

    embedded: int
    reused: int
    moved: int
    unchanged: int
    gone: int
    failed_before: int
    model: str
    read: int = 0
    empty_rows: int = 0
    column: str | None = None
    is_new_table: bool = False
    other_tables: tuple[str, ...] = ()
    failures: tuple[FailedImage, ...] = ()
    warnings: tuple[FailedImage, ...] = ()
    failures_table: str = ""
    pruned: bool = False
    seconds: float = 0.0
    device: str | None = None
    interrupted: bool = False
    replacement: Replacement | None = None
    given_up: str | None = None
    unfinished: tuple[str, int] | None = None
    migrated: bool = False
    not_written: str | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    located: int = 0
    companions: int = 0
    nodes: tuple[NodeWork, ...] = ()


def summary_of(survey: Survey) -> Summary:
    """What a run would do."""
    moved = sum(reuse.moved for reuse in survey.reused)
    failures = tuple(_expected_failures(survey))
    return Summary(
        embedded=len(survey.to_embed) - len(failures) + len(survey.unusable),
        reused=len(survey.reused) - moved,
        moved=moved,
        unchanged=survey.unchanged,
        gone=rows_gone(survey.gone),
        failed_before=survey.failed_before,
        model=survey.model,
        read=len(survey.to_read),
        left_out=survey.left_out,
        companions=survey.companions,
        empty_rows=survey.empty_rows,
        column=survey.path_column or survey.content_column,
        is_new_table=survey.is_new_table,
        other_tables=survey.other_tables,
        failures=failures,
        replacement=survey.replacement,
        given_up=survey.choice.given_up.model if survey.choice.given_up else None,
        unfinished=(survey.unfinished[0].model, survey.unfinished[1])
        if survey.unfinished
        else None,
    )


def rows_gone(gone: Mapping[tuple[str, str], KnownSource]) -> int:
    """How many of some missing files have a row; the others failed."""
    return sum(before.image_id is not None for before in gone.values())


def _expected_failures(survey: Survey) -> Iterator[FailedImage]:
    yield from (FailedImage(failure.path, failure.reason) for failure in survey.unusable)
    for image in survey.to_embed:
        problem = image.problem or _missing_extra(image)
        if problem:
            yield failed_image(image, problem)


def _missing_extra(image: ImageSource) -> str | None:
    if not may_need_extra(image.name):
        return None
    try:
        head = image.read(HEAD)
    except OSError:
        return None
    error = missing_extra_for(head, image.name) if head else None
    return str(error) if error is not None else None


def failed_image(image: ImageSource, reason: str) -> FailedImage:
    return FailedImage(image.path, reason, image.file if isinstance(image, OwnImage) else None)
