"""A test of an embedder on a few drawn pictures, before it embeds a hundred thousand photos."""

from __future__ import annotations

from weakref import WeakValueDictionary

import numpy as np
from PIL import Image, ImageDraw

from .protocol import Embedder, EmbedderError

COLLAPSED = 0.99999
"""Cosine above which vectors count as the same. A model with random weights has about 0.999: it is
useless, but works."""

NORM_ERROR = 0.01

_sound: WeakValueDictionary[int, Embedder] = WeakValueDictionary()
"""By their id(): a process that makes many tables tries its model once. Not all embedders can be hashed."""


def drawn_pictures(size: int) -> list[Image.Image]:
    """Five unrelated pictures, with `size` pixels a side."""
    black = Image.new("RGB", (size, size), "black")
    ramp = Image.merge("RGB", [Image.linear_gradient("L").resize((size, size))] * 3)
    sunset = Image.new("RGB", (size, size), "orange")
    ImageDraw.Draw(sunset).ellipse((size // 4, size // 4, size // 2, size // 2), "red")
    stripes = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(stripes)
    step = max(size // 8, 2)
    for left in range(0, size, step):
        draw.rectangle((left, 0, left + step // 2 - 1, size), "blue")
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return [black, ramp, sunset, stripes, Image.fromarray(noise)]


def check_embedder(embedder: Embedder) -> None:
    """Raises EmbedderError if its vectors are useless. An embedder that has passed is not tried again."""
    if id(embedder) in _sound:
        return
    pictures = drawn_pictures(max(embedder.image_size, 32))
    vectors = embedder.encode_images(np.stack([embedder.preprocess(each) for each in pictures]))
    wanted = (len(pictures), embedder.dimensions)
    if vectors.shape != wanted or vectors.dtype != np.float32:
        raise EmbedderError(
            f"{embedder.id} gives vectors of shape {vectors.shape} and type {vectors.dtype}, but declares "
            f"{wanted} and float32; nothing was embedded: its package must be repaired"
        )
    norms = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(vectors).all() or np.abs(norms - 1).max() > NORM_ERROR:
        precision = "" if embedder.precision == "float32" else ", or try --precision float32"
        raise EmbedderError(
            f"{embedder.id} makes vectors of drawn pictures that are not finite, or not of unit length; "
            f"nothing was embedded: check its weights{precision}"
        )
    if (vectors @ vectors.T).min() > COLLAPSED:
        raise EmbedderError(
            f"{embedder.id} makes the same vector for unrelated pictures; nothing was embedded: its "
            "weights are damaged, or of another model"
        )
    _sound[id(embedder)] = embedder
