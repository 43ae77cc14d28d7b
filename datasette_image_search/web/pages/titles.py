"""The columns of our own tables in words, as pages call them; columns of a person's own may mean anything."""

from __future__ import annotations

from ..access.requested_table import RequestedTable
from ..facets.words import ALBUMS, KEYWORDS, TAGS

COLUMNS = {
    "folder": "Folder",
    "filename": "File",
    "camera_make": "Camera",
    "camera_model": "Camera",
    "lens": "Lens",
    "taken_at": "Taken",
    "mtime": "Changed",
    "country": "Country",
    "state": "State",
    "city": "City",
    "artist": "By",
    "format": "Format",
}

WORDS = {ALBUMS.argument: "Album", KEYWORDS.argument: "Keyword", TAGS.argument: "Tag"}
"""Of the parameters that filter by words of images."""


def column_title(requested: RequestedTable, column: str) -> str:
    """The title of a column of ours, else its name."""
    is_ours = requested.table.path_column is not None
    return COLUMNS.get(column, column) if is_ours else column
