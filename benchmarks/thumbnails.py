"""
Compare ways to make a thumbnail: time, size, and likeness to the picture before it is compressed.

    python benchmarks/thumbnails.py FOLDER      # a minute for 300 photos

Each photo is resized to two thirds, as a JPEG of a camera is after it was decoded for a thumbnail. So it does not
matter that the photos are small, and no way profits from the blocks that a photo was compressed in. Times are of
a processor; the likeness is the structural similarity (SSIM) to the same resized by Lanczos, without compression.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SCALE = 2 / 3
REPEATED = 3
WINDOW = 8
"""Pixels of the sides of what SSIM compares."""

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""The constants of SSIM."""

LANCZOS, BICUBIC, HAMMING = (
    Image.Resampling.LANCZOS,
    Image.Resampling.BICUBIC,
    Image.Resampling.HAMMING,
)


@dataclass(frozen=True)
class Way:
    resampling: Image.Resampling
    format: str
    quality: int
    options: dict[str, object]

    @property
    def name(self) -> str:
        options = " ".join(f"{key} {value}" for key, value in self.options.items())
        return f"{self.resampling.name.lower()}, {self.format} {self.quality} {options}".strip()


WAYS = (
    *(Way(LANCZOS, "WEBP", 75, {"method": method}) for method in (2, 0, 1, 3, 4)),
    *(Way(filter, "WEBP", 75, {"method": 0}) for filter in (BICUBIC, HAMMING)),
    *(Way(LANCZOS, "JPEG", quality, {}) for quality in (75, 78, 80, 85)),
    *(Way(LANCZOS, "JPEG", quality, {"optimize": True}) for quality in (78, 80)),
    *(Way(BICUBIC, "JPEG", quality, {"optimize": True}) for quality in (75, 78, 80, 82, 85)),
    *(Way(HAMMING, "JPEG", quality, {"optimize": True}) for quality in (80, 85)),
)


def ssim(picture: Image.Image, other: Image.Image) -> float:
    """The mean structural similarity of the luma, 1 for the same."""
    a, b = (np.asarray(each.convert("L"), np.float64) for each in (picture, other))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    photos = [Image.open(path).convert("RGB") for path in sorted(options.folder.rglob("*.jpg"))]
    print(f"{len(photos)} photos")
    print(
        f"{'':<34} {'resize, ms':>11} {'compress, ms':>13} {'both':>6} {'kB':>6} {'SSIM':>7} {'worst 5 %':>10}"
    )
    for way in WAYS:
        rows = [measured(photo, way) for photo in photos]
        resize, compress, size, likeness = np.mean(rows, axis=0)
        worst = np.percentile([row[3] for row in rows], 5)
        print(
            f"{way.name:<34} {resize:>11.2f} {compress:>13.2f} {resize + compress:>6.2f} {size / 1e3:>6.2f} "
            f"{likeness:>7.4f} {worst:>10.4f}",
            flush=True,
        )


def measured(photo: Image.Image, way: Way) -> tuple[float, float, int, float]:
    """Milliseconds to resize and to compress, bytes, and SSIM."""
    size = round(photo.width * SCALE), round(photo.height * SCALE)
    small = photo.resize(size, way.resampling)

    def compressed() -> io.BytesIO:
        buffer = io.BytesIO()
        small.save(buffer, way.format, quality=way.quality, **way.options)
        return buffer

    resize = core_ms(lambda: photo.resize(size, way.resampling))
    compress = core_ms(compressed)
    file = compressed()
    with Image.open(file) as thumbnail:
        likeness = ssim(photo.resize(size, LANCZOS), thumbnail)
    return resize, compress, len(file.getvalue()), likeness


if __name__ == "__main__":
    main()
