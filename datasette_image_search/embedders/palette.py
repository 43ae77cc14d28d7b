"""
The built-in embedder, which needs no download: it sees colour, layout, light and texture, and no
meaning.

A picture is measured in five blocks of numbers. Each block is compared with what is usual in
photos (`palette_natural.npz`, made by `benchmarks/palette.py --calibrate` from photos that have
nothing to do with yours), made as long as its weight, and all are put side by side. A text fills
the same blocks with what a picture of it would have, but for texture, which no word describes; so
pictures and texts compare by cosine.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from threadpoolctl import ThreadpoolController

from . import palette_colours as colours
from . import palette_texture
from . import palette_words as words
from .palette_colours import GRID, GROUPS, TRAITS
from .palette_vocabulary import USUAL
from .protocol import Embedder, TextNotUnderstood

VERSION = 1
"""Raise it with any change of the code that changes vectors of pictures; the fingerprint covers
constants."""

SIDE = 96
"""Pixels: every picture is squeezed into a square of this side, whatever its shape."""
COLOUR_SIDE = 48
"""Pixels a side in which colours are counted: they need less detail than edges do."""
CHUNK = 16
"""Pictures measured at once, about 2 MB of numbers each."""

# By reason, then by trial on drawn things and on altered photos: texture tells things apart best,
# but what it takes is missing from the score of a text, which should pass 0.5 for a perfect match.
WEIGHTS = {"colours": 0.4, "layout": 0.36, "light": 0.2, "light_layout": 0.12, "texture": 0.82}
SHARE_POWER = 0.65
"""Shares of colours count by this power, so that a small patch of red is not nothing beside a big
sky, nor (as by the square root) half as much as the sky."""
CONTRAST = 0.7
"""The share of the average over all cells that is subtracted from each cell: "blue above green" does not ask
for green everywhere, and "bright left" asks for a darker right."""

_one_at_a_time = threading.Lock()
"""The threads of BLAS are those of the process: whoever limits them puts back what it found."""

NATURAL_FILE = Path(__file__).with_name("palette_natural.npz")


@dataclass(frozen=True)
class Natural:
    """The usual values of a block in photos: its mean, shape (size,), and its axes, (size, kept)."""

    mean: np.ndarray
    axes: np.ndarray

    def place(self, block: np.ndarray) -> np.ndarray:
        """A block, shape (n, size) -> how unusual it is along each axis, unit norm, (n, kept)."""
        return unit((block - self.mean) @ self.axes)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Each row at length 1; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


@lru_cache(maxsize=1)
def load_natural() -> dict[str, Natural]:
    """The usual values of each block, as `benchmarks/palette.py --calibrate` wrote them."""
    with np.load(NATURAL_FILE) as file:
        return {
            block: Natural(file[f"{block}_mean"], file[f"{block}_axes"].astype(np.float32))
            for block in WEIGHTS
        }


def squeeze(picture: Image.Image) -> np.ndarray:
    """An RGB picture of any shape -> uint8, shape (SIDE, SIDE, 3)."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small)


