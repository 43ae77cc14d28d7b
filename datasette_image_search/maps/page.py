"""A map as one self-contained HTML file, which opens from the disk and needs no network."""

from __future__ import annotations

import base64
import html
import io
import json
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from ..store import Key
from .collection import CollectionMap
from .colouring import Colouring
from .picture import ThumbnailOf, readable

MOST_IMAGES = 50_000
"""The most images on a map in a browser: 2.4 MB of JSON, and more would look the same."""

EXACT = 2**53
"""The lowest integer that float64 cannot tell from the next."""

SIDE = 96
"""Pixels of the longer side of a thumbnail in the file."""

COLUMNS = 40
"""Thumbnails in a row of a sheet, and rows of a sheet: 3,840 pixels, which all browsers take."""


def map_data(placed: CollectionMap, colouring: Colouring) -> dict[str, Any]:
    """The data for static/image-map.js, ready for JSON."""
    return {
        "count": placed.count,
        "images": {
            "id": [_as_json(image_id) for image_id in placed.image_ids],
            "name": placed.names,
            # A hundred-thousandth of the map is less than a pixel.
            "x": np.round(placed.points[:, 0].astype(np.float64), 5).tolist(),
            "y": np.round(placed.points[:, 1].astype(np.float64), 5).tolist(),
            "colour": colouring.codes.tolist(),
        },
        "colours": list(colouring.colours),
        "legend": {
            "title": colouring.title,
            "entries": [
                {"label": entry.label, "colour": entry.colour, "count": entry.count}
                for entry in colouring.legend
            ],
            "scale": colouring.scale,
        },
    }


def _as_json(image_id: Key) -> Key:
    """
    Large ids become texts: a browser would read them as float64 and change them, and SQLite takes
    texts.
    """
    is_exact = isinstance(image_id, str) or abs(image_id) < EXACT
    return image_id if is_exact else str(image_id)


def html_file(
    placed: CollectionMap,
    colouring: Colouring,
    thumbnail_of: ThumbnailOf,
    most_thumbnails: int,
    title: str,
    description: str,
) -> tuple[str, int]:
    """The file, and the number of thumbnails in it."""
    sprites = _sprites(placed, thumbnail_of, most_thumbnails)
    data = json.dumps({**map_data(placed, colouring), "sprites": sprites}, separators=(",", ":"))
    package = files("datasette_image_search")
    static = {
        name: package.joinpath("static", name).read_text(encoding="utf-8")
        for name in ("image-search.css", "image-map.css", "image-map.js")
    }
    template = package.joinpath("templates", "image_map_file.html").read_text(encoding="utf-8")
    text = Template(template).substitute(
        title=html.escape(title),
        description=html.escape(description),
        css=static["image-search.css"] + static["image-map.css"],
        js=static["image-map.js"],
        # So that no file name can end the script around it.
        data=data.replace("<", "\\u003c"),
    )
    return text, len(sprites["of"])


def one_per_cell(points: np.ndarray, most: int) -> np.ndarray:
    """
    Positions of at most `most` of the points, shape (n, 2), -1 to 1, spread over the map: all of them,
    or the first in each cell of a grid. They ascend.
    """
    if len(points) <= most:
        return np.arange(len(points))
    side = int(np.sqrt(most))
    cells = np.clip(((points + 1) / 2 * side).astype(int), 0, side - 1) @ (side, 1)
    return np.sort(np.unique(cells, return_index=True)[1])


def _sprites(placed: CollectionMap, thumbnail_of: ThumbnailOf, most: int) -> dict[str, Any]:
    """
    `of` are positions of images, `sizes` width and height of each one's thumbnail. They lie in squares
    of `side`, `columns` to a row and as many rows to a sheet; `sheets` are data: URLs.
    """
    of: list[int] = []
    sizes: list[tuple[int, int]] = []
    sheets: list[str] = []
    sheet = None
    for at in one_per_cell(placed.points, most).tolist() if most else ():
        thumbnail = readable(thumbnail_of(placed.image_ids[at]), SIDE)
        if thumbnail is None:
            continue
        row, column = divmod(len(of) % COLUMNS**2, COLUMNS)
        if sheet is None:
            sheet = Image.new("RGB", (SIDE * COLUMNS, SIDE * COLUMNS))
        sheet.paste(thumbnail, (column * SIDE, row * SIDE))
        of.append(at)
        sizes.append(thumbnail.size)
        if len(of) % COLUMNS**2 == 0:
            sheets.append(_data_url(sheet))
            sheet = None
    if sheet is not None:
        rows = -(-(len(of) % COLUMNS**2) // COLUMNS)
        sheets.append(_data_url(sheet.crop((0, 0, sheet.width, rows * SIDE))))
    return {"side": SIDE, "columns": COLUMNS, "of": of, "sizes": sizes, "sheets": sheets}


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=75)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
