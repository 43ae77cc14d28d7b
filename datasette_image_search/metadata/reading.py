"""The metadata of a picture, from all places where programs write it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from PIL import Image

from .cameras import named_once
from .columns import NOTHING, Metadata, combined
from .containers import Sources, sources_of
from .dates import png_time
from .exif import exif_metadata, place_and_time
from .iptc import iptc_metadata
from .texts import text_of
from .xmp import original_time, xmp_metadata

T = TypeVar("T")


def read_metadata(
    data: bytes,
    image: Image.Image | None = None,
    beside: Iterable[bytes] = (),
    of_film: Metadata = NOTHING,
) -> Metadata:
    """
    What the bytes of a file say, `image`, which is that file opened by Pillow or the preview of a RAW, and the
    .xmp files `beside` it, of which the first counts most. `of_film` is what the tags of a film say. Never raises, so that broken metadata never costs
    the picture, and decodes no pixels.

    A person wrote an .xmp file after the picture, so it counts first. Then the camera's own EXIF does for what a
    camera knows, and XMP for what people say. A time of another kind than EXIF's, such as that of the making of a
    file, comes after EXIF's in such a file as well.
    """
    sources = _or_else(lambda: sources_of(data, image), Sources())
    exif = [*_read(exif_metadata, sources.exif), of_film]
    places, times = _of_gps(sources)
    xmp = list(_read(xmp_metadata, sources.xmp))
    iptc = list(_read(iptc_metadata, sources.iptc))
    png = [_or_else(lambda: _of_png_texts(sources), Metadata())]
    beside = tuple(beside)
    written_beside = list(_read(xmp_metadata, beside))
    originals = list(_read(original_time, beside))
    found = combined(
        [*written_beside, *exif, *places, *xmp, *iptc, *png, *times],
        [*written_beside, *xmp, *iptc, *exif, *png],
        [*originals, *exif, *written_beside, *xmp, *iptc, *png, *times],
    )
    make, model = named_once(found.camera_make, found.camera_model)
    return replace(found, camera_make=make, camera_model=model)


def _read(read: Callable[[bytes], Metadata], all_data: Iterable[bytes]) -> Iterator[Metadata]:
    for data in all_data:
        yield _or_else(lambda data=data: read(data), Metadata())  # type: ignore[misc]


def _of_gps(sources: Sources) -> tuple[list[Metadata], list[Metadata]]:
    nothing = Metadata(), Metadata()
    found = [_or_else(lambda data=data: place_and_time(data), nothing) for data in sources.exif]  # type: ignore[misc]
    found += [
        _or_else(lambda data=data: place_and_time(data, is_gps=True), nothing)  # type: ignore[misc]
        for data in sources.gps
    ]
    return [place for place, _ in found], [time for _, time in found]


def _of_png_texts(sources: Sources) -> Metadata:
    """By the names that the standard of PNG has for them."""
    texts = sources.texts
    taken_at, offset = png_time(texts.get("creationtime")) or (None, None)
    return Metadata(
        taken_at=taken_at,
        taken_at_offset=offset,
        title=text_of(texts.get("title")),
        description=text_of(texts.get("description")) or text_of(texts.get("comment")),
        artist=text_of(texts.get("author")),
        copyright=text_of(texts.get("copyright")),
    )


def _or_else(read: Callable[[], T], nothing: T) -> T:
    try:
        return read()
    except Exception:
        return nothing
