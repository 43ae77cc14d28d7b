#!/usr/bin/env python3
"""
Measure how well and how fast the built-in embedder `palette` searches.

    python benchmarks/palette.py [--photos FOLDER_OF_LABEL_FOLDERS]
    python benchmarks/palette.py --calibrate FOLDER_OF_PHOTOS

The second command measures the averages of photos and writes them into the package. Use other photos for
it than for measuring: the package's own averages come from 100 photos of Flickr8k.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

for library in ("OMP", "OPENBLAS", "MKL"):  # one thread, so that CPU time is what one photo costs
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from PIL import Image, ImageDraw, ImageOps  # noqa: E402

from datasette_image_search.embedders import palette  # noqa: E402

PHOTOS = ROOT.parent / "shared" / "data" / "photos"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SHRINKAGE = {"colours": 10.0, "layout": 2.0, "light": 10.0, "light_layout": 2.0, "texture": 2.0}
"""The amount, in mean variances, that `learn` adds to each variance of a block. It is larger for the
blocks of single colours, so that a little of a rare one does not count as much."""

TEXTURE_AXES = 160
"""Directions kept of the texture block, the 160 that vary most of its 324."""

BATCH = 32

SHADES = {
    "orange": ["#ff8c00", "#f97316", "#e8731a"],
    "red": ["#e01020", "#c81e1e", "#ff2a2a"],
    "blue": ["#1e40d0", "#2f6fdc", "#0a2a90"],
    "green": ["#1f8f3a", "#2fb344", "#3d7a2a"],
    "yellow": ["#ffe000", "#f7d825", "#fff04a"],
    "purple": ["#7a1fa2", "#8e44ad", "#5b2a86"],
    "pink": ["#ff8fc0", "#f76fae", "#ffb6d0"],
    "brown": ["#6b4423", "#7b4a1e", "#5c3a21"],
    "black": ["#000000", "#0d0d0d", "#161616"],
    "white": ["#ffffff", "#f7f7f7", "#fafafa"],
    "grey": ["#808080", "#707070", "#929292"],
}
"""What pictures of each colour are drawn with."""


def pictures_in(folder: Path) -> list[Path]:
    """All photos below a folder, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def open_rgb(path: Path) -> Image.Image:
    """A photo, upright and in memory."""
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def crops(picture: Image.Image, random: np.random.Generator, number: int) -> Iterable[Image.Image]:
    """Parts of a photo between half and all of its width, every other one mirrored."""
    width, height = picture.size
    for which in range(number):
        share = random.uniform(0.5, 1)
        wide, high = max(1, int(width * share)), max(1, int(height * share))
        left = int(random.integers(0, width - wide + 1))
        top = int(random.integers(0, height - high + 1))
        part = picture.crop((left, top, left + wide, top + high))
        yield ImageOps.mirror(part) if which % 2 else part


