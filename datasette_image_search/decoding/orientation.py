"""How a picture lies: the orientation in its EXIF."""

from __future__ import annotations

from PIL import Image
from PIL.ExifTags import Base

_SIDEWAYS = (5, 6, 7, 8)


def read_orientation(image: Image.Image) -> int:
    """1, upright, to 8, as EXIF counts; 1 if the file has no valid value. Never raises, and decodes no pixel."""
    if image.format == "TIFF":
        return 1  # Pillow turns TIFF by itself, and `size` is upright from the start.
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1  # Its decoder turned it, unless it was a JPEG: what EXIF says does not count.
    return said_orientation(image) or 1


def said_orientation(image: Image.Image) -> int | None:
    """The orientation in the EXIF of an image; None if there is no valid one."""
    # Image.getexif() would also look in XMP, which no viewer does, and decode a PNG.
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        orientation = exif.get(Base.Orientation)
    except Exception:
        # Pillow's parser raises struct.error, SyntaxError, KeyError and more on broken EXIF.
        return None
    return orientation if orientation in range(1, 9) else None


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height as stored -> width and height of the upright picture."""
    width, height = size
    return (height, width) if orientation in _SIDEWAYS else (width, height)
