"""
Make a database of any number of CLIP-like vectors with the metadata of a real collection, for the other
benchmarks. It imports the vectors like import-image-vectors, and fills in the columns afterwards.

    python benchmarks/collection.py photos.db --images 100000
    python benchmarks/collection.py photos.db --vectors vectors.npy

The script draws the vectors, unless you give it a file with better ones. Gaussian vectors would flatter
or punish an index for the wrong reasons: CLIP's lie in a narrow cone, have few effective dimensions, come
in clusters, and words lie elsewhere than images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasette_image_search.ingest.import_request import ImportRequest
from datasette_image_search.ingest.vector_import import import_vectors
from datasette_image_search.search.indexing import refresh_sidecars
from datasette_image_search.store.connections import open_or_make

MODEL = "ViT-B-32/openai"
BLOCK = 50_000

CLUSTERS = 2000
DECAY = 0.4
"""The spread along the n-th axis is n to the power of minus this: about 50 dimensions do something."""
IMAGES = (0.7, 0.0, 0.7)
WORDS = (0.26, 0.86, 0.43)
"""What vectors are made of: a part that images and words share, one that only words have, and the rest,
which is what they are about. Chosen for the cosines of real ones: between two images 0.5, between
words and an image 0.2, to the closest images 0.3."""


def image_vectors(n: int, dimensions: int = 512, seed: int = 0) -> np.ndarray:
    """n image vectors like CLIP's, shape (n, dimensions), float32, unit norm."""
    out = np.empty((n, dimensions), dtype=np.float32)
    _draw(out, seed, IMAGES)
    return out


def text_vectors(n: int, dimensions: int = 512, seed: int = 1) -> np.ndarray:
    """n vectors of words that describe such images, shape (n, dimensions), float32, unit norm."""
    out = np.empty((n, dimensions), dtype=np.float32)
    _draw(out, seed, WORDS)
    return out


def _draw(out: np.ndarray, seed: int, parts: tuple[float, float, float]) -> None:
    """The same cone, axes and clusters for every seed: those are the model's."""
    dimensions = out.shape[1]
    model = np.random.default_rng(2021)
    axes = np.linalg.qr(model.standard_normal((dimensions, dimensions)))[0].astype(np.float32)
    spread = (1 + np.arange(dimensions)) ** -DECAY
    spread = (spread / np.linalg.norm(spread)).astype(np.float32)
    centres = model.standard_normal((CLUSTERS, dimensions), dtype=np.float32) * spread
    # Few clusters have most images, as people take the same photos again and again.
    shares = 1 / (1 + np.arange(CLUSTERS))
    shared, only_words, about = parts
    middle = shared * axes[-1] + only_words * axes[-2]
    rng = np.random.default_rng(seed)
    for start in range(0, len(out), BLOCK):
        n = min(BLOCK, len(out) - start)
        cluster = rng.choice(CLUSTERS, n, p=shares / shares.sum())
        own = rng.standard_normal((n, dimensions), dtype=np.float32) * spread
        vectors = about * np.float32(np.sqrt(0.5)) * (centres[cluster] + own) @ axes + middle
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        out[start : start + n] = vectors


def make_collection(
    database: Path,
    vectors: Path | int,
    table: str = "images",
    model: str = MODEL,
    *,
    with_sidecar: bool = True,
) -> None:
    """
    A new database with a row for each vector of a .npy file, or for so many drawn ones: by folders of
    years and days, with cameras that are owned one after the other, and places for half of them.
    """
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        source = vectors
        if isinstance(source, int):
            source = Path(folder, "vectors.npy")
            array = open_memmap(source, "w+", np.float16, (vectors, 512))
            _draw(array, 0, IMAGES)
            del array
        n = len(np.load(source, mmap_mode="r"))
        paths = Path(folder, "paths.txt")
        with paths.open("w") as file:
            for number in range(n):
                day = number * 5000 // n
                file.write(f"{2010 + day // 366}/{day % 366:03}/IMG_{number:07}.jpg\n")
        # Where nothing is: there are no files to look at.
        root = Path("/collection-of-the-benchmarks")
        request = ImportRequest(database, table, source, model, paths, roots=[root])
        import_vectors(request)
    with open_or_make(database) as db:
        with db.conn:
            db.conn.create_function("hashed", 2, _hashed, deterministic=True)
            db.conn.execute(METADATA.format(table=table))
        if with_sidecar:
            refresh_sidecars(db, table)


def _hashed(number: int, salt: int) -> float:
    """A number from 0 up to 1 that is always the same, by the mixing steps of SplitMix64."""
    mixed = (number * 16 + salt) * 0x9E3779B97F4A7C15 % 2**64
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
    return (mixed ^ mixed >> 31) / 2**64


METADATA = """
update "{table}" set
    format = 'JPEG', width = 4000, height = 3000,
    size = 2000000 + cast(4000000 * hashed(id, 1) as integer),
    taken_at = datetime(
        strftime('%s', substr(folder, 1, 4) || '-01-01')
        + 86400 * cast(substr(folder, 6) as integer) + cast(86400 * hashed(id, 2) as integer),
        'unixepoch'
    ),
    camera_make = case
        when hashed(id, 3) < 0.03 then null
        when hashed(id, 3) < 0.60 then 'Apple'
        when hashed(id, 3) < 0.85 then 'Canon'
        when hashed(id, 3) < 0.98 then 'NIKON CORPORATION'
        when hashed(id, 3) < 0.999 then 'FUJIFILM'
        else 'LEICA CAMERA AG' end,
    camera_model = case
        when hashed(id, 3) < 0.03 then null
        when hashed(id, 3) < 0.60 then 'iPhone ' || (4 + (substr(folder, 1, 4) - 2010))
        when hashed(id, 3) < 0.85 then 'Canon EOS ' || (5 + cast(5 * hashed(id, 4) as integer)) || 'D'
        when hashed(id, 3) < 0.98 then 'NIKON D750'
        when hashed(id, 3) < 0.999 then 'X-T3'
        else 'LEICA M10' end,
    iso = 100 << cast(7 * hashed(id, 5) * hashed(id, 6) as integer),
    latitude = case when hashed(id, 7) < 0.5 then 48 + 6 * hashed(id, 8) end,
    longitude = case when hashed(id, 7) < 0.5 then 8 + 6 * hashed(id, 9) end
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("database", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--vectors", type=Path, help="a .npy file with one row per image")
    arguments = parser.parse_args()
    started = time.perf_counter()
    make_collection(arguments.database, arguments.vectors or arguments.images)
    size = arguments.database.stat().st_size / 1e9
    print(f"{arguments.database}: {size:.2f} GB in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
