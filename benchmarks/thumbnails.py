"""
Compare ways to make a thumbnail: time, size, and likeness to the picture before it is compressed.

    python benchmarks/thumbnails.py FOLDER [FOLDER ...]      # five minutes for 400 photos

Each photo is resized to two thirds, as a JPEG of a camera is after it was decoded for a thumbnail. So it does not
matter that the photos are small, and no way profits from the blocks that a photo was compressed in. Drawn pictures
(text, charts, screenshots) are another table. Times are of a processor, for resizing and compressing; the likeness is
the structural similarity (SSIM) to the same resized by Lanczos, without compression: of brightness, and of colours.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from datasette_image_search.decoding.thumbnails import make_thumbnail

SCALE = 2 / 3
DRAWN_SIZES = ((480, 300), (1280, 800))
THUMBNAIL_SIZE = 320
REPEATED = 3
WINDOW = 8
"""Pixels of the sides of what SSIM compares."""

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""The constants of SSIM."""

LANCZOS, BICUBIC = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Way:
    """`make` gives the bytes of a picture whose longer side has so many pixels."""

    name: str
    make: Callable[[Image.Image, int], bytes]


def way(resampling: Image.Resampling, format: str, **options: int | bool) -> Way:
    """As Pillow resizes and saves."""
    named = " ".join(f"{key} {value}" for key, value in options.items())
    return _saved(f"{resampling.name.lower()}, {format} {named}", resampling, format, **options)


def steps(brightness: tuple[int, int], colours: tuple[int, int], **options: bool) -> Way:
    """JPEG that quantizes in steps from so much, for the lowest frequency, to so much."""
    tables = [
        np.add.outer(*2 * [np.linspace(least / 2, most / 2, 8)])
        .round()
        .astype(int)
        .ravel()
        .tolist()
        for least, most in (brightness, colours)
    ]
    name = f"bicubic, JPEG steps {brightness}, {colours} {' '.join(options)}".strip()
    return _saved(name, BICUBIC, "JPEG", qtables=tables, optimize=True, **options)


def _saved(name: str, resampling: Image.Resampling, format: str, **options: object) -> Way:
    def make(picture: Image.Image, size: int) -> bytes:
        small = picture.copy()
        small.thumbnail((size, size), resampling)
        buffer = io.BytesIO()
        small.save(buffer, format, **options)
        return buffer.getvalue()

    return Way(name, make)


WAYS = (
    *(way(LANCZOS, "WEBP", quality=75, method=method) for method in (2, 0, 1, 3, 4)),
    way(BICUBIC, "WEBP", quality=80, method=0),
    way(BICUBIC, "WEBP", lossless=True, quality=75, method=2),
    way(BICUBIC, "JPEG", quality=82, optimize=True),
    steps((15, 15), (20, 20)),
    steps((8, 26), (11, 35), progressive=True),
    Way("as embed-images does", make_thumbnail),
)


# --- Likeness and time -----------------------------------------------------------------------------


