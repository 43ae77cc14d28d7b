"""What an actor may do with the albums of an image table."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from ...store.tables import column_names
from ...store.triggers import has_albums
from ..compat import can_change_rows, can_view_table
from ..reading import read_bounded
from .requested_table import RequestedTable

INSERT, UPDATE, DELETE, CREATE = "insert-row", "update-row", "delete-row", "create-table"


@dataclass(frozen=True)
class AlbumRights:
    """
    Whether the actor of a request may see the albums that there are; add images to them, or make new ones; take images
    out; give albums other names; and delete them. Nobody may change what they may not see.
    """

    see: bool = False
    add: bool = False
    create: bool = False
    remove: bool = False
    rename: bool = False
    delete: bool = False
    in_the_way: str | None = None
    """A table of somebody else that has the name of one of theirs, so that there can be no albums."""

    @property
    def change(self) -> bool:
        """Whether there is anything that they may change."""
        return self.add or self.create or self.remove or self.rename or self.delete


async def album_rights(requested: RequestedTable) -> AlbumRights:
    """Of the actor of a request who may see the image table."""
    table, database = requested.table, requested.database
    albums, members = table.side("albums"), table.side("album_members")

    def read(conn: sqlite3.Connection) -> tuple[bool, str | None]:
        taken = [name for name in (albums, members) if column_names(conn, name)]
        exist = has_albums(conn, table)
        return exist, taken[0] if taken and not exist else None

    exist, in_the_way = await read_bounded(database, read)
    datasette, actor = requested.datasette, requested.request.actor
    see = True
    for side in (albums, members):
        see = see and await can_view_table(datasette, actor, database.name, side)
    if not see or not database.is_mutable or in_the_way is not None:
        return AlbumRights(see=see, in_the_way=in_the_way if see else None)

    async def may(action: str, side: str | None) -> bool:
        return await can_change_rows(datasette, actor, action, database.name, table.name, side)

    if not exist:
        return AlbumRights(see=True, create=await may(CREATE, None))
    add, remove = await may(INSERT, members), await may(DELETE, members)
    return AlbumRights(
        see=True,
        add=add,
        create=add and await may(INSERT, albums),
        remove=remove,
        rename=await may(UPDATE, albums),
        delete=remove and await may(DELETE, albums),
    )
