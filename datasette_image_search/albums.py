"""
The albums of an image table, in Python: see docs/albums.md.

    from datasette_image_search import Images
    from datasette_image_search.albums import Albums

    with Images("photos.db") as images:
        Albums(images).add("Blue", [hit.id for hit in images.search("dark blue")])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .api import Images
from .checked import as_key, check_text, several
from .store import Index, Key
from .store.album_rows import Album
from .store.albums import (
    add_to_album,
    album_members,
    delete_album,
    read_albums,
    remove_from_album,
    rename_album,
)
from .store.connections import checkpoint
from .store.file_ids import ids_of_files
from .store.filters import image_ids, row_filter
from .store.opened import Paths, as_paths, used


@used
class Albums:
    """
    The albums of `images`, which opens the database and closes it. All methods raise ImageSearchError, with a sentence
    that says what to do.

    The images to add or to remove are named by their `ids`, by a `where` with the values of its :names in `params`, and
    by `files`, which are paths on this machine, or as the table has them; all of these together.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._database = images._database

    def all(self) -> list[Album]:
        """
        Each with its `id`, its `name` and the number of its `images`, in the order of the names.

            albums.all()
        """
        return read_albums(self._images.conn, self._index().table)

    def members(self, name: str) -> list[Key]:
        """
        The ids of the images in an album, those that were added first first.

            albums.members("Blue")
        """
        return album_members(self._images.conn, self._index().table, name)

    def add(
        self,
        name: str,
        ids: Sequence[Key] = (),
        *,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        files: Paths | Sequence[Paths] = (),
    ) -> int:
        """
        How many images are new in the album, which is made if there is none.

            albums.add("Blue", [1, 2], where="folder = :folder", params={"folder": "Lisbon"})
        """
        check_text("name", name)
        chosen = self._chosen(ids, where, params, files)
        db = self._database.to_write()
        added = add_to_album(db, self._index(), name, chosen)
        checkpoint(db)
        return len(added)

    def remove(
        self,
        name: str,
        ids: Sequence[Key] = (),
        *,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        files: Paths | Sequence[Paths] = (),
    ) -> int:
        """
        How many images have left the album. They stay in the table.

            albums.remove("Blue", [2])
        """
        chosen = self._chosen(ids, where, params, files)
        db = self._database.to_write()
        removed = remove_from_album(db, self._index().table, name, chosen)
        checkpoint(db)
        return len(removed)

    def rename(self, name: str, new: str) -> None:
        """
        Give an album another name.

            albums.rename("Blue", "Sea and sky")
        """
        check_text("name", new)
        db = self._database.to_write()
        rename_album(db, self._index().table, name, new)
        checkpoint(db)

    def delete(self, name: str) -> int:
        """
        Delete an album, and no image; how many were in it.

            albums.delete("Sea and sky")
        """
        db = self._database.to_write()
        deleted = delete_album(db, self._index().table, name)
        checkpoint(db)
        return deleted

    def _index(self) -> Index:
        return self._images.index_of()

    def _chosen(
        self,
        ids: Sequence[Key],
        where: str | None,
        params: Mapping[str, Any] | None,
        files: Paths | Sequence[Paths],
    ) -> list[Key]:
        conn, index = self._images.conn, self._index()
        chosen = [as_key(id) for id in several("ids", ids, int, str)]
        filter = row_filter(where, params)
        if filter is not None:
            chosen += image_ids(conn, index.table, filter)
        paths = as_paths("files", files)
        if paths:
            folder = self._images.path.resolve().parent
            chosen += ids_of_files(conn, index, folder, paths)
        return chosen
