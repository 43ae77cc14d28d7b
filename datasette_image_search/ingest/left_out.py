"""What a walk over folders leaves out because it is no picture of a person's: other files, folders of tools."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..errors import counted
from .exclusion import Exclusion

SHOWN_NAMES = 3

_TOOL_FOLDERS = frozenset({
    "@eadir", "#recycle", "@recycle", "$recycle.bin", "recycler", "#snapshot", "@snapshot", "@recently-snapshot",
    "~snapshot", "system volume information", "lost+found", "node_modules", "__macosx",
})  # fmt: skip
"""In lower case: recycle bins, snapshots, and what network drives and tools fill with thumbnails."""

_TOOL_PLACES = re.compile(r"\.photoslibrary/resources/(proxies/)?derivatives$", re.IGNORECASE)
"""The smaller copies that Photos of macOS keeps of all pictures in its library."""

VIDEO, PDF, SOUND, OTHER = "video", "PDF", "sound file", "other file"

_KINDS = {
    ".pdf": PDF,
    **dict.fromkeys(
        (
            ".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".vob",
            ".wmv", ".asf", ".flv", ".3gp", ".3g2", ".ogv", ".mod", ".tod", ".divx", ".insv", ".lrv",
        ),
        VIDEO,
    ),
    **dict.fromkeys((".mp3", ".m4a", ".aac", ".wav", ".flac", ".ogg", ".opus", ".wma", ".amr"), SOUND),
}  # fmt: skip

_BESIDE_PICTURES = frozenset({".xmp", ".aae", ".thm"})
"""What cameras and editors know of the picture beside it."""

_OF_SYSTEMS = frozenset({"thumbs.db", "desktop.ini"})

_OF_DATABASES = ("-wal", "-shm", "-journal", "-image-search")
"""How the names of files of SQLite and of ours go on after that of their database."""


@dataclass(frozen=True)
class LeftOut:
    """
    What was met and is no picture: the number of `files` by kind, the most frequent first, and of folders
    of tools by name. Nothing that is hidden is counted. `unmatched` are the patterns to exclude that
    matched nothing, and `only_named` those that matched only what a person named. `images` of the table,
    such as `example`, a path, are of files that are left out now: they stay as they are.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    only_named: tuple[str, ...] = ()
    images: int = 0
    example: str = ""

    def met(self) -> list[str]:
        """In a person's words: "37 videos", "2 folders of other programs (#recycle)"."""
        met = [counted(number, kind) for kind, number in self.files.items()]
        if self.folders:
            names = ", ".join(islice(self.folders, SHOWN_NAMES))
            if len(self.folders) > SHOWN_NAMES:
                names += ", ..."
            folders = counted(sum(self.folders.values()), "folder")
            met.append(f"{folders} of other programs ({names})")
        return met


class LeftOutCount:
    """The count during a walk, without the files of the `database` that the run is for."""

    def __init__(self, database: Path | None = None) -> None:
        self._database = database.resolve() if database is not None else None
        self._files: Counter[str] = Counter()
        self._folders: Counter[str] = Counter()

    def add_file(self, name: str, folder: str) -> None:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (for each of very many files)
        if suffix in _BESIDE_PICTURES or name.lower() in _OF_SYSTEMS:
            return
        if not self._is_of_database(name, folder):
            self._files[_KINDS.get(suffix, OTHER)] += 1

    def _is_of_database(self, name: str, folder: str) -> bool:
        database = self._database
        if database is None or not name.startswith(database.name):
            return False
        is_named_so = name == database.name or name.startswith(
            tuple(f"{database.name}{end}" for end in _OF_DATABASES)
        )
        try:
            return is_named_so and os.path.samefile(folder, database.parent)  # noqa: PTH121
        except OSError:
            return False

    def add_folder(self, name: str) -> None:
        self._folders[name] += 1

    def total(self, exclusion: Exclusion) -> LeftOut:
        files, folders = self._files.most_common(), self._folders.most_common()
        return LeftOut(dict(files), dict(folders), exclusion.unmatched, exclusion.only_named)


def is_of_a_tool(path: str) -> bool:
    """Whether a folder, by its absolute path, is one that a tool or a drive has for itself."""
    folder = path.replace(os.sep, "/")
    return folder.rpartition("/")[2].lower() in _TOOL_FOLDERS or bool(_TOOL_PLACES.search(folder))
