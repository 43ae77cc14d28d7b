"""A group of duplicates as a page shows it: its images side by side, what differs, and which one to keep."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from ...errors import counted
from ...files.remote_urls import is_url, joined
from ...metadata.columns import COLUMNS
from ...quantities import bytes_in_words
from ...search.duplicates import Duplicate, scores_of
from ...store import Index, Key
from ...store.duplicates import ImageFile, image_files
from ...store.reads import image_rows, versions
from ..access.requested_table import RequestedTable
from .cards import Card, image_card
from .shown_images import LARGEST_VALUE, ShownImage
from .timed_reads import in_time

MOST_SHOWN = 24
"""Images of a group on a page. Hundreds are no choice to make by hand."""

UNKNOWN = "unknown"
NO_COMPANIONS = "no other file"

READ_AT_ONCE = 500
"""Images, or pairs of them, within one time limit: a list of all groups may have 100,000."""


@dataclass(frozen=True)
class Member:
    """
    An image of a group that is still there, with its row. The score of `duplicate` is to the one that is `kept`, and
    `suggested` says that it may go by the suggestion.
    """

    duplicate: Duplicate
    row: Mapping[str, Any]
    version: str | None
    kept: bool = False
    suggested: bool = False

    @property
    def id(self) -> Key:
        return self.duplicate.image.image_id

    def path(self, *, with_root: bool) -> str:
        """Of its file, below its root or with that."""
        place = self.duplicate.image.location
        if not with_root:
            return place.path
        if is_url(place.root):
            return joined(place.root, place.path)
        return str(PurePosixPath(place.root, place.path))


@dataclass(frozen=True)
class Group:
    """`number` counts from 1 in the order of all groups."""

    number: int
    members: tuple[Member, ...]

    @property
    def kept(self) -> Member:
        return next(member for member in self.members if member.kept)


@dataclass(frozen=True)
class DuplicateFact:
    """What is said of an image, or of all images of a group; `exactly` is the same as a number, or ""."""

    label: str
    text: str
    exactly: str = ""


@dataclass(frozen=True)
class DuplicateCard:
    """An image beside its duplicates. `facts` are those that not all have; `path` is what a copy of paths has."""

    card: Card
    key: str
    path: str
    suggested: bool
    facts: tuple[DuplicateFact, ...]


@dataclass(frozen=True)
class ShownGroup:
    """`likeness` is of the images to the one that is kept; `same` is what all have; `more` images are not shown."""

    number: int
    title: str
    likeness: DuplicateFact | None
    cards: tuple[DuplicateCard, ...]
    same: tuple[DuplicateFact, ...]
    more: int


def _metadata(member: Member) -> int:
    return sum(member.row.get(column) is not None for column in COLUMNS)


def _time(member: Member) -> str:
    taken, changed = member.row.get("taken_at"), member.duplicate.image.mtime
    return str(taken or changed or "9")


SUGGESTIONS: Mapping[str, tuple[str, Callable[[Member], Any]]] = {
    "best": ("the most pixels", lambda member: 0),
    "largest": ("the largest file", lambda member: -(member.duplicate.image.size or 0)),
    "oldest": ("the oldest", _time),
    "metadata": ("the most metadata", lambda member: -_metadata(member)),
}
"""What to keep, in words, with a sort key. Of equals it is the first: groups begin with the most pixels."""


async def read_groups(
    requested: RequestedTable,
    groups: Iterable[tuple[int, Sequence[Duplicate]]],
    keep: str,
    threshold: float,
    going: Collection[Key] = (),
) -> list[Group]:
    """
    Groups by their numbers, less the images that are gone, and less what is no group without them. `keep` is a
    key of SUGGESTIONS; of the images in `going`, none is kept if the group has another.
    """
    numbered = list(groups)
    ids = [duplicate.image.vector_id for _, group in numbered for duplicate in group]
    there: dict[int, _Row] = {}
    for start in range(0, len(ids), READ_AT_ONCE):
        part = ids[start : start + READ_AT_ONCE]
        there |= await in_time(requested, partial(_read, index=requested.index, vector_ids=part))
    found = await asyncio.to_thread(_marked, numbered, there, SUGGESTIONS[keep][1], going)
    # The scores that are known are to the first of a group.
    first = {number: group[0].image.vector_id for number, group in numbered}
    pairs = [
        (kept, each.duplicate.image.vector_id)
        for group in found
        if (kept := group.kept.duplicate.image.vector_id) != first[group.number]
        for each in group.members
    ]
    scores: dict[int, float] = {}
    for start in range(0, len(pairs), READ_AT_ONCE):
        some = pairs[start : start + READ_AT_ONCE]
        new = await in_time(requested, partial(scores_of, index=requested.index, pairs=some))
        scores |= zip((id for _, id in some), new, strict=True)
    return await asyncio.to_thread(
        lambda: [_suggested(group, scores, threshold) for group in found]
    )


_Row = tuple[ImageFile, dict[str, Any], str | None]


def _read(conn: sqlite3.Connection, index: Index, vector_ids: Sequence[int]) -> dict[int, _Row]:
    """By the ids of their vectors, the images as they are now: files may have moved since they were compared."""
    files = image_files(conn, index, vector_ids)
    ids = [file.image_id for file in files.values()]
    rows = image_rows(conn, index.table, ids, without=index.content_column, largest=LARGEST_VALUE)
    known = versions(conn, index.table, ids)
    return {
        vector_id: (file, rows[file.image_id], known.get(file.image_id))
        for vector_id, file in files.items()
        if file.image_id in rows
    }


def _marked(
    numbered: Iterable[tuple[int, Sequence[Duplicate]]],
    there: Mapping[int, _Row],
    order: Callable[[Member], Any],
    going: Collection[Key],
) -> list[Group]:
    """Those groups of which two images are there, with the one to keep."""
    found = []
    for number, group in numbered:
        members = []
        for each in group:
            file, row, version = there.get(each.image.vector_id, (None, {}, None))
            # Of another picture than was compared, it may be like none of them.
            if file is not None and file.sha256 == each.image.sha256:
                members.append(Member(replace(each, image=file), row, version))
        if len(members) > 1:
            kept = min([each for each in members if each.id not in going] or members, key=order)
            marked = tuple(replace(each, kept=each is kept) for each in members)
            found.append(Group(number, marked))
    return found


def _suggested(group: Group, scores: Mapping[int, float], threshold: float) -> Group:
    """The group with scores to the one that is kept, and without a suggestion to drop what is not like that."""
    kept = group.kept.duplicate.image
    members = []
    for each in group.members:
        image = each.duplicate.image
        exact = not each.kept and image.sha256 is not None and image.sha256 == kept.sha256
        score = 1.0 if exact or each.kept else scores.get(image.vector_id, each.duplicate.score)
        # Without its companions, a file of a pair would leave them alone.
        may_go = not each.kept and not image.has_companions and (exact or score >= threshold)
        members.append(replace(each, duplicate=Duplicate(image, score, exact), suggested=may_go))
    return Group(group.number, tuple(members))


def shown_group(requested: RequestedTable, group: Group, *, with_root: bool) -> ShownGroup:
    """The first MOST_SHOWN of a group; the one to keep is among them."""
    members = group.members[:MOST_SHOWN]
    if group.kept not in members:
        members = (*members[:-1], group.kept)
    facts = [_facts(member, of_several=len(members) > 2) for member in members]
    same = tuple(fact for fact in facts[0].values() if all(fact in each.values() for each in facts))
    cards = []
    for member, each in zip(members, facts, strict=True):
        shown = ShownImage(member.id, dict(member.row), None, member.version)
        cards.append(
            DuplicateCard(
                image_card(requested.urls, shown, requested.index.path_column),
                str(member.id),
                member.path(with_root=with_root),
                member.suggested,
                tuple(fact for fact in each.values() if fact not in same),
            )
        )
    known = tuple(fact for fact in same if fact.text not in (UNKNOWN, NO_COMPANIONS))
    more = len(group.members) - len(members)
    return ShownGroup(
        group.number, _in_words(group), _likeness(group.members), tuple(cards), known, more
    )


def _in_words(group: Group) -> str:
    exact = sum(member.duplicate.exact for member in group.members)
    copies = f", {counted(exact, 'exact copy', 'exact copies')}" if exact else ""
    return f"{counted(len(group.members), 'image')}{copies}"


def _likeness(members: Iterable[Member]) -> DuplicateFact | None:
    """Of those that are no exact copies, such as "98 % alike" or "95 to 98 % alike"; None if all are."""
    scores = sorted(
        each.duplicate.score for each in members if not each.kept and not each.duplicate.exact
    )
    if not scores:
        return None
    least, most = per_cent(scores[0]), per_cent(scores[-1])
    text = f"{least} % alike" if least == most else f"{least} to {most} % alike"
    exactly = " to ".join(dict.fromkeys(f"{score:.4f}" for score in (scores[0], scores[-1])))
    return DuplicateFact("Alike", text, f"Score {exactly}")


def per_cent(score: float) -> int:
    """Rounded down: 100 is for what is equal."""
    return int(score * 100 + 1e-4)


def _facts(member: Member, *, of_several: bool) -> dict[str, DuplicateFact]:
    """By their labels, which all images of a group have."""
    file, row = member.duplicate.image, member.row
    score = member.duplicate.score
    alike = f"{per_cent(score)} %"
    if member.kept or member.duplicate.exact:
        alike = "exact copy" if member.duplicate.exact else "compared with this one"
    metadata = _metadata(member)
    folder = str(PurePosixPath(file.location.path).parent)
    is_sized = file.width is not None and file.height is not None
    texts = {
        # The title of a group of two says it.
        **({"Alike": alike} if of_several else {}),
        "Pixels": f"{file.width} x {file.height}" if is_sized else "",
        "Size": "" if file.size is None else bytes_in_words(file.size),
        "Format": str(row.get("format") or ""),
        "Taken": str(row.get("taken_at") or "")[:16].replace("T", " "),
        "Changed": str(file.mtime or "")[:16].replace("T", " "),
        "Folder": "the top folder" if folder == "." else folder,
        "Metadata": f"{metadata} values" if metadata else "none",
        "With": "other files of the same photo" if file.has_companions else NO_COMPANIONS,
    }
    exactly = {} if member.kept else {"Alike": f"Score {score:.4f}"}
    return {
        label: DuplicateFact(label, text or UNKNOWN, exactly.get(label, ""))
        for label, text in texts.items()
    }
