"""The tags of a film -> metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .columns import Metadata
from .dates import When, iso_time
from .gps import Place, place
from .texts import text_of

_APPLE = "com.apple.quicktime."

_TIMES = (f"{_APPLE}creationdate", "date", "creation_time")
"""The first is local, with its offset; the last is in UTC."""

_EPOCHS = ("1904-01-01", "1970-01-01")
"""What a camera without a clock writes."""

_ISO_6709 = re.compile(r"([+-]\d{1,2}(?:\.\d+)?)([+-]\d{1,3}(?:\.\d+)?)([+-]\d+(?:\.\d+)?)?")


def film_metadata(tags: Mapping[str, str], duration: float | None) -> Metadata:
    """
    `tags` are those of the container and of the pictures in it, as FFmpeg calls them, `duration` is in seconds. Never
    raises.
    """
    tags = {name.lower(): value for name, value in tags.items()}

    def said(*names: str) -> str | None:
        return next((text for name in names if (text := text_of(tags.get(name)))), None)

    taken_at, offset = _time(tags) or (None, None)
    written = said(f"{_APPLE}location.iso6709", "location", "location-eng")
    (latitude, longitude), altitude = _place(written)
    return Metadata(
        taken_at=taken_at,
        taken_at_offset=offset,
        camera_make=said(f"{_APPLE}make", "make", "com.android.manufacturer"),
        camera_model=said(f"{_APPLE}model", "model", "com.android.model"),
        latitude=latitude,
        longitude=longitude,
        altitude=altitude,
        title=said("title", f"{_APPLE}title", f"{_APPLE}displayname"),
        description=said(f"{_APPLE}description", "description", "comment"),
        artist=said("artist", f"{_APPLE}artist", f"{_APPLE}author"),
        copyright=said("copyright", f"{_APPLE}copyright"),
        duration=duration,
    )


def _time(tags: Mapping[str, str]) -> When | None:
    found = (iso_time(text_of(tags.get(name))) for name in _TIMES)
    return next((when for when in found if when and not when[0].startswith(_EPOCHS)), None)


def _place(written: str | None) -> tuple[Place, float | None]:
    """ISO 6709 in degrees, such as "+48.8577+002.2950+035.0/"."""
    match = _ISO_6709.match(written or "")
    if match is None:
        return (None, None), None
    latitude, longitude = place(float(match[1]), float(match[2]))
    return (latitude, longitude), None if latitude is None or not match[3] else float(match[3])
