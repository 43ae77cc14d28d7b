"""What stands where a file of ours goes, and is none: opening a pipe would wait for ever."""

from __future__ import annotations

import stat

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def special_kind(mode: int) -> str | None:
    """What a person would call it; None for a regular file. `mode` is st_mode."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")
