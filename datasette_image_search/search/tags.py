"""
Zero-shot classification: finds the label that fits an image best.

A label is put into one template or several, as in "a photo of a {}", and the mean of their vectors is
that of the label: prompts and ensembles of them are from Radford et al., "Learning Transferable Visual
Models From Natural Language Supervision" (2021). The probabilities of an image's labels are the
softmax of its scores times the model's logit scale, so they say how labels compete, and add up to 1
also where none of them fits.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
from sqlite_utils import Database

from ..checked import check_flag, check_share, check_whole, several
from ..embedders.protocol import TextEncoder
from ..errors import ImageSearchError
from ..progress import OnProgress
from ..store import Filter, Index, Key
from ..store.stored_vectors import StoredVectors
from ..store.tables import LabelSet, TagRow
from ..store.tags import (
    drop_other_label_sets,
    ensure_label_set,
    newest_label_sets,
    sets_of_labels,
    untagged_vectors,
    write_tags,
)
from ..store.vectors import vectors_by_id
from .query import check_letters, is_text
from .similarity import scores_by_image

TEMPLATE = "a photo of a {}"
"""CLIP was trained on texts more like this than like a bare word."""

AS_IT_IS = ("{}",)
"""The template of labels that are whole sentences."""

LONGEST_JSON = 1_000_000
"""Characters of labels in SQL, which may have made them of a whole table."""

TEXTS = 256
"""Texts that are encoded at once."""

IMAGES = 10_000
"""Images that are looked at and committed at once, less where labels are many."""

SCORES = 5_000_000
"""Scores that are held at once."""


class LabelError(ImageSearchError):
    """The labels, or the way to choose among them, say nothing about an image."""


@dataclass(frozen=True)
class Tagged:
    """
    Progress of tagging with a label set: images done and in total, with and without tags. `warnings`
    are about labels that the embedder understands only in part.
    """

    doing: ClassVar = "Tagging"
    label_set: LabelSet
    warnings: tuple[str, ...]
    done: int
    total: int
    tagged: int = 0
    without: int = 0


# --- Labels -> vectors -----------------------------------------------------------------------------


def checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """
    The labels without blanks around them. Raises LabelError for fewer than two, and for an empty, too
    long or repeated one.
    """
    labels = tuple(label.strip() for label in several("labels", labels, str))
    for label in labels:
        _check_text(label)
    if len(labels) == 1:
        raise LabelError(
            f"{labels[0]!r} is the only label, so every image would get it; name another one, such as "
            "'something else'"
        )
    if not labels:
        raise LabelError("there are no labels; name two or more, such as: cat dog")
    label, times = Counter(labels).most_common(1)[0]
    if times > 1:
        raise LabelError(f"the label {label!r} comes {times} times; name it once")
    return labels


def checked_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """
    The templates without repetition. Raises LabelError for one that is too long or has no place for the
    label.
    """
    templates = several("templates", templates, str)
    for template in templates:
        if "{}" not in template:
            raise LabelError(
                f"the template {template!r} has no place for the label; put {{}} there, as in "
                "'a photo of a {}'"
            )
        check_letters(f"the template {template[:40]!r}", template, error=LabelError)
    return tuple(dict.fromkeys(templates))


def parse_labels(text: str) -> tuple[str, ...]:
    """A JSON array of one text or more, as SQL has it. Raises LabelError."""
    if isinstance(text, str) and len(text) > LONGEST_JSON:
        raise LabelError(
            f"the labels have {len(text):,} characters; at most {LONGEST_JSON:,} are read, so name "
            "fewer of them"
        )
    try:
        labels = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list) or not labels or not all(isinstance(x, str) for x in labels):
        raise LabelError(
            f"the labels are {text!r:.200}; they must be a JSON array of texts, such as "
            """'["cat", "dog"]'"""
        )
    for label in labels:
        _check_text(label)
    return tuple(labels)


def _check_text(label: str) -> None:
    if not label.strip():
        raise LabelError("one of the labels is empty; leave it out")
    if not is_text(label):
        raise LabelError(
            f"the label {label!r:.200} is not valid text: half of a character is missing"
        )
    check_letters(f"the label {label[:40]!r}", label, error=LabelError)


@lru_cache(maxsize=32)
def label_vectors(
    embedder: TextEncoder, labels: tuple[str, ...], templates: tuple[str, ...] = AS_IT_IS
) -> np.ndarray:
    """
    The vectors of labels, shape (labels, dimensions), float32, unit norm: the mean over the templates.
    Raises TextNotUnderstood, also if the embedder reads no words at all.
    """
    total = np.zeros((len(labels), embedder.dimensions), dtype=np.float32)
    for template in templates:
        for start in range(0, len(labels), TEXTS):
            texts = [_text(template, label) for label in labels[start : start + TEXTS]]
            total[start : start + TEXTS] += embedder.encode_texts(texts)
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def _warnings(embedder: TextEncoder, label_set: LabelSet) -> Iterator[str]:
    for label in label_set.labels:
        for template in label_set.templates:
            if warning := embedder.text_warning(_text(template, label)):
                yield warning


def _text(template: str, label: str) -> str:
    # Not str.format: a label may have braces.
    return template.replace("{}", label)


# --- One image -> its best label -------------------------------------------------------------------


def best_label(image: np.ndarray, labels: np.ndarray) -> int:
    """
    The position of the label whose vector is closest to one of those of an image, shape (n, dimensions), the first of
    equals.
    """
    # Rounded like the codes, which answer for all images at once.
    return int(np.argmax((labels @ image.astype("<f2").astype("<f4").T).max(axis=1)))


def best_label_by_image(
    conn: sqlite3.Connection, index: Index, labels: np.ndarray, *, compute: bool = True
) -> memoryview | None:
    """
    The position of the best label at the id of every image, -1 if it has no vector; None if
    `scores_by_image` gives none. `labels` has shape (n, dimensions), unit norm.
    """
    best: np.ndarray | None = None
    for number, vector in enumerate(labels):
        found = scores_by_image(conn, index, vector, compute=compute)
        if found is None:
            return None
        scores = np.asarray(found)
        if best is None:
            best = np.full(len(scores), -1, dtype=np.int32)
            highest = np.full(len(scores), -np.inf, dtype=np.float32)
        # False for NaN.
        better = scores > highest
        best[better] = number
        highest[better] = scores[better]
    return None if best is None else best.data


# --- All images -> the table of tags ---------------------------------------------------------------


def ready_label_set(
    db: Database,
    index: Index,
    embedder: TextEncoder,
    labels: Sequence[str],
    templates: Sequence[str] = (),
    *,
    top: int | None = None,
    threshold: float | None = None,
) -> LabelSet:
    """
    The label set to tag images with, as last used or as asked for. The default template is TEMPLATE;
    without `top` and `threshold`, an image gets its best label.

    Raises LabelError and TextNotUnderstood, before anything is written.
    """
    labels = checked_labels(labels)
    if not templates:
        known_sets = sets_of_labels(db.conn, index, labels)
        templates = known_sets[-1].templates if known_sets else (TEMPLATE,)
    templates = checked_templates(templates)
    if top is not None:
        check_whole("top", top, 1)
    if threshold is not None:
        check_share("the threshold", threshold, such_as=0.5)
    label_vectors(embedder, labels, templates)
    if top is None and threshold is None:
        known = sets_of_labels(db.conn, index, labels, templates)
        top, threshold = (known[-1].top, known[-1].threshold) if known else (1, None)
    return ensure_label_set(db, index, labels, templates, top=top, threshold=threshold)


def tag_with(
    db: Database,
    index: Index,
    embedder: TextEncoder,
    labels: Sequence[str],
    *,
    templates: Sequence[str] = (),
    top: int | None = None,
    threshold: float | None = None,
    filter: Filter | None = None,
    replace: bool = False,
) -> Iterator[Tagged]:
    """
    tag_images() with the label set of some labels, as ready_label_set() makes it, or without any with
    those of all labels that were used last. Raises LabelError if there are none.
    """
    check_flag("replace", replace)
    chosen = newest_label_sets(db.conn, index)
    if labels:
        chosen = [
            ready_label_set(db, index, embedder, labels, templates, top=top, threshold=threshold)
        ]
    elif not chosen or templates or (top, threshold) != (None, None) or replace:
        raise LabelError("there are no labels; name two or more, such as: cat dog")
    for label_set in chosen:
        yield from tag_images(db, index, label_set, embedder, filter, in_place_of_others=replace)


def last_of_each(steps: Iterable[Tagged], on_progress: OnProgress) -> list[Tagged]:
    """The last step with each label set; all are told."""
    last = {}
    for tagged in steps:
        on_progress(tagged)
        last[tagged.label_set.id] = tagged
    return list(last.values())


def tag_images(
    db: Database,
    index: Index,
    label_set: LabelSet,
    embedder: TextEncoder,
    filter: Filter | None = None,
    *,
    in_place_of_others: bool = False,
) -> Iterator[Tagged]:
    """
    Tag the images that are new for this label set and pass the filter, in batches that are committed
    before they are yielded; the first that is yielded has none done. At the end it replaces the same
    labels with other templates or limits, or all others. Raises TextNotUnderstood, and FilterError if
    SQLite refuses the filter.
    """
    labels = label_vectors(embedder, label_set.labels, label_set.templates)
    ids = untagged_vectors(db.conn, index, label_set, filter)
    size = max(1, min(IMAGES, SCORES // len(labels)))
    warnings = tuple(dict.fromkeys(_warnings(embedder, label_set)))
    tagged = Tagged(label_set, warnings, 0, len(ids))
    yield tagged
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        stored = vectors_by_id(db.conn, index, some.tolist())
        of_vectors = stored.vectors @ labels.T
        scores = stored.highest(of_vectors)
        probabilities = stored.highest(_softmax(embedder.logit_scale * of_vectors))
        chosen = _chosen(scores, probabilities, label_set)
        rows = _rows(label_set, stored, scores, probabilities, chosen)
        # Under a filter, images in between were left out.
        up_to = int(some[-1]) if filter is None else None
        write_tags(db, index, label_set, rows, up_to)
        with_tags = int(chosen.any(axis=1).sum())
        tagged = replace(
            tagged,
            done=start + len(some),
            tagged=tagged.tagged + with_tags,
            without=tagged.without + len(chosen) - with_tags,
        )
        yield tagged
    drop_other_label_sets(
        db,
        index,
        label_set,
        of_all_labels=in_place_of_others,
        # Images that a filter leaves out keep the tags they have.
        vector_ids=None if filter is None else ids.tolist(),
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _chosen(scores: np.ndarray, probabilities: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """The labels of each image, bool of shape (images, labels)."""
    chosen = np.ones(scores.shape, dtype=bool)
    if label_set.top is not None and label_set.top < scores.shape[1]:
        best = np.argpartition(-scores, label_set.top - 1, axis=1)[:, : label_set.top]
        chosen[:] = False
        np.put_along_axis(chosen, best, values=True, axis=1)
    if label_set.threshold is not None:
        chosen &= probabilities >= label_set.threshold
    return chosen


def _rows(
    label_set: LabelSet,
    stored: StoredVectors,
    scores: np.ndarray,
    probabilities: np.ndarray,
    chosen: np.ndarray,
) -> Iterator[TagRow]:
    images, labels = np.nonzero(chosen)
    images = stored.starts()[images]
    keys: list[Key] = stored.image_ids
    for image, label, score, probability, vector_id in zip(
        images.tolist(),
        labels.tolist(),
        scores[chosen].tolist(),
        probabilities[chosen].tolist(),
        stored.vector_ids[images].tolist(),
        strict=True,
    ):
        yield TagRow(
            image_id=keys[image],
            tag=label_set.labels[label],
            score=score,
            probability=probability,
            label_set_id=label_set.id,
            vector_id=vector_id,
        )
