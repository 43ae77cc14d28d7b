"""
UMAP in a separate process: both of its ends. Its compiled code would hear no Ctrl-C for as long as it looks for neighbours, or
moves all points once, which is tens of seconds of some hundred thousand images. A process is ended at once.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, BinaryIO, cast

import numpy as np

from ..child_process import end_with_the_parent, receive, send, start_process
from ..errors import ImageSearchError
from ..progress import Report

NEIGHBOURS = 15

LONGEST_ERROR = 300


class ProjectionError(ImageSearchError):
    """The projection is not available."""


def check_umap() -> None:
    """Raises ProjectionError if umap-learn is not installed."""
    if find_spec("umap") is None:
        raise ProjectionError("UMAP needs an extra: pip install 'datasette-image-search[umap]'")


def umap_of(vectors: np.ndarray, start: np.ndarray, report: Report) -> np.ndarray:
    """
    The places of vectors, float32 of shape (n, dimensions), which begin at `start`, of shape (n, 2), as these are: float32.
    Raises ProjectionError.
    """
    try:
        process = start_process(__name__)
    except OSError as error:
        raise ProjectionError(
            f"the process that computes UMAP cannot be started ({error.strerror}); choose pca as the method"
        ) from error
    target, source = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    try:
        return _answered(target, source, vectors, start, report)
    finally:
        process.kill()
        source.close()
        with suppress(OSError):
            target.close()
        process.wait()


def _answered(
    target: BinaryIO,
    source: BinaryIO,
    vectors: np.ndarray,
    start: np.ndarray,
    report: Report,
) -> np.ndarray:
    # If it has ended, it answers nothing.
    with suppress(BrokenPipeError):
        send(target, {"shape": vectors.shape}, vectors.nbytes + start.nbytes)
        target.write(vectors.tobytes())
        target.write(start.tobytes())
        target.flush()
    while (answer := receive(source, start.nbytes)) is not None:
        header, content = answer
        if "error" in header:
            raise ProjectionError(
                f"UMAP failed ({header['error']}); see whether umap-learn works here, or choose pca as the method"
            )
        if content:
            return np.frombuffer(content, np.float32).reshape(start.shape)
        report(*header["progress"])
    raise ProjectionError(
        "the process that computes UMAP was ended, most likely as memory ran out; draw fewer images with --where, or choose "
        "pca as the method"
    )


def main() -> None:
    """Answer one message with several: how far it is, and then the places, or an error."""
    end_with_the_parent()
    # What libraries print is no answer.
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    message = receive(sys.stdin.buffer, sys.maxsize)
    if message is None:
        return
    header, content = message
    n, dimensions = header["shape"]
    numbers = np.frombuffer(content, np.float32).copy()
    vectors, start = np.split(numbers, [n * dimensions])

    def report(*progress: Any) -> None:
        send(target, {"progress": progress}, 0)
        target.flush()

    try:
        points = _umap(vectors.reshape(n, dimensions), start.reshape(n, 2), report)
    except Exception as error:
        send(target, {"error": f"{type(error).__name__}: {error}"[:LONGEST_ERROR]}, 0)
    else:
        send(target, {}, points.nbytes)
        target.write(points.tobytes())
    target.flush()


def _umap(vectors: np.ndarray, start: np.ndarray, report: Report) -> np.ndarray:
    report("Finding neighbours", 0, 1)
    with warnings.catch_warnings():
        # umap warns that a seed limits it to one thread.
        warnings.simplefilter("ignore")
        from umap import UMAP

        model = UMAP(
            n_neighbors=min(NEIGHBOURS, len(vectors) - 1),
            init=start,
            random_state=0,
            tqdm_kwds={"disable": False, "file": _Rounds(report), "bar_format": "{n} {total}"},
        )
        return model.fit_transform(vectors).astype(np.float32)


class _Rounds(io.TextIOBase):
    """A file for the progress of tqdm, "12 200", the only thing that UMAP tells while it works."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def write(self, text: str, /) -> int:
        numbers = text.split()
        if len(numbers) == 2:
            self._report("Placing", int(numbers[0]), int(numbers[1]))
        return len(text)
