"""The request to import vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..checked import check_choice, check_fields

Unknown = Literal["refuse", "skip", "add"]


@dataclass(frozen=True)
class ImportRequest:
    """
    The vectors to import, and the table. `paths` and `collection` are as in `open_source`; `model` None
    is the one that the source names. `roots` are folders that the paths are below; relative paths are
    relative to the only one. `unknown` is what to do with paths that the table has no row for: None adds
    them to a new table and refuses them for one with rows.
    """

    database: Path
    table: str
    source: Path
    model: str | None = None
    paths: Path | None = None
    collection: str | None = None
    roots: Sequence[Path] = ()
    path_column: str | None = None
    unknown: Unknown | None = None
    weights: Path | None = None
    wal: bool = False
    add_model: bool = False
    replace_model: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.unknown is not None:
            check_choice("unknown", self.unknown, get_args(Unknown))

    @property
    def keep_model(self) -> bool:
        """An unfinished index of embed-images does not concern an import."""
        return False
