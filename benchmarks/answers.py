"""
How good answers are: the right photo for a caption, by the score alone and by the corrected ranking.

    python benchmarks/answers.py ../shared/data
    python benchmarks/answers.py ../shared/data --figure docs/ranking.svg

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
from ranking_figure import ranking_figure
from sqlite_utils import Database
from tabulate import tabulate

from datasette_image_search import Images
from datasette_image_search.search.correction import ranking_vectors
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.hits import LINE
from datasette_image_search.search.query import QueryVector
from datasette_image_search.search.relevance import relevance_of
from datasette_image_search.store import Index
from datasette_image_search.store.references import (
    References,
    record_references,
    with_references,
)

FOLDS = 5
FEW = 20
"""Reference queries that a person may have, when there are few."""
TOLD = (1, 5, 10)
SAME = 0.98
"""The score above which two pictures count as the same."""
MODEL = "ViT-B-32/openai"


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--figure", type=click.Path(path_type=Path), help="an SVG to draw of the recalls of all"
)
def main(data: Path, figure: Path | None) -> None:
    folder = data / "flickr8k-clip"
    photos = _unit(np.load(folder / "image_vectors.npy"))
    captions = _unit(np.load(folder / "text_vectors.npy"))
    others = _unit(np.load(data / "clip-vectors" / "image_vectors.npy"))
    others = others[(others @ photos.T).max(axis=1) < SAME]
    names = (folder / "photos.txt").read_text().split()
    with (folder / "captions.csv").open(newline="", encoding="utf-8") as file:
        right = np.array([names.index(row["photo"]) for row in csv.DictReader(file)])
    rows, told = [], []
    drawn: dict[int, tuple[float, ...]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, vectors in (("100", photos), ("all", np.vstack([photos, others]))):
            images = _table(Path(place), name, vectors)
            for ranking, rank, bank in (
                ("score", "cosine", None),
                ("corrected", "corrected", None),
                (f"corrected by {FEW}", "corrected", FEW),
            ):
                ranks = _ranks(images, captions, right, rank, bank)
                recalls = {k: float((ranks <= k).mean()) for k in TOLD}
                rows.append([len(vectors), ranking, *(f"{each:.3f}" for each in recalls.values())])
                if name == "all" and bank is None:
                    drawn = {k: (*drawn.get(k, ()), each) for k, each in recalls.items()}
            present, absent, gold = _present_or_absent(images, captions, right)
            line = np.quantile(absent, 0.95)
            numbers = _auc(present, absent), (gold > line).mean(), line
            shares = (gold >= LINE).mean(), (absent >= LINE).mean()
            told.append([len(vectors), *(f"{number:.3f}" for number in (*numbers, *shares))])
            images.close()
    if figure is not None:
        figure.write_text(ranking_figure(len(photos) + len(others), drawn), encoding="utf-8")
    print(tabulate(rows, ["images", "ranking", "recall@1", "@5", "@10"], disable_numparse=True))
    headers = [
        "images",
        "AUC",
        "kept at 5 % false alarms",
        "by a line at",
        "matches",
        "false alarms at 0.95",
    ]
    print(
        f"\nIs there such a photo? By relevance\n{tabulate(told, headers, disable_numparse=True)}"
    )


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


def _with_bank(images: Images, db: Database, captions: np.ndarray) -> Index:
    """The index of a table, with these reference queries from now on."""
    references = References(captions)
    index = with_references(images.index_of(), references)
    record_references(db, index, references)
    return index


def _as_words(index: Index, caption: np.ndarray) -> QueryVector:
    return QueryVector(index, caption, words=(1.0,), pictures=())


def _present_or_absent(
    images: Images, captions: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    For each caption the relevance of the best image, of the best without its photo, and of its photo, shape
    (len(captions),) each.
    """
    best, without, gold = (np.zeros(len(captions)) for _ in range(3))
    db = Database(images.conn, execute_plugins=False)
    count = images.status()["vectors"]
    for fold in range(FOLDS):
        index = _with_bank(images, db, captions[right % FOLDS != fold])
        for at in np.flatnonzero(right % FOLDS == fold):
            query, photo = _as_words(index, captions[at]), int(right[at]) + 1
            hits = images.search(query, count)
            corrected = {hit.id: hit.corrected for hit in hits}
            live = live_index(images.conn, index)
            (row,) = ranking_vectors(index, live.references, query.vector[None], np.ones(1))
            relevance = relevance_of(live, row, query)
            assert relevance is not None
            best[at], gold[at] = relevance(np.array([hits[0].corrected, corrected.pop(photo)]))
            (without[at],) = relevance(np.array([max(corrected.values())]))
    return best, without, gold


def _auc(present: np.ndarray, absent: np.ndarray) -> float:
    """The share of pairs in which the one that is present is above, and half of those that tie."""
    differences = present[:, None] - absent[None]
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


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
        index = _with_bank(images, db, captions[others])
        queries = [_as_words(index, captions[at]) for at in asked]
        for at, found in zip(asked, images.find(queries, 10, rank=rank), strict=True):
            ids = [hit.id for hit in found.hits]
            if int(right[at]) + 1 in ids:
                ranks[at] = ids.index(int(right[at]) + 1) + 1
    return ranks


if __name__ == "__main__":
    main()
