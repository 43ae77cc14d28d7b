"""
Lines of text in a picture, by rapidocr, with the models that are in its wheel. It would download what it does not
find, so it is only asked if all are there. It takes one thread, because each picture is read by a process.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ImageSearchError
from ..files.wheel_files import WheelFile
from ..store.line_rows import Line


def _model(name: str, sha256: str) -> WheelFile:
    return WheelFile("rapidocr", "3.10.0", f"rapidocr/models/{name}", sha256)


MODELS = {
    "Det": _model(
        "PP-OCRv6_det_small.onnx",
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    ),
    "Cls": _model(
        "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "Rec": _model(
        "PP-OCRv6_rec_small.onnx",
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    ),
}
"""
By rapidocr's names of its three steps: where there is text, which way up it is, and what it says. The letters that there
are, are in the last of them.
"""

LARGEST_SIDE = 1280
"""Pixels of the longer side that the models see. Letters of 1 in 150 of that are still read; twice as many pixels take
three times as long."""

ENOUGH = 736
"""Pixels of the shorter side that the models were made for. A small picture is enlarged to that."""

MAX_ASPECT = 8
"""The most elongated picture that the models see."""

MIN_SCORE = 0.9
"""Below this, most lines are no text, or wrong."""


def check_recognition() -> None:
    """Raises ImageSearchError without the extra `ocr`, and if a model is missing or is another one than we know."""
    if find_spec("rapidocr") is None or find_spec("onnxruntime") is None:
        raise ImageSearchError(
            "reading text needs an extra: pip install 'datasette-image-search[ocr]'"
        )
    for model in MODELS.values():
        found = model.location()
        if found is None or not model.is_known(found.read_bytes()):
            raise ImageSearchError(
                f"{model.name!r} is not in rapidocr as read-images needs it; {model.reinstall}"
            )


def lines_of(picture: Image.Image) -> list[Line]:
    """The lines with a score of at least MIN_SCORE, from the top, of an upright RGB picture of at most LARGEST_SIDE."""
    larger = _enlarged(picture)
    # The models were made for OpenCV's order of colours.
    read = _engine()(np.ascontiguousarray(_not_too_long(np.asarray(larger))[:, :, ::-1]))
    if read.boxes is None:
        return []
    size = np.array(larger.size * 2, dtype=float)
    lines = []
    for corners, text, score in zip(read.boxes, read.txts, read.scores, strict=True):
        box = np.concatenate([corners.min(axis=0), corners.max(axis=0)]) / size
        if score >= MIN_SCORE and text.strip():
            left, top, right, bottom = box.clip(0, 1).round(4).tolist()
            lines.append(Line(text.strip(), round(float(score), 4), (left, top, right, bottom)))
    return lines


def load() -> None:
    """Load the models. Raises whatever the libraries do that cannot be loaded."""
    _engine()


def is_loaded() -> bool:
    """Whether the models are, which takes longer than to read a picture."""
    return _engine.cache_info().currsize > 0


def _enlarged(picture: Image.Image) -> Image.Image:
    """A small picture with ENOUGH pixels of the shorter side, if the longer one stays within LARGEST_SIDE."""
    factor = min(LARGEST_SIDE / max(picture.size), max(ENOUGH / min(picture.size), 1))
    width, height = (max(round(factor * side), 1) for side in picture.size)
    return picture if factor <= 1 else picture.resize((width, height))


def _not_too_long(pixels: np.ndarray) -> np.ndarray:
    """Pixels of shape (height, width, 3) with more of their last row or column, up to MAX_ASPECT."""
    least = max(pixels.shape[:2]) // MAX_ASPECT
    bottom, right = (max(least - side, 0) for side in pixels.shape[:2])
    return np.pad(pixels, ((0, bottom), (0, right), (0, 0)), "edge")


@lru_cache(maxsize=1)
def _engine() -> Any:
    import cv2
    from rapidocr import RapidOCR

    cv2.setNumThreads(1)
    one = ("intra_op_num_threads", "inter_op_num_threads")
    threads = {f"EngineConfig.onnxruntime.{name}": 1 for name in one}
    # It would make the shorter side of any picture 736 pixels, also of a line of 1 x 2,000.
    as_it_is = {"Det.limit_type": "max", "Det.limit_side_len": LARGEST_SIDE}
    models = {f"{step}.model_path": str(model.location()) for step, model in MODELS.items()}
    return RapidOCR(params={"Global.log_level": "critical", **models, **threads, **as_it_is})
