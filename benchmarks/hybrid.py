"""
Prints how well 40 queries find photos by likeness, by text and by both: the mean reciprocal rank of the first right photo.
About a minute.

    python benchmarks/hybrid.py PHOTOS

PHOTOS is a folder with at least 100 photos. Copies of them get titles and keywords, and names that say nothing, so that a third of the
queries can be answered by text only ("lisbon"), a third by the pictures only ("dark green"), and a third by both ("lisbon + dark
green", and once more without the plus). The model is palette, so pictures are asked for by their colours. Which are right for a colour is told by the share of
their pixels that has it, not by the model.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from PIL import Image
from tabulate import tabulate

from datasette_image_search.api import Images
from datasette_image_search.embedders.protocol import EmbedderError

Right = set[str]
"""The names of the photos that are right."""

PLACES = (
    "Lisbon",
    "Porto",
    "Aveiro",
    "Sintra",
    "Faro",
    "Tavira",
    "Lagos",
    "Nazaré",
    "Tomar",
    "Viseu",
    "Silves",
    "Olhão",
    "Elvas",
)
KEYWORDS = ("wedding", "birthday", "concert", "hike", "museum")

SHARE = 0.4
"""Of the pixels of a photo that must have a colour."""

COLOURS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "black": lambda hue, saturation, value: value < 0.2,
    "white": lambda hue, saturation, value: (value > 0.85) & (saturation < 0.12),
    "gray": lambda hue, saturation, value: (value > 0.3) & (value < 0.75) & (saturation < 0.1),
    "red": lambda hue, saturation, value: ((hue < 15) | (hue > 345)) & (saturation > 0.35) & (value > 0.25),
    "orange": lambda hue, saturation, value: (hue >= 15) & (hue < 45) & (saturation > 0.4) & (value > 0.4),
    "yellow": lambda hue, saturation, value: (hue >= 45) & (hue < 70) & (saturation > 0.35) & (value > 0.5),
    "green": lambda hue, saturation, value: (hue >= 70) & (hue < 165) & (saturation > 0.2) & (value > 0.2),
    "blue": lambda hue, saturation, value: (hue >= 185) & (hue < 255) & (saturation > 0.25) & (value > 0.25),
    "dark blue": lambda hue, saturation, value: (hue >= 185) & (hue < 255) & (saturation > 0.3) & (value > 0.1) & (value < 0.5),
    "light blue": lambda hue, saturation, value: (hue >= 175) & (hue < 255) & (saturation > 0.1) & (value > 0.6),
    "dark green": lambda hue, saturation, value: (hue >= 60) & (hue < 165) & (saturation > 0.2) & (value > 0.1) & (value < 0.5),
    "brown": lambda hue, saturation, value: (hue >= 10) & (hue < 45) & (saturation > 0.3) & (value > 0.15) & (value < 0.6),
}  # fmt: skip


def share(file: Path, colour: str) -> float:
    """Of the pixels of a photo that have a colour."""
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((64, 64)).convert("HSV"), float)
    hue, saturation, value = pixels[..., 0] * 360 / 255, pixels[..., 1] / 255, pixels[..., 2] / 255
    return float(COLOURS[colour](hue, saturation, value).mean())


def queries_of(
    places: dict[str, Right],
    keywords: dict[str, Right],
    colours: dict[str, Right],
    plus: str,
) -> list[tuple[str, str, Right]]:
    """(kind, query, the right photos): 14 of words, 12 of colours, 14 of both with `plus` between them."""
    rng = random.Random(2)
    texts = [*places.items(), *keywords.items()]
    asked = [("text only", words.lower(), right) for words, right in rng.sample(texts, 14)]
    asked += [("picture only", colour, right) for colour, right in list(colours.items())[:12]]
    pairs = [
        ("mixed", f"{words.lower()}{plus}{colour}", right & of_colour)
        for words, right in texts
        for colour, of_colour in colours.items()
        if right & of_colour
    ]
    return asked + rng.sample(pairs, 40 - len(asked))


def reciprocal_rank(images: Images, query: str, right: Right, by: str) -> float:
    try:
        hits = images.search(query, 1000, by=by)
    except EmbedderError:
        # The best that likeness can do with words that the model does not know is to leave them out.
        _, _, colour = query.replace(" + ", " ").partition(" ")
        if not colour:
            return 0.0
        hits = images.search(colour, 1000, by=by)
    files = images.files([hit.id for hit in hits])
    return next((1 / rank for rank, hit in enumerate(hits, 1) if files[hit.id].name in right), 0.0)


def main(photos: Path) -> None:
    rng = random.Random(1)
    files = sorted(file for file in photos.rglob("*.jpg"))
    rng.shuffle(files)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "pictures")
        folder.mkdir()
        places: dict[str, set[str]] = defaultdict(set)
        keywords: dict[str, set[str]] = defaultdict(set)
        for number, file in enumerate(files):
            name = f"{number:04}.jpg"
            (folder / name).write_bytes(file.read_bytes())
            place, words = rng.choice(PLACES), rng.sample(KEYWORDS, rng.randrange(3))
            (folder / f"{name}.xmp").write_text(
                written(f"A day in {place}", words), encoding="utf-8"
            )
            for word, named in ((place, places), *((word, keywords) for word in words)):
                named[word].add(name)
        images = Images(Path(home, "photos.db"))
        images.embed([folder], model="palette")
        colours = {
            colour: {file.name for file in folder.glob("*.jpg") if share(file, colour) >= SHARE}
            for colour in COLOURS
        }
        for plus in (" + ", " "):
            queries = queries_of(places, keywords, colours, plus)
            kinds = list(dict.fromkeys(kind for kind, _, _ in queries))
            lines = []
            for by in ("likeness", "text", "both"):
                ranks = [
                    (kind, reciprocal_rank(images, query, right, by))
                    for kind, query, right in queries
                ]
                means = [mean(rank for each, rank in ranks if each == kind) for kind in kinds]
                lines.append([by, *means, mean(rank for _, rank in ranks)])
            print(f'"lisbon{plus}dark green"')
            print(tabulate(lines, ["by", *kinds, f"all {len(queries)}"], floatfmt=".3f"))


def written(title: str, keywords: Sequence[str]) -> str:
    """An .xmp file."""
    subjects = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
<dc:subject><rdf:Bag>{subjects}</rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
