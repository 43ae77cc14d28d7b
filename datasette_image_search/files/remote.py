"""
Files on other machines, through fsspec: listed in bulk, read concurrently, tried again if the storage is busy.

Errors of reading are OSErrors, as of a local file; those of a whole root are a RemoteError. No sentence holds what a
server said after the "?" of a URL.
"""

from __future__ import annotations

import asyncio
import errno
import io
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from tarfile import ReadError
from typing import Any, BinaryIO, TypeVar, cast
from zipfile import BadZipFile

from cachetools import LRUCache, TTLCache

from .remote_urls import RemoteError, check_protocols, joined, without_secrets
from .told_states import told_state
from .visiting import guard_web, is_visiting

T = TypeVar("T")

BLOCK = 4 * 1024 * 1024
"""Bytes of a file that are read at once, if not all of it is wanted."""

KEPT_BLOCKS = 8
"""Of each open file, of which films jump between their index and their frames."""

UNTOLD = 256 * 1024 * 1024
"""Bytes that are read at most of a file whose size was not told."""

TRIES = 5

FIRST_PAUSE = 0.25
"""Seconds before the second try, twice as many before each further one, and up to a half more by chance."""

LOOKING = 16
"""Threads that ask for sizes and times where a listing has none."""

REMEMBERED = 300
"""Seconds for which an archive stays open: it may be another one later."""

_LASTING = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
    NotImplementedError,
    TypeError,
    ValueError,
    BadZipFile,
    ReadError,
)
"""Errors that another try does not mend."""

ALL_THREADS = 0

_filesystems: TTLCache[tuple[str, int], tuple[Any, str]] = TTLCache(256, REMEMBERED)
"""By root, and by thread where fsspec promises no more."""

_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """
    A file as a listing has it: its path below the root, its size in bytes and its state, a time in ISO 8601 or, without
    one, a tag. A `size` None was not told. `problem` is why there is no use in opening it.
    """

    path: str
    size: int | None
    state: str
    problem: str | None = None


# --- Listing -------------------------------------------------------------------------------------


def list_remote(
    root: str, folder: str = "", enter: Callable[[str], bool] = lambda folder: True
) -> Iterator[RemoteEntry]:
    """
    All files below a folder of a root, in no order. Storage that lists folder by folder is asked for those only that
    `enter` takes, by their paths below the root. Raises RemoteError if any of it cannot be listed, so that no file seems
    to be gone.
    """
    url = joined(root, folder)
    try:
        _forget(root)
        fs, base = _opened(root)
        fs.invalidate_cache()
        top = _within(base, folder)
        if _lists_in_bulk(fs):
            infos: Iterable[dict[str, Any]] = _retried(
                lambda: fs.find(top, detail=True).values(), fs
            )
        else:
            infos = _walked(fs, base, top, enter)
        for info in infos:
            path = _below(base, info["name"])
            if info["type"] == "file" and path:
                yield _entry(path, info)
        # It would keep the whole list in memory.
        fs.invalidate_cache()
    except Exception as error:
        raise _explained(url, error) from error


def list_folder(root: str, folder: str) -> list[RemoteEntry] | None:
    """The files in a folder, without those below it; None if it cannot be listed."""
    try:
        fs, base = _opened(root)
        fs.invalidate_cache()
        infos = _retried(lambda: fs.ls(_within(base, folder), detail=True), fs)
        fs.invalidate_cache()
    except Exception:
        return None
    entries = [_entry(_below(base, info["name"]), info) for info in infos if info["type"] == "file"]
    return [entry for entry in entries if entry.path]


def looked_at(root: str, entries: Sequence[RemoteEntry]) -> list[RemoteEntry]:
    """The entries, with the sizes and times that the listing of a web server, say, has not."""

    def look(entry: RemoteEntry) -> RemoteEntry:
        try:
            return entry_of(root, entry.path) or entry
        except OSError as error:
            return replace(entry, problem=f"it cannot be looked at: {error.strerror or error}")

    with ThreadPoolExecutor(LOOKING, thread_name_prefix="look") as executor:
        return list(executor.map(look, entries))


def entry_of(root: str, path: str) -> RemoteEntry | None:
    """A file as it is now; None for a folder. Raises OSError if there is none, or none that can be looked at."""
    fs, base = _opened_to_read(root)
    info = _reading(lambda: fs.info(_within(base, path)), fs)
    return _entry(path, info) if info["type"] == "file" else None


def is_gone(root: str, path: str) -> bool:
    """Whether a file is not there although others are below its root. What cannot be looked at may be there."""
    try:
        entry_of(root, path)
    except FileNotFoundError:
        return _holds_any(root) is True
    except (RemoteError, OSError):
        return False
    return False


def is_empty_or_gone(root: str) -> bool:
    """Whether nothing is below a root, or it is not there. Storage that does not answer may have all of it."""
    return _holds_any(root) is False


