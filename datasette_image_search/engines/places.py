"""
Which places of vectors this process opens. A database names them, and it may be a stranger's, who must not choose what is
read and written here, or who gets the keys of this machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from .protocol import EngineError

VARIABLE = "IMAGE_SEARCH_ENGINES"
"""Of the environment: places that commands open, separated by commas."""

BESIDE = "beside"
"""In the configuration of Datasette: the places beside its databases."""

_named: set[str] = set()
_served: list[frozenset[str]] = []
"""What a person named as --uri or uri=; what the configuration of a server names, empty if this process is none."""


def place_of(uri: str | Path) -> str:
    """A URL as it is, a path as an absolute one. Raises EngineError for a URL with a password, which no database is for."""
    uri = os.fspath(uri)
    if not uri.strip():
        raise EngineError(
            "--uri is empty; name a folder or a URL, such as s3://bucket/photos.lance"
        )
    scheme, is_url, rest = uri.partition("://")
    if not is_url:
        return str(Path(scheme).expanduser().absolute())
    # Not by urlsplit(): a key may have a slash in it.
    if any(sign in rest for sign in "@?#;"):
        raise EngineError(
            "--uri has @, ?, # or ; in it, after which there may be a password or a signature, and the database would keep "
            "it; give these to the engine in the environment, such as AWS_ACCESS_KEY_ID"
        )
    return uri


def allow(place: str) -> None:
    """A person names this place, for as long as this process runs."""
    _named.add(place)


def allow_only(places: Collection[str]) -> None:
    """From now on this process is a server, whose configuration names these places, perhaps BESIDE among them."""
    _served[:] = [frozenset(places)]


def check_place(engine: str, place: str, *, is_beside: bool) -> None:
    """
    Raises EngineError for a place that nobody here has named, and for one beside the database that leads elsewhere.
    """
    allowed = _served[0] if _served else {BESIDE, *_named, *_of_environment()}
    if (BESIDE if is_beside else place) not in allowed:
        raise EngineError(_refusal(engine, place, is_beside=is_beside))
    if is_beside and any(_leads_elsewhere(Path(place))):
        raise EngineError(
            f"{Path(place).name} has links or devices in it, which may lead anywhere; if it is yours, name where it is "
            "with index-images --uri"
        )


def _refusal(engine: str, place: str, *, is_beside: bool) -> str:
    if not _served:
        return (
            f"the database names {place!r} as the place of its {engine} vectors; if it is yours, name it with index-images "
            f"--uri, or in the environment as {VARIABLE}"
        )
    name = f"{BESIDE!r}, as it is beside the database," if is_beside else "it"
    return (
        f"the server may not read the place of its {engine} vectors; if you trust who made them, name {name} in Datasette's "
        "configuration: plugins, datasette-image-search, engines"
    )


def _of_environment() -> list[str]:
    return [
        place_of(each.strip()) for each in os.environ.get(VARIABLE, "").split(",") if each.strip()
    ]


def _leads_elsewhere(place: Path) -> Iterator[bool]:
    """Whether each entry at or below a place is neither a folder nor a file."""
    try:
        yield not _is_ordinary(place.lstat().st_mode)
    except OSError:
        # The engine says what is missing.
        return
    for parent, folders, files in os.walk(place):
        for name in (*folders, *files):
            yield not _is_ordinary(os.lstat(os.path.join(parent, name)).st_mode)  # noqa: PTH118


def _is_ordinary(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
