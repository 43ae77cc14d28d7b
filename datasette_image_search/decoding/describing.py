"""
The metadata of a file whose picture is known already. Nothing is decoded but a JPEG XL, which its decoder cannot open
otherwise; it was within the limits when its picture was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from PIL import Image

from ..metadata.columns import Metadata
from ..metadata.reading import read_metadata
from ..metadata.xmp import is_xmp
from .formats import FILMS
from .kinds import FilmKind, raw_format
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


def metadata_of_film(
    file: BinaryIO, kind: FilmKind, beside: Sequence[bytes] = ()
) -> tuple[Metadata, Metadata] | None:
    """The same of a film, as decode_film() would say it."""
    if not FILMS:
        return None
    from .films import film_metadata_of  # Loads FFmpeg, so not before there is a film.

    found = film_metadata_of(file, kind)
    if found is None:
        return None
    return read_metadata(b"", None, beside, found), read_metadata(b"", of_film=found)


def are_whole(beside: Sequence[bytes]) -> bool:
    """Whether all of the .xmp files can be understood."""
    return all(map(is_xmp, beside))


def _opened(data: bytes, name: str) -> Image.Image | None:
    if raw_format(data, name) is not None:
        from .raw import stored_preview  # Loads LibRaw, so not before there is a RAW file.

        return stored_preview(data)
    check_cost(data)
    return image_of(data, FORMATS)