def _holds_any(root: str) -> bool | None:
    """Whether something is below a root; None if it cannot be listed."""
    try:
        fs, base = _opened(root)
        fs.invalidate_cache()
        names = _retried(lambda: fs.ls(base or "/", detail=False), fs)
        fs.invalidate_cache()
    except FileNotFoundError:
        return False
    except Exception as error:
        return False if isinstance(error.__cause__, FileNotFoundError) else None
    return any(_below(base, name) for name in names)


def _lists_in_bulk(fs: Any) -> bool:
    """Whether `find` is of this storage. That of all others leaves out folders that cannot be listed, and says nothing."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    kind = type(fs)
    if isinstance(fs, AsyncFileSystem):
        return kind._find is not AsyncFileSystem._find
    return kind.find is not AbstractFileSystem.find


def _walked(fs: Any, base: str, top: str, enter: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    folders, seen = [top.rstrip("/")], set()
    while folders:
        folder = folders.pop()
        seen.add(folder)
        for info in _retried(partial(fs.ls, folder or "/", detail=True), fs):
            name = info["name"].rstrip("/")
            if info["type"] != "directory":
                yield info
            elif (
                name.startswith(f"{folder}/")
                and name not in seen
                and not {".", ".."} & set(name.split("/"))
                and enter(_below(base, name))
            ):
                folders.append(name)


def _entry(path: str, info: dict[str, Any]) -> RemoteEntry:
    size = info.get("size")
    return RemoteEntry(path, size if isinstance(size, int) else None, told_state(info))


# --- Reading -------------------------------------------------------------------------------------


def read_remote(root: str, path: str, size: int, at_most: int | None = None) -> bytes:
    """
    The bytes of a file, all in one request, or the first of them. Raises OSError, also if it has not the `size` in bytes
    any more that it was listed with; 0 is for one that was not told, of which at most UNTOLD bytes are read.
    """
    fs, base = _opened_to_read(root)
    name = _within(base, path)
    if not size:
        return _reading(lambda: _untold(fs, name, at_most), fs)
    if at_most is not None:
        return _range(fs, name, 0, min(at_most, size))
    # One more than there should be tells of a file that has grown.
    data = cast(bytes, _reading(lambda: fs.cat_file(name, start=0, end=size + 1), fs))
    if len(data) != size:
        raise OSError(errno.EIO, "it was changed since it was listed; run this again")
    return data


def _untold(fs: Any, name: str, at_most: int | None) -> bytes:
    left = UNTOLD + 1 if at_most is None else at_most
    pieces = []
    with fs.open(name, "rb") as file:
        while left and (piece := file.read(min(left, BLOCK))):
            pieces.append(piece)
            left -= len(piece)
    if at_most is None and not left:
        raise ValueError(f"its size is not told, and it has more than {UNTOLD // 1024**2} MB")
    return b"".join(pieces)


def open_remote(root: str, path: str, size: int) -> BinaryIO:
    """A file to read where it is wanted, in blocks of which few are kept. Raises OSError, as its methods do."""
    if not size:
        return io.BytesIO(read_remote(root, path, size))
    file = RemoteFile(root, path, size, block=BLOCK, kept=KEPT_BLOCKS)
    return cast(BinaryIO, io.BufferedReader(file, 1 << 16))


class RemoteFile(io.RawIOBase):
    """
    A file of `size` bytes, read in blocks of so many, of which the last few are kept. A read ends where its block does.
    Nothing is open meanwhile, so that closing waits for nobody.
    """

    def __init__(self, root: str, path: str, size: int, *, block: int, kept: int) -> None:
        self.root, self._path, self._size, self._block = root, path, size, block
        self._at = 0
        self._blocks: LRUCache[int, bytes] = LRUCache(kept)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        number, within = divmod(self._at, self._block)
        if self._at >= self._size:
            return 0
        if number not in self._blocks:
            start = number * self._block
            end = min(start + self._block, self._size)
            # Of the thread that reads, which may be another one for each block.
            fs, base = _opened_to_read(self.root)
            self._blocks[number] = _range(fs, _within(base, self._path), start, end)
        piece = self._blocks[number][within : within + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _range(fs: Any, name: str, start: int, end: int) -> bytes:
    data = cast(bytes, _reading(lambda: fs.cat_file(name, start=start, end=end), fs))
    # A web server may send all of a file, whatever it was asked for.
    return data[start:end] if len(data) > end - start else data


# --- Storage, and its errors -----------------------------------------------------------------------


def check_storage(root: str) -> None:
    """Raises RemoteError if this installation cannot read such a URL. Asks no storage."""
    check_protocols(root)
    try:
        from fsspec.core import get_filesystem_class
    except ImportError:
        raise RemoteError(
            f"{root!r} needs an extra: pip install 'datasette-image-search[remote]'"
        ) from None
    try:
        for link in root.split("::"):
            if not link.startswith("/"):
                get_filesystem_class(link.partition("://")[0])
    except Exception as error:
        raise _explained(root, error) from error


def _opened(root: str) -> tuple[Any, str]:
    """The storage of a root, which this thread may use, and what it calls the root. Raises RemoteError."""
    thread = threading.get_ident()
    with _opening:
        found = _filesystems.get((root, ALL_THREADS)) or _filesystems.get((root, thread))
    if found is None:
        check_storage(root)
        from fsspec.core import url_to_fs

        try:
            fs, base = _retried(lambda: url_to_fs(root))
            if root.startswith(("http://", "https://")):
                guard_web(fs)
        except Exception as error:
            raise _explained(root, error) from error
        # Such as of FTP: one connection, on which answers would be mixed up.
        whose = ALL_THREADS if fs.async_impl else thread
        with _opening:
            found = _filesystems.setdefault((root, whose), (fs, base.rstrip("/")))
    return found


def _forget(root: str) -> None:
    """An archive may be another one since it was opened."""
    with _opening:
        for key in [key for key in _filesystems if key[0] == root]:
            _filesystems.pop(key, None)


def _opened_to_read(root: str) -> tuple[Any, str]:
    try:
        return _opened(root)
    except RemoteError as error:
        raise OSError(errno.EIO, str(error)) from error


def _within(base: str, path: str) -> str:
    return f"{base}/{path}".rstrip("/") if base and path else base or path.rstrip("/")


def _below(base: str, name: str) -> str:
    """A path below the root, of a name that the storage gives."""
    name = name.rstrip("/")
    if not base:
        return name.lstrip("/")
    for start in (base, base.lstrip("/")):
        if name.startswith(f"{start}/"):
            return name[len(start) + 1 :]
    return ""


def _retried(work: Callable[[], T], fs: Any = None) -> T:
    tries = 1 if is_visiting() else TRIES
    for number in range(tries):
        try:
            return work()
        except Exception as raised:
            error = _cause_of(raised)
            if number == tries - 1 or not _may_pass(error):
                raise error from error.__cause__
            if fs is not None:
                fs.invalidate_cache()
            time.sleep(FIRST_PAUSE * 2**number * random.uniform(1, 1.5))
    raise AssertionError


def _cause_of(error: Exception) -> Exception:
    """What a web server answered: fsspec calls each of its errors, and none of its answers, a file that is not there."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    is_of_web = type(cause).__module__.partition(".")[0] == "aiohttp"
    is_cut = isinstance(cause, (ConnectionError, TimeoutError, asyncio.TimeoutError))
    is_gone = getattr(cause, "status", None) in (404, 410)
    return cause if (is_of_web or is_cut) and not is_gone else error