def measure(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Squeezed pictures, shape (n, SIDE, SIDE, 3) -> the blocks as they are, each (n, size)."""
    cells = traits_of_cells(pixels)
    return {
        **colour_blocks(cells.mean(axis=(1, 2)), cells),
        "texture": palette_texture.texture(pixels),
    }


def traits_of_cells(pixels: np.ndarray) -> np.ndarray:
    """Squeezed pictures -> mean traits of their cells, shape (n, GRID, GRID, TRAITS)."""
    n, step, cell = len(pixels), SIDE // COLOUR_SIDE, COLOUR_SIDE // GRID
    blocks = pixels.reshape(n, COLOUR_SIDE, step, COLOUR_SIDE, step, 3)
    small = (blocks.sum(axis=(2, 4), dtype=np.uint16) // step**2).astype(np.uint8)
    traits = colours.traits_of_rgb()[colours.rgb_index(small)]
    return traits.reshape(n, GRID, cell, GRID, cell, TRAITS).mean(axis=(2, 4))


def colour_blocks(whole: np.ndarray, cells: np.ndarray) -> dict[str, np.ndarray]:
    """Traits of n pictures, (n, TRAITS), and of their cells -> all blocks but texture."""
    n = len(whole)
    groups = cells[..., colours.IN_COLOURS] @ colours.GROUP_OF_COLOUR
    return {
        "colours": whole[:, colours.IN_COLOURS] ** SHARE_POWER,
        "layout": (groups**SHARE_POWER).reshape(n, GRID * GRID * len(GROUPS)),
        "light": np.sqrt(whole[:, colours.IN_LIGHTNESS.start : colours.IN_CHROMA.stop]),
        "light_layout": cells[..., colours.IN_MEAN_LIGHTNESS].reshape(n, GRID * GRID),
    }


def fingerprint() -> str:
    """
    Changes with the version, the constants and the natural photos: with all that shapes the vector
    of a picture. A new word does not, and needs nothing to be embedded again.
    """
    known = [
        VERSION,
        (SIDE, COLOUR_SIDE, GRID, SHARE_POWER, WEIGHTS),
        (colours.REFERENCE_COLOURS, colours.BLUR, colours.LIGHTNESS_SCALE),
        (colours.LIGHTNESS_BINS.tolist(), colours.CHROMA_BINS.tolist()),
        (palette_texture.FINE_CELLS, palette_texture.CELLS, palette_texture.ORIENTATIONS),
        (palette_texture.FLOOR, palette_texture.CEILING),
    ]
    digest = hashlib.sha256(repr(known).encode())
    for natural in load_natural().values():
        digest.update(natural.mean.tobytes() + natural.axes.tobytes())
    return f"palette-{VERSION}-{digest.hexdigest()[:12]}"


@lru_cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def _one_thread_of_blas() -> Iterator[None]:
    """Its products are of matrices of a few columns, for which several threads wait for each other, and keep decoders waiting."""
    with _one_at_a_time, _controller().limit(limits=1, user_api="blas"):
        yield


class PaletteEmbedder(Embedder):
    """
    Colour, layout, light and texture, without a model.

    >>> PaletteEmbedder().encode_texts(["blue above green"]).shape
    (1, 449)
    """

    id = "palette"
    image_size = SIDE
    # By trial: at 100 half of the demo's photos are red, green or blue beyond doubt, which they are not.
    logit_scale = 20.0
    has_hubs = False
    usual_words = USUAL
    preprocess = staticmethod(squeeze)

    def __init__(self) -> None:
        self.natural = load_natural()
        self.fingerprint = fingerprint()
        self.dimensions = sum(each.axes.shape[1] for each in self.natural.values())
        # How usual each reference colour is in photos: words for light change what is usual.
        self.usual = self.natural["colours"].mean.astype(np.float64) ** (1 / SHARE_POWER)
        self.usual /= self.usual.sum()

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        """Results of `preprocess`, shape (n, 96, 96, 3) -> (n, dimensions) float32, unit norm."""
        vectors = np.empty((len(inputs), self.dimensions), np.float32)
        with _one_thread_of_blas():
            for start in range(0, len(inputs), CHUNK):
                some = slice(start, start + CHUNK)
                blocks = measure(np.asarray(inputs[some]))
                placed = [
                    weight * self.natural[block].place(blocks[block])
                    for block, weight in WEIGHTS.items()
                ]
                vectors[some] = unit(np.hstack(placed))
        return vectors

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """n texts -> (n, dimensions) float32, unit norm; zeros in the texture block."""
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            reading = words.read(text)
            if not reading.groups:
                raise TextNotUnderstood(nothing_to_see(text, reading))
            vectors[row] = self.encode_imagined(words.imagine(reading.groups, self.usual))
        return vectors

    def encode_imagined(self, imagined: words.Imagined) -> np.ndarray:
        """The imagined picture of a text -> its vector, shape (dimensions,)."""
        blocks = colour_blocks(imagined.whole[None], imagined.cells[None])
        parts = []
        for block, weight in WEIGHTS.items():
            natural = self.natural[block]
            if block == "texture":
                parts.append(np.zeros((1, natural.axes.shape[1])))
                continue
            if block in ("layout", "light_layout"):
                blocks[block] = where_said(blocks[block], natural.mean, imagined.said)
            parts.append(weight * imagined.emphasis[block] * natural.place(blocks[block]))
        return unit(np.hstack(parts))[0]

    def text_warning(self, text: str) -> str | None:
        """A sentence about words of a text that are not searched for, or None."""
        unknown = words.read(text).unknown
        return unknown_words(unknown) if unknown else None


def where_said(block: np.ndarray, mean: np.ndarray, said: np.ndarray) -> np.ndarray:
    """
    A layout block, shape (1, size), as unusual only in the cells that a text speaks of, and less
    so by some of its average. A text without a place keeps its direction.
    """
    unusual = (block - mean).reshape(GRID, GRID, -1) * said[..., None]
    unusual -= CONTRAST * unusual.mean(axis=(0, 1))
    return mean + unusual.reshape(1, -1)


def unknown_words(phrases: Sequence[str]) -> str:
    """The sentence for phrases that no colour, light or position is known for."""
    quoted = [f"'{phrase}'" for phrase in phrases]
    listed = " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
    return (
        f"palette does not know {listed}; it understands colours, light and positions, such as "
        "'dark blue' or 'bright left'. For meaning, embed with --model things (no download) or a CLIP model."
    )


def nothing_to_see(text: str, reading: words.Reading) -> str:
    """Why a text has no vector."""
    if reading.unknown:
        return unknown_words(reading.unknown)
    if reading.has_place:
        return f"'{text}' says where but not what; try 'bright left' or 'blue above green'."
    return f"palette finds no colour, light or position in '{text}'; try 'orange' or 'dark below'."