def learn(blocks: np.ndarray, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Blocks of many pictures, shape (n, size) -> their mean, (size,), and their principal axes, each divided
    by the spread along it, (size, size).

    Without that, the few directions in which all photos differ (light or dark above, edges or none)
    hide the rest: Hariharan, Malik & Ramanan, "Discriminative decorrelation for clustering and
    classification", 2012.
    """
    mean = blocks.mean(axis=0, dtype=np.float64)
    variance, axes = np.linalg.eigh(np.cov((blocks - mean).T))
    # Largest first, with a sign that is the same on all machines.
    variance, axes = variance[::-1], axes[:, ::-1]
    axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)
    scaled = axes / np.sqrt(variance.clip(0) + shrinkage * variance.mean())
    scaled /= scaled.std()
    return mean.astype(np.float32), scaled.astype(np.float16)


def calibrate(folder: Path, crops_of_each: int = 12) -> None:
    """Measure what is usual in the photos of a folder, and write it into the package."""
    random = np.random.default_rng(2005)
    found = []
    for path in pictures_in(folder):
        pixels = [palette.squeeze(crop) for crop in crops(open_rgb(path), random, crops_of_each)]
        found.append(palette.measure(np.stack(pixels)))
    if not found:
        sys.exit(f"{folder} has no photo in it.")
    arrays = {}
    for block in palette.WEIGHTS:
        blocks = np.concatenate([each[block] for each in found])
        mean, axes = learn(blocks, SHRINKAGE[block])
        kept = TEXTURE_AXES if block == "texture" else axes.shape[1]
        arrays |= {f"{block}_mean": mean, f"{block}_axes": axes[:, :kept]}
    np.savez_compressed(palette.NATURAL_FILE, **arrays)
    print(f"{palette.NATURAL_FILE}: from {len(found)} photos, {crops_of_each} crops of each.")


def precision_at(vectors: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of each photo's k nearest others that have its label, averaged over photos."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((labels[nearest] == labels[:, None]).mean())


def report_photos(embedder: palette.PaletteEmbedder, folder: Path) -> None:
    """Print precision and CPU time on photos whose folder is their label."""
    paths = pictures_in(folder)
    labels = np.array([path.parent.name for path in paths])
    embedder.encode_images(np.zeros((1, palette.SIDE, palette.SIDE, 3), np.uint8))  # warm up
    vectors, spent = [], np.zeros(3)
    for start in range(0, len(paths), BATCH):
        clock = [time.process_time()]
        pictures = [open_rgb(path) for path in paths[start : start + BATCH]]
        clock.append(time.process_time())
        inputs = np.stack([embedder.preprocess(picture) for picture in pictures])
        clock.append(time.process_time())
        vectors.append(embedder.encode_images(inputs))
        clock.append(time.process_time())
        spent += np.diff(clock)
    found = np.concatenate(vectors)
    print(f"{len(paths)} photos of {len(set(labels))} kinds in {folder}")
    for k in (1, 5, 10):
        print(f"  precision@{k:<22}{precision_at(found, labels, k):8.3f}")
    for step, seconds in zip(("decode", "preprocess", "encode"), spent, strict=True):
        print(f"  {step + ', ms of CPU a photo':<32}{1000 * seconds / len(paths):8.2f}")


def draw(colour: str, random: np.random.Generator) -> Image.Image:
    """A picture mostly of one colour: its background, or the big thing in it, and small others."""
    others = [name for name in SHADES if name != colour]
    mostly_background = random.random() < 0.5
    ground = colour if mostly_background else str(random.choice(others))
    picture = Image.new("RGB", (300, 200), str(random.choice(SHADES[ground])))
    pen = ImageDraw.Draw(picture)
    if not mostly_background:
        left, top = random.integers(0, 40), random.integers(0, 20)
        pen.rounded_rectangle(
            (left, top, left + 255, top + 175), 30, str(random.choice(SHADES[colour]))
        )
    for _ in range(3):
        x, y = random.integers(20, 240), random.integers(20, 150)
        box = (x, y, x + random.integers(20, 55), y + random.integers(20, 45))
        shape = pen.ellipse if random.random() < 0.5 else pen.rectangle
        shape(box, fill=str(random.choice(SHADES[str(random.choice(others))])))
    return picture


def report_colours(embedder: palette.PaletteEmbedder, number: int = 200) -> None:
    """Print how many of the best answers to each colour are mostly of that colour."""
    random = np.random.default_rng(1)
    labels = np.resize(list(SHADES), number)
    pictures = [draw(str(label), random) for label in labels]
    vectors = embedder.encode_images(np.stack([embedder.preprocess(each) for each in pictures]))
    print(f"{number} drawn pictures, precision at the number of relevant ones")
    for name in SHADES:
        relevant = labels == name
        scores = vectors @ embedder.encode_texts([name])[0]
        best = np.argsort(-scores, kind="stable")[: relevant.sum()]
        print(f"  {name:<32}{relevant[best].mean():8.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a folder of label folders")
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="photos to learn from")
    options = parser.parse_args()
    if options.calibrate:
        calibrate(options.calibrate)
        return
    embedder = palette.PaletteEmbedder()
    print(f"{embedder.fingerprint}, {embedder.dimensions} dimensions")
    if options.photos.is_dir():
        report_photos(embedder, options.photos)
    else:
        print(f"There are no photos at {options.photos}, so only drawn pictures are measured.")
    report_colours(embedder)


if __name__ == "__main__":
    main()
