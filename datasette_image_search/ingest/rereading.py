"""Metadata read again, of pictures that are embedded already: without decoding them, and without the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..decoding.describing import metadata_of, metadata_of_film
from ..store import Key
from ..store.image_record import ReadMetadata
from ..store.tables import KnownSource
from .beside import readable
from .own_images import film_kind_of
from .reuse import Reuse
from .walk import FoundFile


def reused_to_read(reused: Iterable[Reuse], known: Iterable[KnownSource]) -> tuple[FoundFile, ...]:
    """Moved files and copies that have other .xmp files beside them than the image that they are like."""
    beside: Mapping[Key | None, str | None] = {each.image_id: each.beside for each in known}
    return tuple(
        reuse.file for reuse in reused if beside.get(reuse.source_id, "") != reuse.file.beside
    )


def read_again(
    files: Sequence[FoundFile], roots: Mapping[str, int], workers: int
) -> Iterator[ReadMetadata | None]:
    """
    The metadata of each file, in their order; None for one that cannot be read or whose .xmp files cannot, which
    keeps what it has until the next run tries again.
    `roots` are ids by path.
    """

    def read(file: FoundFile) -> ReadMetadata | None:
        beside = readable(file.read_beside)
        found = None
        try:
            kind = film_kind_of(file)
            if beside is not None and kind is not None:
                with file.open() as film:
                    found = metadata_of_film(film, kind, beside)
            elif beside is not None:
                found = metadata_of(file.read(), file.name, beside)
        except OSError:
            return None
        if found is None:
            return None
        metadata, alone = found
        return ReadMetadata(roots[file.root], file.path, metadata, file.beside, alone)

    # Few at a time, so that no more pictures than that are in memory.
    for start in range(0, len(files), 8 * workers):
        with ThreadPoolExecutor(workers, thread_name_prefix="metadata") as executor:
            yield from executor.map(read, files[start : start + 8 * workers])