def _may_pass(error: Exception) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status in (408, 429)
    return not (
        isinstance(error, _LASTING)
        or _is_of_credentials(error)
        or getattr(error, "errno", None) == errno.EINVAL
    )


def _is_of_credentials(error: Exception) -> bool:
    name = type(error).__name__
    return (
        isinstance(error, PermissionError)
        or getattr(error, "status", None) in (401, 403)
        or "Credential" in name
        or "Authentication" in name
    )


def _reading(work: Callable[[], T], fs: Any) -> T:
    try:
        return _retried(work, fs)
    except FileNotFoundError:
        raise
    except Exception as error:
        kind = PermissionError if _is_of_credentials(error) else OSError
        raise kind(errno.EACCES if kind is PermissionError else errno.EIO, _said(error)) from error


def _said(error: Exception) -> str:
    """What an error says, in a line and without passwords and signatures."""
    said = without_secrets(getattr(error, "strerror", None) or str(error))
    return " ".join(said.split())[:200] or type(error).__name__


def _explained(url: str, error: Exception) -> RemoteError:
    if isinstance(error, RemoteError):
        return error
    said = _said(error)
    if isinstance(error, ImportError):
        return RemoteError(f"{url!r} needs another package: {said}")
    if isinstance(error, FileNotFoundError):
        return RemoteError(
            f"there is nothing at {url!r}; check its name, and whether the storage is there (nothing was changed)"
        )
    if _is_of_credentials(error):
        return RemoteError(
            f"{url!r} may not be read with the credentials that there are ({said}); give others in the environment "
            "or in the configuration files of fsspec (nothing was changed)"
        )
    kind, inside, archive = url.partition("::")
    if inside and isinstance(error, IsADirectoryError | BadZipFile | ReadError):
        is_what = "a folder" if isinstance(error, IsADirectoryError) else "a file of another kind"
        return RemoteError(
            f"{archive!r} is {is_what} and no {kind.partition('://')[0]} archive; name one, or leave out {kind + inside!r} "
            "(nothing was changed)"
        )
    if isinstance(error, ValueError):
        return RemoteError(
            f"{url!r} is no URL of a folder: {said}; give one such as s3://bucket/photos"
        )
    return RemoteError(
        f"{url!r} does not answer as it should ({said}); try again later (nothing was changed)"
    )
