"""
XMP -> metadata. The XML is read by defusedxml, which refuses the entities that make a small file a huge one;
of RDF, which XMP is written in, this reads the few forms that XMP allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from .columns import Metadata
from .dates import When, best_time, iso_time
from .gps import altitude, degrees, place
from .numbers import number_of
from .texts import MOST_KEYWORDS, decoded, joined, keywords_of, text_of

LONGEST = 4_000_000
"""Bytes of one packet. Those of programs that keep the whole history of a picture have a million."""

MOST_MARKS = 200_000
"""Brackets and values of attributes, which take the time; the strokes of brushes are thousands."""

LONGEST_NAMESPACE = 200
"""Characters. The parser writes it out in the name of each element: gigabytes of a few kilobytes."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_DC = "{http://purl.org/dc/elements/1.1/}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"

_TIMES = (f"{_EXIF}DateTimeOriginal", f"{_PHOTOSHOP}DateCreated", f"{_XMP}CreateDate")

_NAMES = frozenset(
    {
        *_TIMES,
        *(f"{_DC}{name}" for name in ("title", "description", "creator", "rights", "subject")),
        *(f"{_EXIF}GPS{name}" for name in ("Latitude", "Longitude", "Altitude")),
        *(f"{_EXIF}GPS{name}Ref" for name in ("Latitude", "Longitude", "Altitude")),
        f"{_XMP}Rating",
    }
)

_BEGIN = re.compile(r"<((?:\w+:)?(?:xmpmeta|xapmeta|RDF))\b")


def xmp_metadata(data: bytes) -> Metadata:
    """What a packet or an .xmp file says; nothing if it is damaged, or too long to be one."""
    root = _parsed(data)
    return Metadata() if root is None else _metadata(_Properties(root))


def original_time(data: bytes) -> Metadata:
    """The time of exif:DateTimeOriginal alone, which is that of EXIF's tag of this name."""
    root = _parsed(data)
    text = None if root is None else _Properties(root).text(_TIMES[0])
    taken_at, offset = iso_time(text) or (None, None)
    return Metadata(taken_at=taken_at, taken_at_offset=offset)


def is_xmp(data: bytes) -> bool:
    """Whether it is a packet or an .xmp file that is whole."""
    return _parsed(data) is not None


def _parsed(data: bytes) -> Element | None:
    """The first element of XMP, without what programs leave before and behind it."""
    if len(data) > LONGEST:
        return None
    text = _decoded(data)
    if text.count("<") + text.count("=") > MOST_MARKS:
        return None
    begin = _BEGIN.search(text)
    end = text.find(f"</{begin[1]}>", begin.end()) if begin else -1
    if begin is None or end < 0:
        return None
    try:
        return _element(text[begin.start() : end] + f"</{begin[1]}>")
    except (ParseError, DefusedXmlException, ValueError):
        return None


def _element(text: str) -> Element:
    parser = XMLParser(target=TreeBuilder(), forbid_dtd=True)
    parser.parser.StartNamespaceDeclHandler = _check_namespace
    parser.feed(text)
    root: Element = parser.close()
    return root


def _check_namespace(_: str | None, uri: str | None) -> None:
    if uri is not None and len(uri) > LONGEST_NAMESPACE:
        raise ValueError("the URI of a namespace is too long")


def _decoded(data: bytes) -> str:
    """UTF-8 in nearly all files; the zeros around the first bracket tell UTF-16."""
    bracket = data.find(b"<")
    if data[bracket + 1 : bracket + 2] == b"\0":
        return data[bracket:].decode("utf-16-le", "ignore")
    if bracket > 0 and data[bracket - 1 : bracket] == b"\0":
        return data[bracket - 1 :].decode("utf-16-be", "ignore")
    return decoded(data)


class _Properties:
    """
    The properties that are asked for, of the picture's own descriptions, by name, each as its texts. Descriptions
    inside of these are of other things, such as the pictures that this one was made of.
    """

    def __init__(self, root: Element):
        self._values: dict[str, list[str]] = {}
        is_rdf = root.tag == f"{_RDF}RDF"
        for description in root.iterfind(f"./{'' if is_rdf else f'{_RDF}RDF/'}{_RDF}Description"):
            for name in _NAMES & description.attrib.keys():
                self._add(name, [description.attrib[name]])
            for child in description:
                if child.tag in _NAMES and child.tag not in self._values:
                    self._add(child.tag, list(_texts(child)))

    def _add(self, name: str, texts: list[str]) -> None:
        if any(map(text_of, texts)):
            self._values.setdefault(name, texts)

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        return next((text for value in self.all(name) if (text := text_of(value))), None)


def _texts(element: Element) -> Iterator[str]:
    """
    Of a plain property its text, of a list those of its items, of a text in several languages the default
    first.
    """
    items = list(islice(element.iterfind(f"./*/{_RDF}li"), MOST_KEYWORDS))
    default = "x-default"
    for item in sorted(items, key=lambda item: item.get(_LANGUAGE, default) != default) or [
        element
    ]:
        value = item.find(f"./{_RDF}value")
        if value is None:
            value = item.find(f"./{_RDF}Description/{_RDF}value")
        text = item.text if value is None else value.text
        if text and text.strip():
            yield text


def _metadata(properties: _Properties) -> Metadata:
    taken_at, offset = _taken_at(properties) or (None, None)
    latitude, longitude = place(
        _degrees(properties, "GPSLatitude"), _degrees(properties, "GPSLongitude")
    )
    return Metadata(
        taken_at=taken_at,
        taken_at_offset=offset,
        latitude=latitude,
        longitude=longitude,
        altitude=altitude(
            number_of(properties.text(f"{_EXIF}GPSAltitude")),
            properties.text(f"{_EXIF}GPSAltitudeRef"),
        ),
        title=properties.text(f"{_DC}title"),
        description=properties.text(f"{_DC}description"),
        rating=_rating(properties.text(f"{_XMP}Rating")),
        artist=joined(properties.all(f"{_DC}creator")),
        copyright=properties.text(f"{_DC}rights"),
        keywords=keywords_of(properties.all(f"{_DC}subject")),
    )


def _taken_at(properties: _Properties) -> When | None:
    return best_time(iso_time(properties.text(name)) for name in _TIMES)


def _degrees(properties: _Properties, name: str) -> float | None:
    text = properties.text(f"{_EXIF}{name}")
    return None if text is None else degrees(text.encode(), properties.text(f"{_EXIF}{name}Ref"))


def _rating(text: str | None) -> int | None:
    number = number_of(text)
    return int(number) if number is not None and -1 <= number <= 5 else None
