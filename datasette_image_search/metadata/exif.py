"""EXIF -> metadata. Cameras and editors write all sorts of things; invalid values become None."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from PIL.ExifTags import GPS, IFD, Base

from .columns import Metadata
from .dates import When, exif_time
from .gps import altitude, degrees, place
from .numbers import number_of
from .texts import keywords_of, text_of
from .tiff import Tiff, Value

XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG = 700, 33723, 34377
"""Of a TIFF that holds more than EXIF."""

_TITLE, _COMMENT, _AUTHOR, _KEYWORDS = 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E
"""Windows's own texts, in UTF-16."""

_RATING = 0x4746

_OFFSETS = {
    Base.DateTimeOriginal: Base.OffsetTimeOriginal,
    Base.DateTimeDigitized: Base.OffsetTimeDigitized,
}

_SENSITIVITIES = (Base.RecommendedExposureIndex, Base.StandardOutputSensitivity, Base.ISOSpeed)
"""Where the tag for ISO has no more room, one of these has the number."""

_NO_ROOM = 65535

_PHOTO_TAGS = frozenset(
    {
        *_OFFSETS,
        *_OFFSETS.values(),
        *_SENSITIVITIES,
        Base.LensModel,
        Base.FocalLength,
        Base.FNumber,
        Base.ExposureTime,
        Base.ISOSpeedRatings,
        Base.UserComment,
    }
)

_MAIN_TAGS = _PHOTO_TAGS | {
    Base.Make,
    Base.Model,
    Base.ImageDescription,
    Base.Artist,
    Base.Copyright,
    IFD.Exif,
    IFD.GPSInfo,
    _RATING,
    _TITLE,
    _COMMENT,
    _AUTHOR,
    _KEYWORDS,
}

_GPS_TAGS = frozenset(tag.value for tag in GPS)


def exif_metadata(data: bytes) -> Metadata:
    """
    What the EXIF says, less its GPS: `data` is a TIFF, with or without "Exif" before it. TIFF/EP, as of RAW, has
    in its first directory what EXIF has in one of its own.
    """
    tiff = Tiff(without_prefix(data))
    main = tiff.first(_MAIN_TAGS)
    photo = {**main, **_below(tiff, main, IFD.Exif, _PHOTO_TAGS)}
    taken_at, offset = _taken_at(photo) or (None, None)
    return Metadata(
        taken_at=taken_at,
        taken_at_offset=offset,
        camera_make=text_of(main.get(Base.Make)),
        camera_model=text_of(main.get(Base.Model)),
        lens=text_of(photo.get(Base.LensModel)),
        focal_length=_positive(photo.get(Base.FocalLength)),
        f_number=_positive(photo.get(Base.FNumber)),
        exposure_time=_positive(photo.get(Base.ExposureTime)),
        iso=_iso(photo),
        title=_windows_text(main.get(_TITLE)),
        description=text_of(main.get(Base.ImageDescription))
        or _windows_text(main.get(_COMMENT))
        or _comment(photo.get(Base.UserComment), tiff.order),
        rating=_rating(main.get(_RATING)),
        artist=text_of(main.get(Base.Artist)) or _windows_text(main.get(_AUTHOR)),
        copyright=_copyright(main.get(Base.Copyright)),
        keywords=keywords_of((_windows_text(main.get(_KEYWORDS)) or "").split(";")),
    )


def place_and_time(data: bytes, *, is_gps: bool = False) -> tuple[Metadata, Metadata]:
    """
    What the GPS of a TIFF says of the place, and of the time in UTC. `is_gps` says that the first directory is
    already that of GPS, as in a CR3.
    """
    tiff = Tiff(without_prefix(data))
    gps = (
        tiff.first(_GPS_TAGS)
        if is_gps
        else _below(tiff, tiff.first({IFD.GPSInfo}), IFD.GPSInfo, _GPS_TAGS)
    )
    latitude, longitude = place(
        degrees(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef)),
        degrees(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef)),
    )
    height = altitude(_number(gps.get(GPS.GPSAltitude)), gps.get(GPS.GPSAltitudeRef))
    taken_at, offset = _gps_time(gps) or (None, None)
    return (
        Metadata(latitude=latitude, longitude=longitude, altitude=height),
        Metadata(taken_at=taken_at, taken_at_offset=offset),
    )


def without_prefix(data: bytes) -> bytes:
    """EXIF as a TIFF, without the "Exif" that JPEG has before it."""
    for _ in range(2):
        data = data.removeprefix(b"Exif\0\0")
    return data


def _below(
    tiff: Tiff, main: Mapping[int, Value], pointer: int, tags: Collection[int]
) -> Mapping[int, Value]:
    where = main.get(pointer)
    return tiff.directory(where[0], tags) if isinstance(where, tuple) else {}


def _taken_at(photo: Mapping[int, Value]) -> When | None:
    for tag, offset_tag in _OFFSETS.items():
        when = exif_time(text_of(photo.get(tag)), text_of(photo.get(offset_tag)))
        if when is not None:
            return when
    return None


def _gps_time(gps: Mapping[int, Value]) -> When | None:
    clock = gps.get(GPS.GPSTimeStamp)
    if isinstance(clock, tuple):
        if len(clock) != 3 or not all(map(math.isfinite, clock)):
            return None
        clock = ":".join(str(int(part)) for part in clock).encode()
    return exif_time(f"{text_of(gps.get(GPS.GPSDateStamp))} {text_of(clock)}", "Z")


def _number(value: Value | None) -> float | None:
    if isinstance(value, bytes):
        return number_of(text_of(value))
    if value is None or len(value) != 1 or not math.isfinite(value[0]):
        return None
    return value[0]


def _positive(value: Value | None) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _iso(photo: Mapping[int, Value]) -> int | None:
    value = photo.get(Base.ISOSpeedRatings)
    # Some cameras write a second number, for something else.
    number = _positive(value[:1] if isinstance(value, tuple) else value)
    if number is None or number == _NO_ROOM:
        others = [_positive(photo.get(tag)) for tag in _SENSITIVITIES]
        number = next((other for other in others if other), number)
    return int(number) if number and 1 <= number < 2**63 else None


def _rating(value: Value | None) -> int | None:
    number = _number(value)
    return int(number) if number is not None and -1 <= number <= 5 else None


def _copyright(value: Value | None) -> str | None:
    """Of the photographer or, if there is none, of the editor, whose comes after a NUL."""
    parts = value.split(b"\0") if isinstance(value, bytes) else []
    return next((text for part in parts if (text := text_of(part))), None)


def _windows_text(value: Value | None) -> str | None:
    return text_of(value.decode("utf-16-le", "ignore")) if isinstance(value, bytes) else None


def _comment(value: Value | None, order: str) -> str | None:
    """`order` is that of the bytes of the TIFF, of which not all programs take notice."""
    if not isinstance(value, bytes):
        return None
    code, rest = value[:8].rstrip(b"\0 "), value[8:]
    if code == b"UNICODE":
        orders = (order, *({"le", "be"} - {order}))
        readings = [rest.decode(f"utf-16-{each}", "ignore").lstrip("\ufeff") for each in orders]
        return text_of(max(readings, key=lambda text: sum(map(str.isascii, text))))
    if code == b"JIS":
        return text_of(rest.decode("iso2022_jp", "ignore"))
    return text_of(value if code not in (b"", b"ASCII") else rest)
