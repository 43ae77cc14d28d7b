"""
The metadata that is read of the pictures in some folders, beside what exiftool reads: how many values of
each column agree, and every difference. 5 minutes for 10,000 pictures; needs exiftool.

    python benchmarks/metadata.py FOLDER ... [--differences COLUMN] [--cameras]

The makes and models of exiftool are brought to the one name that a camera has here before they are compared;
--cameras prints these names, so that a wrong one is seen.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate

from datasette_image_search.decoding.formats import is_image_name
from datasette_image_search.decoding.opening import FORMATS, image_of
from datasette_image_search.metadata.cameras import named_once
from datasette_image_search.metadata.dates import best_time
from datasette_image_search.metadata.reading import read_metadata

NAMES = {
    "camera_make": ["EXIF:Make"],
    "camera_model": ["EXIF:Model"],
    "lens": ["EXIF:LensModel"],
    "focal_length": ["EXIF:FocalLength"],
    "f_number": ["EXIF:FNumber"],
    "exposure_time": ["EXIF:ExposureTime"],
    "iso": ["EXIF:ISO"],
    "latitude": ["Composite:GPSLatitude"],
    "longitude": ["Composite:GPSLongitude"],
    "altitude": ["Composite:GPSAltitude", "EXIF:GPSAltitude"],
    "title": ["XMP:Title", "IPTC:ObjectName", "EXIF:XPTitle", "PNG:Title"],
    "description": [
        "XMP:Description",
        "IPTC:Caption-Abstract",
        "EXIF:ImageDescription",
        "EXIF:XPComment",
        "EXIF:UserComment",
        "PNG:Description",
        "PNG:Comment",
    ],
    "rating": ["XMP:Rating", "EXIF:Rating"],
    "artist": ["XMP:Creator", "IPTC:By-line", "EXIF:Artist", "EXIF:XPAuthor", "PNG:Author"],
    "copyright": ["XMP:Rights", "IPTC:CopyrightNotice", "EXIF:Copyright", "PNG:Copyright"],
    "keywords": ["XMP:Subject", "IPTC:Keywords", "EXIF:XPKeywords"],
}
"""Column -> exiftool's names, in the order in which we look for them too."""

TIMES = [
    "EXIF:DateTimeOriginal",
    "EXIF:CreateDate",
    "XMP:DateTimeOriginal",
    "XMP:DateCreated",
    "XMP:CreateDate",
    "IPTC:DateCreated",
    "PNG:CreationTime",
    "Composite:GPSDateTime",
]

ALMOST = 2e-6
"""The largest difference, in relation, of two numbers that agree."""


def exiftool(folders: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    command = ["exiftool", "-j", "-n", "-G0", "-q", "-q", "-r", "-ext", "*", *map(str, folders)]
    made = subprocess.run(command, capture_output=True, check=False).stdout
    for tags in json.loads(made or b"[]"):
        yield Path(tags.pop("SourceFile")), tags


def theirs(tags: dict[str, Any], column: str) -> Any:
    """What exiftool says of a column, in our form."""
    if column == "taken_at":
        times = (_time(tags, name) for name in TIMES)
        best = best_time((time, None) if time else None for time in times)
        return best[0] if best else None
    if column in ("camera_make", "camera_model"):
        make, model = (_first(tags, name) for name in ("camera_make", "camera_model"))
        # Ours is the one name of a camera that has several.
        named = named_once(_text(make), _text(model))
        return named[column == "camera_model"]
    return _first(tags, column)


def _first(tags: dict[str, Any], column: str) -> Any:
    values = (tags.get(name) for name in NAMES[column])
    return next((value for value in values if _says_something(value, column)), None)


def _text(value: Any) -> str | None:
    return None if value is None else str(value).strip()


def _says_something(value: Any, column: str) -> bool:
    if column in ("focal_length", "f_number", "exposure_time", "iso"):
        return isinstance(value, int | float) and value > 0
    text = str(value if value is not None else "").strip()
    return text.strip("-") != "" and text.lower() not in ("unknown", "undef", "inf")


def _time(tags: dict[str, Any], name: str) -> str | None:
    text = re.sub(r"([+-]\d\d:\d\d|Z)$", "", str(tags.get(name, "")))
    if name == "IPTC:DateCreated" and "IPTC:TimeCreated" in tags:
        text += " " + str(tags["IPTC:TimeCreated"])
    numbers = re.findall(r"\d+", text)[:6]
    if not numbers or int(numbers[0]) == 0 or (len(numbers) > 1 and int(numbers[1]) == 0):
        return None
    parts = [number.zfill(2) for number in numbers]
    return "-".join(parts[:3]) + ("T" + ":".join(parts[3:]) if len(parts) > 3 else "")


def agree(ours: Any, their: Any, column: str) -> bool:
    if column == "keywords":
        their = their if isinstance(their, list) else re.split(r"\s*;\s*", str(their))
        return set(ours) == {" ".join(str(each).split()) for each in their if str(each).strip()}
    if isinstance(ours, float | int):
        try:
            return math.isclose(ours, float(their), rel_tol=ALMOST, abs_tol=1e-6)
        except (TypeError, ValueError):
            return False
    if isinstance(their, list):
        their = "; ".join(map(str, their))
    return " ".join(str(ours).split()) == " ".join(str(their).split())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--differences", nargs="*", default=[])
    parser.add_argument("--cameras", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    cameras: dict[tuple[Any, ...], set[tuple[Any, ...]]] = defaultdict(set)
    seconds, read = 0.0, 0
    for path, tags in exiftool(asked.folders):
        if not is_image_name(path.name):
            continue
        data = path.read_bytes()
        try:
            image = image_of(data, FORMATS)
        except Exception:
            image = None
        started = time.perf_counter()
        found = read_metadata(data, image)
        seconds += time.perf_counter() - started
        read += 1
        cameras[found.camera_make, found.camera_model].add(
            tuple(_first(tags, name) for name in ("camera_make", "camera_model"))
        )
        for column in ("taken_at", *NAMES):
            ours, their = getattr(found, column), theirs(tags, column)
            we_have, they_have = ours not in (None, ()), their is not None
            if not (we_have or they_have):
                continue
            kind = "only ours" if not they_have else "only exiftool's" if not we_have else "differ"
            kind = "agree" if kind == "differ" and agree(ours, their, column) else kind
            kinds[column][kind] += 1
            if kind != "agree" and column in asked.differences:
                print(f"{column}: {path}: {ours!r:.70} | exiftool: {their!r:.70}")
    if asked.cameras:
        for named, written in sorted(cameras.items(), key=str):
            if written != {named}:
                print(named, "<-", *sorted(written, key=str))
    headers = ("agree", "differ", "only ours", "only exiftool's")
    rows = []
    for column, counts in kinds.items():
        both = counts["agree"] + counts["differ"]
        share = f"{counts['agree'] / both:.1%}" if both else ""
        rows.append([column, *(counts[name] for name in headers), share])
    print(tabulate(rows, headers=["column", *headers, "of both"]))
    print(f"{read:,} pictures, {seconds / max(read, 1) * 1000:.2f} ms each")


if __name__ == "__main__":
    main()
