"""
Side tables hold what is made of an image table, such as vectors, thumbnails, failures and tags. They are
hidden from whoever may not see the image table; side tables of the whole database, from whoever may not
see all of its image tables. Albums and what is in them are hidden together.

The rules here only deny. All else is up to Datasette's permissions of the side table itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping
from contextvars import Context, ContextVar
from typing import Any
from weakref import WeakSet

from datasette.app import Datasette
from datasette.database import Database

from ...store.side_tables import is_machinery, is_named_like_side_table, told_together
from ...store.side_tables import side_tables as stored_side_tables
from ...store.tables import folded
from ..compat import (
    can_view_table,
    labels_ignore_actors,
    listed_tables,
    rules_of_tables,
    table_configuration,
)
from ..reading import SchemaCache
from .visits import Actor, asked, current_visit, sees, visitor_sees

_made_of = SchemaCache(stored_side_tables)
"""Side tables come and go with changes of the schema."""

_deciding: ContextVar[bool] = ContextVar("image_search_deciding", default=False)
"""Whether a rule is just asking what the other rules say."""


async def denial(datasette: Datasette, actor: Actor, database: str, table: str) -> bool | None:
    """False for a side table that this actor may not see, whatever other rules say; else None."""
    served = datasette.databases.get(database)
    if served is None or _deciding.get():
        return None
    made_of = await side_tables(datasette, served)
    if made_of is None:
        return False if is_named_like_side_table(table) else None
    for side, images in made_of.items():
        if _is_same(side, table) and not await _may_see(
            datasette, actor, database, side, images, made_of
        ):
            return False
    return None


async def rules(datasette: Datasette, actor: Actor) -> Any:
    """The same for Datasette 1.0: rules that deny side tables to this actor, or None for none."""
    denied = await _denied_tables(datasette, actor)
    return rules_of_tables(denied) if denied else None


async def _denied_tables(datasette: Datasette, actor: Actor) -> list[tuple[str, str]]:
    """The side tables of all databases that this actor may not see: (database, table)."""
    if _deciding.get():
        return []
    deciding = _deciding.set(True)
    denied = []
    try:
        for name, database in list(datasette.databases.items()):
            made_of = await side_tables(datasette, database)
            if made_of is None:
                listed = await listed_tables(datasette, name)
                denied += [(name, each) for each in listed if is_named_like_side_table(each)]
                continue
            for side, images in made_of.items():
                if not await _may_see(datasette, actor, name, side, images, made_of):
                    denied.append((name, side))
    finally:
        _deciding.reset(deciding)
    return denied


async def _may_see(
    datasette: Datasette,
    actor: Actor,
    database: str,
    side: str,
    images: Iterable[str],
    made_of: Mapping[str, frozenset[str]],
) -> bool:
    # A side table is only asked for if its image table is seen: in between, no rule of ours denies it, and Datasette
    # remembers the answer for the rest of the request.
    for table in sorted(images, key=made_of.__contains__):
        if not await sees(datasette, actor, database, table):
            return False
    for table in told_together(side, images):
        if not _is_same(table, side) and not await _is_allowed(datasette, actor, database, table):
            return False
    return True


async def _is_allowed(datasette: Datasette, actor: Actor, database: str, table: str) -> bool:
    """Whether an actor may see a table by all rules but those here."""

    async def ask() -> bool:
        _deciding.set(True)
        return await can_view_table(datasette, actor, database, table)

    known, key = current_visit().allowed, asked(actor, database, table)
    if key not in known:
        # In a context of its own: within that of the request, Datasette takes this for the answer of all rules.
        known[key] = await Context().run(asyncio.get_running_loop().create_task, ask())
    return known[key]


def _is_same(name: str, other: str) -> bool:
    return folded(name) == folded(other)


async def side_tables(
    datasette: Datasette, database: Database
) -> Mapping[str, frozenset[str]] | None:
    """
    Side table -> the image tables that it is made of; None if these cannot be read. Looked up again for
    each request: a new side table must be hidden from its first second.
    """
    visit = current_visit()
    known = _made_of.last(database)
    if known is not None and database in visit.read:
        return known
    try:
        known = await _made_of.get(database)
    except sqlite3.Error:
        return known
    visit.read.add(database)
    _hide(datasette, database)
    return known


async def is_about_images(datasette: Datasette, database: Database, table: str) -> bool:
    """Whether a table is an image table or a side table; True if that cannot be read."""
    made_of = await side_tables(datasette, database)
    return made_of is None or any(
        _is_same(table, name) for side, images in made_of.items() for name in (side, *images)
    )


async def hide_in_all(datasette: Datasette) -> None:
    """Hides side tables of all databases, from the first page on."""
    for database in list(datasette.databases.values()):
        await side_tables(datasette, database)


def _hide(datasette: Datasette, database: Database) -> None:
    """
    Datasette lists hidden tables last, below a link. It has no hook for that, and lines in its
    configuration would show everybody the names of databases and tables that they may not see.
    """
    if database in _hiding:
        return
    _hiding.add(database)
    hidden_by_datasette = database.hidden_table_names

    async def hidden_table_names() -> list[str]:
        hidden = list(await hidden_by_datasette())
        for side in await side_tables(datasette, database) or ():
            if is_machinery(side) and side not in hidden:
                written = await table_configuration(datasette, database.name, side)
                if written.get("hidden") is not False:
                    hidden.append(side)
        return hidden

    database.hidden_table_names = hidden_table_names


_hiding: WeakSet[Database] = WeakSet()
"""The databases that hide their side tables."""


def hide_labels(datasette: Datasette) -> None:
    """
    Hides the labels of images, from `label_column`, in other tables and in facets from whoever may not
    see the image table. Datasette 1.0 does so itself.
    """
    if not labels_ignore_actors(datasette):
        return
    labels_of = datasette.expand_foreign_keys

    async def expand_foreign_keys(
        database: str, table: str, column: str, values: Iterable[Any]
    ) -> dict[tuple[str, Any], str]:
        served = datasette.get_database(database)
        for key in await served.foreign_keys_for_table(table):
            other = key["other_table"]
            if (
                key["column"] == column
                and await is_about_images(datasette, served, other)
                and not await visitor_sees(datasette, database, other)
            ):
                return {}
        labels: dict[tuple[str, Any], str] = await labels_of(database, table, column, values)
        return labels

    datasette.expand_foreign_keys = expand_foreign_keys
