"""An even sample of a table, to estimate what takes too long to count in all of it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

import numpy as np

from .tables import ImageTable

BLOCKS = 2_000
"""Stretches of rows, evenly spread: the rows of all of them take a processor some 10 ms."""

BLOCK = 10
"""Keys of a stretch: a disk reads neighbours as fast as one. More of them would tell less, as neighbours are alike."""

FEWEST = 10 * BLOCK
"""Rows of a sample that a number is estimated from, so that they are of ten stretches at least: of a single folder, which may
have all rows of a stretch and none of the next, fewer would tell nothing."""

COUNTED = 20_000
"""More rows than SQLite counts in a millisecond."""


@dataclass(frozen=True)
class Sample:
    """
    `rows` is SQL to select from in place of the table, whose columns keep their names; `share` is the part of the keys
    between the lowest and the highest that it has, and `keys` how many keys there are between these.
    """

    rows: str
    keys: int

    @property
    def share(self) -> float:
        return BLOCKS * BLOCK / self.keys

    def is_needed(self, milliseconds: float) -> bool:
        """Whether nobody could count all rows in this time."""
        return self.keys > COUNTED * milliseconds

    def estimated(self, count: int) -> int | None:
        """How many there are of what the sample has so many of, with two digits; None if it has too few."""
        if count < FEWEST:
            return None
        return int(float(f"{count / self.share:.1e}"))


def sample_of(conn: sqlite3.Connection, table: ImageTable) -> Sample | None:
    """None if the keys are no integers, or the table is hardly larger than a sample."""
    if not table.key_is_integer:
        return None
    names = table.quoted()
    sql = "select (select min({key}) from {images}), (select max({key}) from {images})"
    lowest, highest = conn.execute(sql.format(**names)).fetchone()
    if not isinstance(lowest, int) or highest - lowest + 1 < 2 * BLOCKS * BLOCK:
        return None
    starts = np.linspace(lowest, highest - BLOCK + 1, BLOCKS).astype(np.int64).tolist()
    # CROSS JOIN and NOT INDEXED have SQLite look for the rows of one stretch after the other, and for nothing else.
    rows = (
        f"(select value as _img_start from json_each('{json.dumps(starts)}')) cross join {names['images']} not indexed "
        f"on {names['images']}.{names['key']} between _img_start and _img_start + {BLOCK - 1}"
    )
    return Sample(rows, highest - lowest + 1)