def channels(picture: Image.Image) -> list[np.ndarray]:
    """Its brightness, and two of its colours."""
    values = np.asarray(picture.convert("RGB").convert("YCbCr"), np.float64)
    return list(np.moveaxis(values, 2, 0))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """The mean structural similarity of two channels, 1 for the same."""
    mean_a, mean_b = _means(a), _means(b)
    variance_a, variance_b = _means(a * a) - mean_a**2, _means(b * b) - mean_b**2
    covariance = _means(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    likeness /= (mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2)
    return float(likeness.mean())


def _means(values: np.ndarray) -> np.ndarray:
    """Of each window."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows = sums[WINDOW:] - sums[:-WINDOW]
    return (rows[:, WINDOW:] - rows[:, :-WINDOW]) / WINDOW**2


def core_ms(work: Callable[[], object]) -> float:
    """The least of some tries."""
    times = []
    for _ in range(REPEATED):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return min(times) * 1e3


# --- Pictures ----------------------------------------------------------------------------------------


def photos(folder: Path) -> Iterator[tuple[Image.Image, int]]:
    """With the longer sides of their thumbnails."""
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as file:
            photo = file.convert("RGB")
        yield photo, round(max(photo.size) * SCALE)


def drawings() -> Iterator[tuple[Image.Image, int]]:
    for width, height in DRAWN_SIZES:
        small = max(height // 50, 13)
        for colours, letters in (
            (("black", "white"), small),
            (("#9cdcfe", "#1e1e1e"), small),
            (("blue", "red"), 2 * small),
            (("#222", "#fffff8"), 3 * small),
        ):
            yield _text(width, height, *colours, letters), THUMBNAIL_SIZE
        for draw in (_chart, _diagram, _bars, _street_map, _slide, _window):
            yield draw(width, height), THUMBNAIL_SIZE


def _text(width: int, height: int, colour: str, background: str, letters: int) -> Image.Image:
    picture = Image.new("RGB", (width, height), background)
    draw = ImageDraw.Draw(picture)
    random = np.random.default_rng(0)
    for top in range(letters, height - letters, round(1.4 * letters)):
        codes = np.where(random.random(width) < 0.18, ord(" "), random.integers(97, 123, width))
        line = bytes(codes.astype(np.uint8)).decode()[
            : round((width - 2 * letters) / letters / 0.55)
        ]
        draw.text((letters, top), line, colour, ImageFont.load_default(letters))
    return picture


def _chart(width: int, height: int) -> Image.Image:
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    random = np.random.default_rng(1)
    for step in range(6):
        y = height * (0.1 + 0.14 * step)
        draw.line((0.1 * width, y, 0.95 * width, y), "#ddd")
        draw.text(
            (0.02 * width, y), f"{100 - 20 * step}", "#333", ImageFont.load_default(height // 30)
        )
    x = np.linspace(0.1 * width, 0.95 * width, 60)
    for colour in ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728"):
        y = height / 2 + np.cumsum(random.normal(0, 0.03 * height, len(x)))
        draw.line(list(zip(x, y, strict=True)), colour, max(2, width // 300))
    return picture


def _diagram(width: int, height: int) -> Image.Image:
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for column, colour in enumerate(("#e8f0fe", "#fce8e6", "#e6f4ea", "#fef7e0")):
        for row in range(3):
            x, y = width * (0.05 + 0.24 * column), height * (0.08 + 0.31 * row)
            right, below = x + 0.17 * width, y + 0.2 * height
            draw.rounded_rectangle((x, y, right, below), 12, colour, "#555", 3)
            name = f"part {column} {row}"
            draw.text((x + 9, (y + below) / 2), name, "black", ImageFont.load_default(height // 28))
            draw.line((right, y + 0.1 * height, right + 0.07 * width, y + 0.12 * height), "#555", 3)
    return picture


def _bars(width: int, height: int) -> Image.Image:
    picture = Image.new("RGB", (width, height), "#fafafa")
    draw = ImageDraw.Draw(picture)
    for bar in range(12):
        x, top = width * (0.05 + 0.075 * bar), height * (0.8 - 0.6 * abs(np.sin(bar)))
        draw.rectangle((x, top, x + 0.06 * width, height), (40 + 15 * bar, 90, 200 - 12 * bar))
    return picture


def _street_map(width: int, height: int) -> Image.Image:
    random = np.random.default_rng(3)
    land = Image.fromarray(random.integers(0, 4, (9, 12), np.uint8) * 60)
    kinds = np.asarray(land.resize((width, height), BICUBIC)) // 64
    colours = np.array(
        [[170, 211, 223], [242, 239, 233], [173, 209, 158], [200, 220, 180]], np.uint8
    )
    picture = Image.fromarray(colours[kinds])
    draw = ImageDraw.Draw(picture)
    for colour in ("#f7fabf", "#e892a2", "white") * 13:
        draw.line([tuple(point) for point in random.random((4, 2)) * (width, height)], colour, 3)
    for street in range(30):
        place = tuple(random.random(2) * (width, height))
        draw.text(place, f"Street {street}", "#333", ImageFont.load_default(height // 40))
    return picture


def _slide(width: int, height: int) -> Image.Image:
    """White words on colours that run into each other."""
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    colours = np.stack([60 + 100 * x, 30 + 80 * y, 160 + 30 * (x + y)], axis=-1)
    picture = Image.fromarray(colours.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.text((0.1 * width, 0.2 * height), "Review", "white", ImageFont.load_default(height // 8))
    for point in range(4):
        place = 0.12 * width, height * (0.45 + 0.1 * point)
        draw.text(
            place, f"Point {point} of the talk", "white", ImageFont.load_default(height // 18)
        )
    return picture


def _window(width: int, height: int) -> Image.Image:
    """A screenshot: a window with a shadow before a background, with text and a picture in it."""
    background = _slide(width, height)
    shadow = Image.new("L", (width, height))
    frame = 0.08 * width, 0.08 * height, 0.92 * width, 0.9 * height
    ImageDraw.Draw(shadow).rectangle(frame, fill=140)
    shadow = shadow.filter(ImageFilter.GaussianBlur(width / 80))
    picture = Image.composite(Image.new("RGB", (width, height)), background, shadow)
    draw = ImageDraw.Draw(picture)
    draw.rectangle(frame, "white")
    draw.rectangle((*frame[:2], frame[2], 0.14 * height), "#e0e0e0")
    picture.paste(
        _text(width // 2, height // 2, "black", "white", max(height // 45, 11)),
        (width // 8, height // 6),
    )
    random = np.random.default_rng(4)
    noise = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
    picture.paste(
        noise.resize((width // 4, height // 3), BICUBIC), (round(0.65 * width), height // 2)
    )
    return picture


# --- Tables ------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    print_table("drawn", drawings())
    for folder in options.folders:
        print_table(folder.name, photos(folder))


def print_table(name: str, pictures: Iterable[tuple[Image.Image, int]]) -> None:
    pictures = list(pictures)
    print(
        f"\n{f'{len(pictures)} {name}':<50} {'ms':>6} {'kB':>6} {'SSIM':>7} {'worst 5 %':>10} {'colours':>8}"
    )
    for way in WAYS:
        rows = [measured(picture, size, way) for picture, size in pictures]
        milliseconds, count, likeness, of_colours = np.mean(rows, axis=0)
        worst = np.percentile([row[2] for row in rows], 5)
        print(
            f"{way.name:<50} {milliseconds:>6.2f} {count / 1e3:>6.2f} {likeness:>7.4f} {worst:>10.4f} {of_colours:>8.4f}",
            flush=True,
        )


def measured(picture: Image.Image, size: int, way: Way) -> tuple[float, int, float, float]:
    """Milliseconds, bytes, and SSIM of brightness and of colours."""
    file = way.make(picture, size)
    expected = picture.copy()
    expected.thumbnail((size, size), LANCZOS)
    with Image.open(io.BytesIO(file)) as thumbnail:
        pairs = list(zip(channels(expected), channels(thumbnail), strict=True))
    brightness, *colours = [ssim(*pair) for pair in pairs]
    return core_ms(lambda: way.make(picture, size)), len(file), brightness, float(np.mean(colours))


if __name__ == "__main__":
    main()
