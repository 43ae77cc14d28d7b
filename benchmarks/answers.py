"""
How good answers are: the right photo for a caption, by the score alone and by the corrected ranking.

    python benchmarks/answers.py ../shared/data

The vectors are of OpenAI's CLIP, ViT-B/32: 100 photos with five captions each, alone and among other images.
For each caption the reference queries are the captions of other photos, as a fifth of the photos at a time is
asked for with the captions of the rest.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import click
import numpy as np
from sqlite_utils import Database
from tabulate import tabulate

from datasette_image_search import Images
from datasette_image_search.search.query import QueryVector
from datasette_image_search.store.references import write_references

FOLDS = 5
FEW = 20
"""Reference queries that a person may have, when there are few."""
SAME = 0.98
"""The score above which two pictures count as the same."""
MODEL = "ViT-B-32/openai"


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
def main(data: Path) -> None:
    folder = data / "flickr8k-clip"
    photos = _unit(np.load(folder / "image_vectors.npy"))
    captions = _unit(np.load(folder / "text_vectors.npy"))
    others = _unit(np.load(data / "clip-vectors" / "image_vectors.npy"))
    others = others[(others @ photos.T).max(axis=1) < SAME]
    names = (folder / "photos.txt").read_text().split()
    with (folder / "captions.csv").open(newline="", encoding="utf-8") as file:
        right = np.array([names.index(row["photo"]) for row in csv.DictReader(file)])
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name, vectors in (("100", photos), ("all", np.vstack([photos, others]))):
            images = _table(Path(place), name, vectors)
            for ranking, rank, bank in (
                ("score", "cosine", None),
                ("corrected", "corrected", None),
                (f"corrected by {FEW}", "corrected", FEW),
            ):
                ranks = _ranks(images, captions, right, rank, bank)
                recalls = [f"{(ranks <= k).mean():.3f}" for k in (1, 5, 10)]
                rows.append([len(vectors), ranking, *recalls])
            images.close()
    print(tabulate(rows, ["images", "ranking", "recall@1", "@5", "@10"], disable_numparse=True))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _table(place: Path, name: str, vectors: np.ndarray) -> Images:
    np.save(place / f"{name}.npy", vectors)
    (place / f"{name}.txt").write_text("".join(f"{at}.jpg\n" for at in range(len(vectors))))
    images = Images(place / f"{name}.db", "images")
    images.import_vectors(
        place / f"{name}.npy", paths=place / f"{name}.txt", roots=[place], model=MODEL
    )
    return images


def _ranks(
    images: Images, captions: np.ndarray, right: np.ndarray, rank: str, bank: int | None
) -> np.ndarray:
    """For each caption the rank of its photo, from 1, or beyond 10."""
    ranks = np.full(len(captions), 99)
    db = Database(images.conn, execute_plugins=False)
    for fold in range(FOLDS):
        asked = np.flatnonzero(right % FOLDS == fold)
        others = np.flatnonzero(right % FOLDS != fold)
        if bank is not None:
            others = np.random.default_rng(fold).choice(others, bank, replace=False)
        index = images.index_of()
        index = write_references(db, index, [str(at) for at in others], captions[others])
        queries = [QueryVector(index, captions[at], words=1.0) for at in asked]
        for at, found in zip(asked, images.find(queries, 10, rank=rank), strict=True):
            ids = [hit.id for hit in found.hits]
            if int(right[at]) + 1 in ids:
                ranks[at] = ids.index(int(right[at]) + 1) + 1
    return ranks


if __name__ == "__main__":
    main()
