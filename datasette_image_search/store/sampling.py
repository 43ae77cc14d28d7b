"""An even sample of a table, to estimate what takes too long to count in all of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

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


PROBES = 100
"""Stretches that tell how many of the keys have rows: a thousandth of a second."""


@dataclass(frozen=True)
class Sample:
    """
    `rows` is SQL to select from in place of the table, whose columns keep their names. `keys` is how many keys there are
    from the lowest to the highest, and `used` the share of them that has rows, roughly.
    """

    rows: str
    keys: int
    used: float

    @property
    def share(self) -> float:
        """The part of the keys that it has."""
        return BLOCKS * BLOCK / self.keys

    def is_needed(self, milliseconds: float) -> bool:
        """Whether nobody could count all rows in this time."""
        return self.keys * self.used > COUNTED * milliseconds

    def estimated(self, count: int) -> int | None:
        """How many there are of what the sample has so many of, with two digits; None if it has too few."""
        if count < FEWEST:
            return None
        return int(float(f"{count / self.share:.1e}"))


def sample_of(conn: sqlite3.Connection, table: ImageTable) -> Sample | None:
    """None if the keys are no integers that the table is in the order of, or it is hardly larger than a sample."""
    if not (table.key_is_integer and _finds_stretches(conn, table)):
        return None
    names = table.quoted()
    sql = "select (select min({key}) from {images}), (select max({key}) from {images})"
    lowest, highest = conn.execute(sql.format(**names)).fetchone()
    if not isinstance(lowest, int) or highest - lowest + 1 < 2 * BLOCKS * BLOCK:
        return None
    last = highest - BLOCK + 1
    starts = [lowest + (last - lowest) * at // (BLOCKS - 1) for at in range(BLOCKS)]
    # The first and the last have rows, however few others have any.
    probes = starts[1 : -1 : max(BLOCKS // PROBES, 1)]
    (found,) = conn.execute(f"select count(*) from {_rows_of(table, probes)}").fetchone()
    return Sample(_rows_of(table, starts), highest - lowest + 1, found / (len(probes) * BLOCK))


def _finds_stretches(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether SQLite need not look at all rows for each stretch, as of a key that is no rowid."""
    sql = f"explain query plan select count(*) from {_rows_of(table, [0])}"
    return not any("SCAN" in step and "json_each" not in step for *_, step in conn.execute(sql))


def _rows_of(table: ImageTable, starts: Sequence[int]) -> str:
    # CROSS JOIN and NOT INDEXED have SQLite look for the rows of one stretch after the other, and for nothing else.
    names = table.quoted()
    return (
        f"(select value as _img_start from json_each('{json.dumps(starts)}')) cross join {names['images']} not indexed "
        f"on {names['images']}.{names['key']} between _img_start and _img_start + {BLOCK - 1}"
    )
