"""Prints constraints for pip: the oldest version that setup.py allows of each package that is needed to run."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import requires

from packaging.requirements import Requirement


def oldest_versions(lines: Iterable[str]) -> list[str]:
    """NAME==VERSION for the lowest bound of each requirement; what only the tests need has none."""
    pinned = set()
    for required in map(Requirement, lines):
        if required.marker is None or not required.marker.evaluate({"extra": "test"}):
            (lowest,) = (each for each in required.specifier if each.operator in (">=", "=="))
            pinned.add(f"{required.name}=={lowest.version}")
    return sorted(pinned)


if __name__ == "__main__":
    print(*oldest_versions(requires("datasette-image-search") or ()), sep="\n")
