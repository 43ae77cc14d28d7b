"""What metadata says, whoever wrote it and in whichever form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from .dates import best_time


@dataclass(frozen=True)
class Metadata:
    """
    `taken_at` is ISO 8601, local as the camera wrote it, and as exact as it is known ("2021-07" is a month);
    `taken_at_offset` is how far local time was ahead of UTC, such as "+02:00". Lengths are in millimetres,
    exposure and duration in seconds, latitude and longitude in degrees (north and east positive), altitude in metres,
    `rating` is 0 to 5 stars, or -1 for a rejected picture. `keywords` are a table of their own; all others
    are columns of an image table, in this order.
    """

    taken_at: str | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    lens: str | None = None
    focal_length: float | None = None
    f_number: float | None = None
    exposure_time: float | None = None
    iso: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    title: str | None = None
    description: str | None = None
    rating: int | None = None
    artist: str | None = None
    copyright: str | None = None
    taken_at_offset: str | None = None
    duration: float | None = None
    keywords: tuple[str, ...] = ()


NOTHING = Metadata()

COLUMNS = tuple(field.name for field in fields(Metadata) if field.name != "keywords")

WORDS = ("title", "description", "rating", "artist", "copyright", "keywords")
"""What people say of a picture; the rest is what a camera knows."""


def combined(
    sources: Iterable[Metadata],
    words_first: Iterable[Metadata] | None = None,
    times_first: Iterable[Metadata] | None = None,
) -> Metadata:
    """
    The first source that says something, for each value. `words_first` and `times_first` are the sources in
    other orders, for WORDS and for `taken_at`.
    """
    camera = tuple(sources)
    people = camera if words_first is None else tuple(words_first)
    times = camera if times_first is None else tuple(times_first)
    values = {}
    for field in fields(Metadata):
        for source in people if field.name in WORDS else camera:
            value = getattr(source, field.name)
            if value not in (None, ()):
                values[field.name] = value
                break
    values |= _place(camera)
    best = best_time((source.taken_at, None) if source.taken_at else None for source in times)
    taken_at = values["taken_at"] = best[0] if best else None
    values["taken_at_offset"] = next(
        (
            source.taken_at_offset
            for source in times
            if source.taken_at_offset and source.taken_at == taken_at
        ),
        None,
    )
    return Metadata(**values)


def _place(sources: Sequence[Metadata]) -> dict[str, float | None]:
    """
    Of the first source with a whole place, because the values of two may be of two places; if there is none, of the
    first with half a one, or else the first altitude.
    """
    found = min(
        sources, key=lambda each: (each.latitude, each.longitude).count(None), default=NOTHING
    )
    altitude = found.altitude
    if found.latitude is None and found.longitude is None:
        altitude = next((each.altitude for each in sources if each.altitude is not None), None)
    return {"latitude": found.latitude, "longitude": found.longitude, "altitude": altitude}
