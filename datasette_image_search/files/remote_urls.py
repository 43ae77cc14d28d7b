"""
URLs of folders that are not on this machine, as fsspec writes them: "s3://bucket/photos", or "zip::/home/me/a.zip", a
folder in an archive. The table of roots keeps them as text, so they hold no secrets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import ImageSearchError

_URL = re.compile(r"[a-z][a-z0-9+.-]+(://|::)", re.IGNORECASE)

Storage = tuple[str, str]
"""A bucket, host or archive, by its protocol and name."""

_LOCAL = frozenset({"file", "local"})

_SYNONYMS = {"s3a": "s3", "gcs": "gs", "az": "abfs", "ssh": "sftp"}

_PORTS = {"http": "80", "https": "443", "ftp": "21", "sftp": "22"}
"""Of the protocols with a host, in whose name upper case means nothing."""

_STORAGE = frozenset(
    {
        *_PORTS,
        "s3",
        "gs",
        "abfs",
        "abfss",
        "adl",
        "memory",
        "hdfs",
        "webhdfs",
        "webdav",
        "smb",
        "oss",
    }
)

_ARCHIVES = frozenset({"zip", "tar", "libarchive"})
"""All others of fsspec run what they read, keep copies here or lead back to this machine."""

_SIGNED = re.compile(r"\?[^/?]*=")
"""The query of a URL, which is where signatures and tokens are."""

_SECRETS = (
    (re.compile(r"://\S*@"), "://...@"),
    (re.compile(r"([?#]|%3F|%23)\S+", re.IGNORECASE), r"\1..."),
    (
        re.compile(r"((sig|signature|token|key|secret|password)(=|%3D))[^\s&]+", re.IGNORECASE),
        r"\1...",
    ),
)
"""Where URLs have passwords and signatures, and what is said instead."""

_PASSWORD = re.compile(r"[^/]*:.*@")
"""A key of S3 may have a slash in it."""


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
        cleaned = "::".join([*links, _clean_link(last)])
    else:
        place = os.path.abspath(os.path.expanduser(path if sep else last))  # noqa: PTH100, PTH111
        cleaned = "::".join([*links, Path(place).as_posix()])
    check_protocols(cleaned)
    return cleaned


def check_protocols(url: str) -> None:
    """
    Raises RemoteError unless a URL is of storage that is only read: a table of roots may be a stranger's, and some protocols of
    fsspec run code.
    """
    *archives, last = url.split("::")
    scheme, sep, _ = last.partition("://")
    for protocol in (link.partition("://")[0] for link in archives):
        if _synonym(protocol) not in _ARCHIVES:
            raise RemoteError(
                f"{url!r} is no URL of a folder: {protocol!r} stands before '::', where only {_listed(_ARCHIVES)} may"
            )
    if (sep or not archives) and _synonym(scheme) not in _STORAGE:
        raise RemoteError(
            f"{url!r} is no URL of a folder: {scheme!r} is none of the protocols that are read, {_listed(_STORAGE)}"
        )


def _listed(protocols: Iterable[str]) -> str:
    *others, last = sorted(protocols)
    return f"{', '.join(others)} and {last}"


def _synonym(scheme: str) -> str:
    return _SYNONYMS.get(scheme.lower(), scheme.lower())


def _clean_link(link: str) -> str:
    scheme, _, path = link.partition("://")
    scheme = _synonym(scheme)
    is_web = scheme in ("http", "https")
    has_password = _PASSWORD.match(path) is not None
    if (
        has_password
        or (is_web and ("@" in path.partition("/")[0] or re.search("[?#]", path)))
        or _SIGNED.search(path)
    ):
        after = path.rpartition("@")[2] if has_password else path
        host = re.split("[/?#]", after)[0].rpartition("@")[2]
        raise RemoteError(
            f"the URL at '{scheme}://{host}' holds a password or a signature, which would be kept in "
            "the database; leave it out, and give it in the environment or in the configuration files of fsspec"
        )
    path = path.rstrip("/")
    if scheme == "memory":
        path = path.lstrip("/")
    host, slash, below_it = path.partition("/")
    if scheme in _PORTS:
        user, at, host = host.rpartition("@")
        host = f"{user}{at}{host.lower().removesuffix(f':{_PORTS[scheme]}')}"
    if {"", ".", ".."} & set(below_it.split("/")) and below_it:
        raise RemoteError(
            f"the URL at '{scheme}://{host}' has a folder '', '.' or '..' in its path; give it without"
        )
    return f"{scheme}://{host}{slash}{below_it}"


def without_secrets(said: str) -> str:
    """A text, such as that of an error, without the passwords and signatures of the URLs in it."""
    for pattern, instead in _SECRETS:
        said = pattern.sub(instead, said)
    return said


def storage_of(url: str) -> Storage:
    """The bucket, host or archive of a URL, equal for all of it: whoever is asked for one may be asked for another."""
    scheme, path, rest = _parts(url)
    return scheme, rest or path.partition("/")[0]


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
