"""EXIF -> columns. Cameras and editors write all sorts of things; invalid values become NULL."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

T = TypeVar("T")


@dataclass(frozen=True)
class Exif:
    """
    `taken_at` is ISO 8601, local as the camera wrote it; lengths in millimetres, exposure in
    seconds, latitude and longitude in degrees (north and east positive), altitude in metres.
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


def read_exif(image: Image.Image) -> Exif:
    """The EXIF of an image. Never raises, so that broken EXIF never costs the image."""
    exif = _or_none(image.getexif)
    return Exif() if exif is None else exif_columns(exif)


def exif_of_tiff(data: bytes) -> Exif:
    """
    The EXIF of a TIFF that Pillow cannot open as a picture, as most kinds of camera RAW are. Some write
    another number in the place of TIFF's 42. Empty if the data is not a TIFF.
    """
    magic = {b"II": b"II*\0", b"MM": b"MM\0*"}.get(data[:2])
    if magic is None:
        return Exif()
    exif = Image.Exif()
    file = io.BytesIO(data if data.startswith(magic) else magic + data[4:])
    _or_none(lambda: exif.load_from_fp(file))
    return exif_columns(exif)


def complete_exif(exif: Exif, other: Exif) -> Exif:
    """`exif`, with missing values taken from `other`."""
    missing = [name for name, value in asdict(exif).items() if value is None]
    return replace(exif, **{name: getattr(other, name) for name in missing})


def exif_columns(main: Image.Exif) -> Exif:
    """Never raises."""
    photo = _or_none(lambda: main.get_ifd(IFD.Exif)) or {}
    gps = _or_none(lambda: main.get_ifd(IFD.GPSInfo)) or {}
    times = (
        photo.get(Base.DateTimeOriginal),
        photo.get(Base.DateTimeDigitized),
        main.get(Base.DateTime),
    )
    return Exif(
        taken_at=next((time for time in map(_time, times) if time), None),
        camera_make=_text(main.get(Base.Make)),
        camera_model=_text(main.get(Base.Model)),
        lens=_text(photo.get(Base.LensModel)),
        focal_length=_positive(photo.get(Base.FocalLength)),
        f_number=_positive(photo.get(Base.FNumber)),
        exposure_time=_positive(photo.get(Base.ExposureTime)),
        iso=_iso(photo.get(Base.ISOSpeedRatings)),
        latitude=_degrees(gps, GPS.GPSLatitude, GPS.GPSLatitudeRef, "S", 90),
        longitude=_degrees(gps, GPS.GPSLongitude, GPS.GPSLongitudeRef, "W", 180),
        altitude=_altitude(gps),
    )


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Exception:
        # Pillow's parser raises struct.error, SyntaxError, KeyError and more on broken EXIF.
        return None


def _time(value: Any) -> str | None:
    """ "2021:07:14 18:03:11" -> "2021-07-14T18:03:11"; "0000:00:00 00:00:00" is no time."""
    match = re.match(r"(\d{4})\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)(?:\D(\d\d))?", _text(value) or "")
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    time = _or_none(lambda: datetime(year, month, day, hour, minute, second))
    return time.isoformat() if time else None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    # Fields of fixed length are filled up with NULs or blanks; some decode to lone surrogates.
    text = value.split("\0")[0].encode("utf-8", "replace").decode().strip()
    return text or None


def _number(value: Any) -> float | None:
    number = _or_none(lambda: float(value))
    return number if number is not None and math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _iso(value: Any) -> int | None:
    number = _positive(value[0] if isinstance(value, tuple) and value else value)
    return int(number) if number and 1 <= number < 2**63 else None


def _degrees(
    gps: Mapping[int, Any], tag: int, reference: int, negative: str, limit: int
) -> float | None:
    parts = gps.get(tag)
    if not isinstance(parts, tuple) or len(parts) != 3:
        return None
    numbers = [number for part in parts if (number := _number(part)) is not None]
    if len(numbers) != 3:
        return None
    degrees, minutes, seconds = numbers
    value = degrees + minutes / 60 + seconds / 3600
    if (_text(gps.get(reference)) or "").upper() == negative:
        value = -value
    return round(value, 7) if abs(value) <= limit else None


def _altitude(gps: Mapping[int, Any]) -> float | None:
    altitude = _number(gps.get(GPS.GPSAltitude))
    if altitude is None:
        return None
    return -altitude if gps.get(GPS.GPSAltitudeRef) in (1, b"\x01") else altitude
