"""
The metadata of a file whose picture is known already. Nothing is decoded but a JPEG XL, which its decoder cannot open
otherwise; it was within the limits when its picture was read.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..metadata.columns import Metadata
from ..metadata.reading import read_metadata
from ..metadata.xmp import is_xmp
from .kinds import raw_format
from .opening import FORMATS, check_cost, image_of


def metadata_of(
    data: bytes, name: str, beside: Sequence[bytes] = ()
) -> tuple[Metadata, Metadata] | None:
    """
    What `decode_bytes` would say of the same bytes, name and .xmp files; and what without these files. None if the
    picture cannot be opened: it was damaged since it was embedded, or the extra for its kind is not installed any
    more. Never raises.
    """
    try:
        image = _opened(data, name)
    except Exception:
        return None
    alone = read_metadata(data, image)
    return (read_metadata(data, image, beside) if beside else alone), alone


def are_whole(beside: Sequence[bytes]) -> bool:
    """Whether all of the .xmp files can be understood."""
    return all(map(is_xmp, beside))


def _opened(data: bytes, name: str) -> Image.Image | None:
    if raw_format(data, name) is not None:
        from .raw import stored_preview  # Loads LibRaw, so not before there is a RAW file.

        return stored_preview(data)
    check_cost(data)
    return image_of(data, FORMATS)
