"""What kind of picture a file is, by its bytes: names of files say it wrong now and then."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from ..metadata.texts import text_of
from ..metadata.tiff import Tiff
from .formats import FILM_SUFFIXES, HEIC_SUFFIXES, JXL_SUFFIXES, is_raw_name
from .jxl_size import CONTAINER
from .png_chunks import SIGNATURE

HEAD = 64
"""The first bytes of a file that tell its kind."""

_RAW = {
    b"FUJIFILMCCD-RAW": "RAF",
    b"IIU\0": "RW2",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"\0MRM": "MRW",
    b"FOVb": "X3F",
    b"II\x1a\0\0\0HEAPCCDR": "CRW",
}
"""How camera RAW begins that is not a TIFF, and its format."""

_TIFF = (b"II*\0", b"MM\0*")

_PHOTOMETRIC, _MAKE, _DIRECTORIES, _DNG_VERSION = 262, 271, 330, 50706
"""Tags of the first directory: the meaning of its samples, the maker of the camera, where others begin, and of a DNG."""

_OF_A_SENSOR = (32803,)
"""The meaning of samples that are those of a sensor, behind filters of several colours."""

_MAKERS = {
    "nikon": "NEF",
    "sony": "ARW",
    "pentax": "PEF",
    "ricoh": "PEF",
    "samsung": "SRW",
    "kodak": "DCR",
    "hasselblad": "3FR",
    "epson": "ERF",
    "mamiya": "MEF",
    "leaf": "MOS",
    "phase one": "IIQ",
}
"""A part of the maker's name in small letters -> the format of a RAW that is a TIFF. Others make such TIFF that is none."""

_JXL = (b"\xff\x0a", CONTAINER)

_NOT_RAW = (
    b"\xff\xd8\xff",
    SIGNATURE,
    b"GIF8",
    b"BM",
    *_JXL,
    b"\0\0\0\x0cjP  \r\n\x87\n",
)

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_STILL_BRANDS = (*_HEIC_BRANDS, b"avif", b"avis")


@dataclass(frozen=True)
class FilmKind:
    """A kind of film: its format, such as "MP4", and the demuxer of FFmpeg that reads it."""

    format: str
    demuxer: str


_FILM_BRANDS = re.compile(
    rb"3g[0-9a-z]{2}|iso[m2-9]|mp4[12]|avc1|qt  |M4V[ HP]|mmp4|MSNV|dash|f4v |XAVC|CAEP"
)
"""What kind of a file of boxes is a film; pictures, and songs, are others."""

_QUICKTIME = (b"moov", b"mdat", b"wide", b"pnot")
"""The first box of a film by QuickTime before there were brands."""

_SYNC = b"G"
"""The first byte of a packet of a transport stream."""


def film_kind(data: bytes, name: str) -> FilmKind | None:
    """None for other files. The name only counts for what has nothing that tells of films."""
    is_named_so = PurePath(name).suffix.lower() in FILM_SUFFIXES
    brand = data[8:12]
    is_picture = brand in _STILL_BRANDS or brand in (b"crx ", b"jxl ")
    if data[4:8] == b"ftyp" and (_FILM_BRANDS.match(brand) or (is_named_so and not is_picture)):
        format = "MOV" if brand == b"qt  " else "M4V" if brand.startswith(b"M4V") else "MP4"
        return FilmKind("3GP" if brand.startswith((b"3g", b"mmp4")) else format, "mov")
    if data[4:8] in _QUICKTIME:
        return FilmKind("MOV", "mov")
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return FilmKind("AVI", "avi")
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return FilmKind("WEBM" if b"webm" in data[:HEAD] else "MKV", "matroska")
    if PurePath(name).suffix.lower() == ".mts" and _SYNC in (data[:1], data[4:5]):
        return FilmKind("MTS", "mpegts")
    return None


def raw_format(data: bytes, name: str) -> str | None:
    """
    The format of a camera RAW, such as "NEF"; None for other pictures. The name only tells the format if the bytes say
    no other kind, or nothing.
    """
    if is_raw_name(name) and not _is_another(data):
        return PurePath(name).suffix[1:].upper()
    if data[:2] == b"II" and data[8:10] == b"CR":
        return "CR2"
    if data[4:12] == b"ftypcrx ":
        return "CR3"
    if data.startswith(_TIFF):
        return _raw_tiff(data)
    return next((format for magic, format in _RAW.items() if data.startswith(magic)), None)


def _raw_tiff(data: bytes) -> str | None:
    """Most RAW is TIFF with the samples of the sensor in the first directory or one below it."""
    if data[8:12] in (b"IIII", b"MMMM"):
        return "IIQ"
    tiff = Tiff(data)
    main = tiff.first({_PHOTOMETRIC, _MAKE, _DIRECTORIES, _DNG_VERSION})
    if _DNG_VERSION in main:
        return "DNG"
    make = (text_of(main.get(_MAKE)) or "").lower()
    format = next((format for maker, format in _MAKERS.items() if maker in make), None)
    starts = main.get(_DIRECTORIES, ())
    below = () if isinstance(starts, bytes) else starts
    directories = (main, *(tiff.directory(start, {_PHOTOMETRIC}) for start in below))
    has_sensor = any(each.get(_PHOTOMETRIC) == _OF_A_SENSOR for each in directories)
    return format if has_sensor else None


def is_damaged_raw(data: bytes, name: str) -> bool:
    """
    Whether a file that LibRaw does not know is a RAW all the same: its bytes say so, or its name does and it is a TIFF.
    Anything may be called .cap or .raw.
    """
    return raw_format(data, name if data.startswith(_TIFF) else "") is not None


def _is_another(data: bytes) -> bool:
    if data[4:8] == b"ftyp":
        return data[8:12] in _STILL_BRANDS
    return data.startswith(_NOT_RAW) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def looks_like_heic(data: bytes, name: str) -> bool:
    """Also by its name, for what is too short or too damaged to tell."""
    branded = data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS
    return branded or PurePath(name).suffix.lower() in HEIC_SUFFIXES


def looks_like_jxl(data: bytes, name: str) -> bool:
    return data.startswith(_JXL) or PurePath(name).suffix.lower() in JXL_SUFFIXES
