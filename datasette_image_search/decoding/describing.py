"""
The metadata of a file whose picture is known already. Nothing is decoded but a JPEG XL, which its decoder cannot open
otherwise; it was within the limits when its picture was read.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..metadata.columns import Metadata
from ..metadata.reading import read_metadata
from .kinds import raw_format
from .opening import FORMATS, check_cost, image_of


def metadata_of(data: bytes, name: str, beside: Sequence[bytes] = ()) -> Metadata:
    """What `decode_bytes` would say of the same bytes, name and .xmp files. Never raises."""
    return read_metadata(data, _opened(data, name), beside)


def _opened(data: bytes, name: str) -> Image.Image | None:
    try:
        if raw_format(data, name) is not None:
            from .raw import stored_preview  # Loads LibRaw, so not before there is a RAW file.

            return stored_preview(data)
        check_cost(data)
        return image_of(data, FORMATS)
    except Exception:
        # Damaged since it was embedded, or of a kind whose extra is not installed any more.
        return None
