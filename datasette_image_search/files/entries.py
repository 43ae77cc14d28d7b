"""
The entry of a folder that a path means. Some drives ignore case, or how accents are written. One file
then has several names, even with other inode numbers, and only the list of its folder tells.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ALIASES = 8
"""The most mounts of folders within mounts of folders to follow."""


@dataclass(frozen=True)
class Mount:
    """`path` shows what `source` has: a device, a share of another machine, or a folder."""

    path: str
    source: str


@dataclass
class Entries:
    """Names as folders list them. Each folder is listed once, for as long as this lives."""

    _spelled: dict[str, str] = field(default_factory=dict)
    _names: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _mounts: list[Mount] | None = None

    def spelled(self, path: str) -> str:
        """
        An absolute path as the folders on the way list it. Missing parts, and parts in a folder that
        cannot be listed, stay as they are.
        """
        if path not in self._spelled:
            above, name = os.path.split(path)
            if not name:
                return path
            folder = self._folder(above)
            self._spelled[path] = os.path.join(folder, self._listed(folder, name))  # noqa: PTH118
        return self._spelled[path]

    def is_listed(self, root: str, path: str) -> bool:
        """Whether the folder of a path below a root lists exactly this name."""
        whole = os.path.join(self.spelled(root), path)  # noqa: PTH118
        return self.spelled(whole) == whole

    def is_same(self, one: Path, other: Path) -> bool:
        """
        Whether two existing paths may mean one entry, so that removing one would remove the other. Hard
        links are entries of their own.
        """
        if self.place(one) == self.place(other) or self._are_in_one_folder(one, other):
            return True
        if one.is_symlink() and (one.samefile(other) or self.is_same(one.resolve(), other)):
            return True
        mine, others = one.stat(), other.stat()
        # A folder shown again by another file system; for a copy, the last of these would differ.
        return mine.st_dev != others.st_dev and _times(mine) == _times(others)

    def place(self, path: Path) -> str:
        """The place of an entry, the same through all links and mounts that lead to it."""
        folder = os.path.realpath(path.parent)
        place = self.spelled(os.path.join(folder, path.name))  # noqa: PTH118
        if self._mounts is None:
            self._mounts = sorted(_mounts(), key=lambda mount: -len(mount.path))
        for _ in range(ALIASES):
            mount = next((each for each in self._mounts if _is_below(place, each.path)), None)
            if mount is None:
                break
            place = mount.source.rstrip("/") + "/" + place[len(mount.path) :].lstrip("/")
            if not (mount.source.startswith("/") and os.path.isdir(mount.source)):  # noqa: PTH112
                break
        return place

    def _are_in_one_folder(self, one: Path, other: Path) -> bool:
        """The case of one folder with two paths, which the system knows to be the same."""
        names = {Path(self.spelled(os.path.abspath(path))).name for path in (one, other)}  # noqa: PTH100
        return len(names) == 1 and one.parent.samefile(other.parent)

    def _folder(self, folder: str) -> str:
        if folder not in self._spelled:
            # Not by recursion: folders can lie deep.
            for path in map(str, (*reversed(Path(folder).parents), Path(folder))):
                above, name = os.path.split(path)
                if name:
                    above = self._spelled[above]
                    self._spelled[path] = os.path.join(above, self._listed(above, name))  # noqa: PTH118
                else:
                    self._spelled[path] = path
        return self._spelled[folder]

    def _listed(self, folder: str, name: str) -> str:
        """The name under which a folder lists what it has under this one."""
        # Asking costs less than listing a folder, and is nearly always enough.
        if not any(os.path.lexists(os.path.join(folder, other)) for other in _others(name)):  # noqa: PTH118
            return name
        if folder not in self._names:
            self._names[folder] = _names_in(folder)
        alike = self._names[folder].get(folded(name), [name])
        return name if name in alike else min(alike)


def _names_in(folder: str) -> dict[str, list[str]]:
    """Folded name -> the names in a folder; empty if it cannot be listed."""
    names: dict[str, list[str]] = {}
    with suppress(OSError), os.scandir(folder) as listing:
        for entry in listing:
            names.setdefault(folded(entry.name), []).append(entry.name)
    return names


def composed(name: str) -> str:
    """A name with its accents in one way: drives and programs write them in two, NFC and NFD."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """A key that is the same for all names that a drive may take for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _others(name: str) -> set[str]:
    """Other names for the same entry on a drive that ignores case, only ASCII case, or accents."""
    if name.isascii():
        return {name.swapcase()} - {name}
    # Drives do not fold one letter into two.
    swapped = [new if len(new := letter.swapcase()) == 1 else letter for letter in name]
    in_ascii = [new if new.isascii() else old for old, new in zip(name, swapped, strict=True)]
    others = {"".join(swapped), "".join(in_ascii)}
    others |= {unicodedata.normalize(form, name) for form in ("NFC", "NFD")}
    return others - {name}


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _mounts() -> Iterator[Mount]:
    """The mounts of this machine, known only on Linux; elsewhere no folder is mounted twice."""
    if sys.platform != "linux":
        return
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return
    # The last mount hides earlier ones.
    for line in reversed(lines):
        _, _, device, root, path, *rest = line.split(b" ")
        source = rest[rest.index(b"-") + 2] if b"-" in rest else b""
        # "tmpfs", say, is the source of many.
        if b"/" not in source and b":" not in source:
            source = device + b":"
        within = _unescaped(root).strip("/")
        source_path = _unescaped(source).rstrip("/") + (f"/{within}" if within else "")
        yield Mount(_unescaped(path), source_path)


def _unescaped(text: bytes) -> str:
    for letter in b" \t\n\\":
        text = text.replace(b"\\%03o" % letter, bytes([letter]))
    return os.fsdecode(text)
