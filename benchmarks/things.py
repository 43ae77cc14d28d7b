"""
Measure `--model things`: what it finds, and what it costs.

    python benchmarks/things.py --photos FOLDER [--captions FOLDER]    # about 2 minutes on 2 cores
    python benchmarks/things.py --calibrate                            # makes things_classes.npz, 1 minute

`--photos` has a folder for each label, with photos. `--captions` has photos/ and captions.csv, with the
columns photo and caption. Pictures are embedded by the command, searches go through the Python API.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from embed import line

from datasette_image_search.api import Images
from datasette_image_search.embedders.protocol import ModelRequest
from datasette_image_search.embedders.registry import load_embedder
from datasette_image_search.embedders.things import CLASSES_FILE, Sentences, Tokens
from datasette_image_search.embedders.things import sentences_of_classes as described

WORDS_FOR_SCALE = "a photo of a {}"
SCALES = (5, 10, 15, 20, 25, 30, 40, 50, 70, 100)
QUERIES = 300


def calibrate() -> None:
    import torch

    tokens, sentences, texts = Tokens(), Sentences().eval(), described()
    with torch.inference_mode():
        parts = [sentences(tokens(texts[at : at + 20])).numpy() for at in range(0, len(texts), 20)]
    meanings = np.concatenate(parts)
    meanings /= np.linalg.norm(meanings, axis=1, keepdims=True)
    np.savez_compressed(CLASSES_FILE, meanings=meanings.astype(np.float16))
    print(f"{CLASSES_FILE}: {len(meanings)} classes, {CLASSES_FILE.stat().st_size / 1e3:.0f} kB")


def embed(database: Path, photos: Path) -> None:
    command = [sys.executable, "-m", "sqlite_utils", "embed-images", database, "images", photos]
    subprocess.run([*map(str, command), "--model", "things", "--silent"], check=True)


def measure_pictures(database: Path) -> None:
    """Of the five photos closest to each, how many are in its folder."""
    images = Images(database)
    folders = dict(images.conn.execute("select id, folder from images"))
    found = images.search_many([f"#{id}" for id in folders], 6)
    same = [
        folders[hit.id] == folder
        for (id, folder), hits in zip(folders.items(), found, strict=True)
        for hit in [hit for hit in hits if hit.id != id][:5]
    ]
    line(f"precision@5 of {len(folders)} photos", f"{np.mean(same):.3f}", "at least 0.95")


def measure_scale(database: Path) -> None:
    """The factor of scores before a softmax over the names of the folders: the least surprised is best."""
    images = Images(database)
    folders = dict(images.conn.execute("select id, folder from images"))
    names = sorted(set(folders.values()))
    queries = [WORDS_FOR_SCALE.format(name.replace("_", " ")) for name in names]
    found = images.search_many(queries, len(folders))
    by_id = [{hit.id: hit.score for hit in hits} for hits in found]
    scores = np.array([[each[id] for each in by_id] for id in folders])
    right = np.array([names.index(folder) for folder in folders.values()])
    named = np.mean(scores.argmax(axis=1) == right)
    line("photos for which the name of their folder is best", f"{named:.3f}")
    for scale in SCALES:
        shares = np.exp(scale * scores)
        shares /= shares.sum(axis=1, keepdims=True)
        surprise = -np.log(shares[np.arange(len(right)), right]).mean()
        line(f"  surprise at logit_scale {scale}", f"{surprise:.3f}")


def measure_captions(database: Path, captions: Path) -> None:
    """How often the photo of a caption is the best, among the best 5, and among the best 10."""
    images = Images(database)
    filenames = dict(images.conn.execute("select id, filename from images"))
    with captions.open(encoding="utf-8") as file:
        wanted = [(row["photo"], row["caption"].replace('"', "")) for row in csv.DictReader(file)]
    found = images.search_many([f'"{caption}"' for _, caption in wanted], 10)
    ranks = np.array(
        [
            [*(filenames[hit.id] for hit in hits), photo].index(photo)
            for (photo, _), hits in zip(wanted, found, strict=True)
        ]
    )
    for most, target in ((1, ""), (5, ""), (10, "at least 0.68")):
        line(f"recall@{most} of {len(wanted)} captions", f"{np.mean(ranks < most):.3f}", target)


def measure_time() -> None:
    embedder = load_embedder(ModelRequest("things"))
    pictures = np.random.default_rng(0).normal(size=(32, 3, 224, 224)).astype(np.float32)
    embedder.encode_images(pictures)
    taken = min(cpu_seconds(lambda: embedder.encode_images(pictures)) for _ in range(3))
    line(
        f"a picture, ms of a core ({embedder.precision})",
        f"{taken / len(pictures) * 1e3:.0f}",
        "48",
    )
    embedder.encode_texts(["a photo"])
    new = [
        seconds(lambda at=at: embedder.encode_texts([f"{at} red cars at a beach"]))
        for at in range(40)
    ]
    line("a query that is new, median ms", f"{statistics.median(new) * 1e3:.0f}", "at most 60")
    line("  the quickest", f"{min(new) * 1e3:.0f}")
    texts = [f"a photo of {at} dogs in the snow" for at in range(QUERIES)]
    line(
        f"{QUERIES} queries at once, ms",
        f"{seconds(lambda: embedder.encode_texts(texts)) * 1e3:.0f}",
    )


def seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def cpu_seconds(call) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--captions", type=Path)
    options = parser.parse_args()
    if options.calibrate:
        calibrate()
        return
    measure_time()
    with tempfile.TemporaryDirectory() as folder:
        if options.photos:
            database = Path(folder, "photos.db")
            embed(database, options.photos)
            measure_pictures(database)
            measure_scale(database)
        if options.captions:
            database = Path(folder, "captions.db")
            embed(database, options.captions / "photos")
            measure_captions(database, options.captions / "captions.csv")


if __name__ == "__main__":
    main()
