"""The exported text tower of an index, beside its database: what reads words on a machine without torch."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from ..embedders.packages import PackageMissing
from ..embedders.text_tower import NotATower, TextTower
from ..files.special_files import open_regular
from ..store import Index
from ..store.tables import IMPORTED

if TYPE_CHECKING:
    from .sidecar import FileState

KEPT = 4
"""Towers that are remembered, of some 100 to 1,000 MB."""

LARGEST = 2**31
"""Bytes of a file of ONNX."""

logger = logging.getLogger(__name__)


class TowerUnusable(Exception):
    """The file is missing, damaged, or not the one that the database names; the message says which."""


_Key = tuple[Path, str, "FileState | None"]
"""A file, the SHA-256 that it is to have, and its state."""

_opened: OrderedDict[_Key, TextTower | TowerUnusable] = OrderedDict()
_opening = threading.Lock()


def exported_tower(index: Index) -> TextTower | None:
    """
    The one that was exported for an index, opened at most once per process; None if none was. Raises TowerUnusable,
    which is logged when it is found.
    """
    if index.text_tower is None or index.database is None:
        return None
    # It loads faiss, which a query alone has no use for.
    from .sidecar import file_state, text_tower_path

    path = text_tower_path(index.database, index)
    with _opening:
        key = path, index.text_tower, file_state(path)
        if key not in _opened:
            try:
                _opened[key] = _open(path, index)
            except TowerUnusable as unusable:
                logger.warning("%s", unusable)
                _opened[key] = unusable
            while len(_opened) > KEPT:
                _opened.popitem(last=False)
        _opened.move_to_end(key)
        found = _opened[key]
    if isinstance(found, TowerUnusable):
        raise TowerUnusable(*found.args)
    return found


def tower_problem(index: Index) -> str | None:
    """A sentence, None if the index has no exported tower or a good one."""
    try:
        exported_tower(index)
    except TowerUnusable as unusable:
        return str(unusable)
    return None


def _open(path: Path, index: Index) -> TextTower:
    again = f"export it again, with: sqlite-utils export-text-tower PATH {index.image_table}"
    try:
        with open_regular(path) as file:
            # No more than may be one: it is read before its hash is known.
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise TowerUnusable(
            f"{path.name} is missing; put it beside the database, or {again}"
        ) from None
    except OSError as error:
        raise TowerUnusable(f"{path.name} cannot be read ({error.strerror or error})") from error
    if len(content) > LARGEST:
        raise TowerUnusable(f"{path.name} is larger than any text tower, of 2 GB at most; {again}")
    # Of the bytes that are used: the file may be another one a moment later.
    if hashlib.sha256(content).hexdigest() != index.text_tower:
        raise TowerUnusable(
            f"{path.name} is not the file that the database names: it was changed, cut short or "
            f"is another's; {again}"
        )
    try:
        tower = TextTower(content)
    except PackageMissing as error:
        raise TowerUnusable(f"{path.name} is not used: {error}") from error
    except NotATower as error:
        raise TowerUnusable(f"{path.name} is not used: {error}; {again}") from error
    is_of_index = tower.fingerprint == index.fingerprint or index.fingerprint == IMPORTED
    if (tower.id, tower.dimensions) != (index.model, index.dimensions) or not is_of_index:
        raise TowerUnusable(f"{path.name} is of other weights than the vectors; {again}")
    return tower
