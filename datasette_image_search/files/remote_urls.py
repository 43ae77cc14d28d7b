"""
URLs of folders that are not on this machine, as fsspec writes them: "s3://bucket/photos", or "zip::/home/me/a.zip", a
folder in an archive. The table of roots keeps them as text, so they hold no secrets.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import ImageSearchError

_URL = re.compile(r"[a-z][a-z0-9+.-]+(://|::)", re.IGNORECASE)

_LOCAL = frozenset({"file", "local"})

_SIGNED = re.compile(r"\?[^/?]*=")
"""The query of a URL, which is where signatures and tokens are."""


class RemoteError(ImageSearchError):
    """A URL that cannot be used, or storage that does not answer."""


class _Parts(NamedTuple):
    """`path` is that within the first link of a chain, with the name of the bucket or host; `rest` is what follows that link."""

    scheme: str
    path: str
    rest: str


def is_url(text: str) -> bool:
    """Whether a text is a URL and no path; a chain such as "a::b" is a path if there is such a file."""
    found = _URL.match(text)
    return found is not None and (found[1] == "://" or not os.path.lexists(text))


def clean_url(url: str) -> str:
    """
    A URL in the one form that roots have. Raises RemoteError for one with a password or a signature, which a database
    is no place for, and for a folder of this machine.
    """
    *chained, last = url.split("::")
    if not chained and last.partition("://")[0].lower() in _LOCAL:
        raise RemoteError(f"{url!r} is a folder of this machine; give its path without the scheme")
    links = [_clean_link(link) if "://" in link else link.lower() for link in chained]
    if links:
        links[0] = links[0].removesuffix("://")
    scheme, sep, path = last.partition("://")
    if sep and scheme.lower() not in _LOCAL:
        return "::".join([*links, _clean_link(last)])
    place = os.path.abspath(os.path.expanduser(path if sep else last))  # noqa: PTH100, PTH111
    return "::".join([*links, Path(place).as_posix()])


def _clean_link(link: str) -> str:
    scheme, _, path = link.partition("://")
    scheme = scheme.lower()
    user, at, host = path.partition("/")[0].rpartition("@")
    if (at and (":" in user or scheme in ("http", "https"))) or _SIGNED.search(path):
        raise RemoteError(
            f"the URL at '{scheme}://{host.partition('?')[0]}' holds a password or a signature, which would be kept in "
            "the database; leave it out, and give it in the environment or in the configuration files of fsspec"
        )
    return f"{scheme}://{path.rstrip('/')}"


def joined(root: str, path: str) -> str:
    """The URL of a file or folder below a root; that of the root itself for an empty path."""
    parts = _parts(root)
    if not path:
        return _whole(*parts)
    return f"{parts.scheme}://{parts.path}{'/' if parts.path else ''}{path}{parts.rest}"


def below(url: str, root: str) -> str | None:
    """The path of a URL below a root, "" for the root itself; None if it is elsewhere."""
    mine, others = _parts(root), _parts(url)
    if (mine.scheme, mine.rest) != (others.scheme, others.rest):
        return None
    if mine.path == others.path:
        return ""
    prefix = f"{mine.path}/" if mine.path else ""
    return others.path[len(prefix) :] if others.path.startswith(prefix) else None


def split_name(url: str) -> tuple[str, str]:
    """The URL of the folder that a file is in, and its name there."""
    scheme, path, rest = _parts(url)
    above, _, name = path.rpartition("/")
    return _whole(scheme, above, rest), name


def _whole(scheme: str, path: str, rest: str) -> str:
    return f"{scheme}://{path}{rest}" if path or not rest else f"{scheme}{rest}"


def _parts(url: str) -> _Parts:
    first, sep, rest = url.partition("::")
    scheme, _, path = first.partition("://")
    return _Parts(scheme, path.rstrip("/"), f"{sep}{rest}")
