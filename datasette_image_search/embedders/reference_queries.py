"""Reference queries: texts of all kinds that a model reads, to know how close its pictures are to any text."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def everyday_queries() -> tuple[str, ...]:
    """The reference queries of all who have no own."""
    file = Path(__file__).with_name("reference_queries.txt")
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))
