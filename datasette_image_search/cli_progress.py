"""How far a run is, for a person: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

import click

if TYPE_CHECKING:
    from .ingest.pipeline import Progress

Show = Callable[["Progress"], None]

SECONDS_BETWEEN_LINES = 10


@contextmanager
def progress_display(silent: bool, label: str = "Embedding") -> Iterator[Show]:
    """A function that shows a Progress; the label is what is going on."""
    with ExitStack() as stack:
        display: Show | None = None

        def show(progress: Progress) -> None:
            nonlocal display
            if display is None:
                # Only now: while a model is loaded, its download may have a bar of its own.
                stream = stack.enter_context(_own_stderr())
                if silent:
                    display = _nothing
                elif stream.isatty():
                    display = stack.enter_context(_bar(stream, label))
                else:
                    display = _lines(stream)
            display(progress)

        yield show


@contextmanager
def _own_stderr() -> Iterator[IO[str]]:
    """
    Standard error for us alone: on damaged files, libtiff writes remarks there that help nobody.
    """
    try:
        shared = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        yield sys.stderr
        return
    sys.stderr.flush()
    with os.fdopen(os.dup(shared), "w", encoding=sys.stderr.encoding) as ours:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, shared)
        os.close(nowhere)
        try:
            yield ours
        finally:
            ours.flush()
            os.dup2(ours.fileno(), shared)


def _nothing(progress: Progress) -> None:
    pass


@contextmanager
def _bar(stream: IO[str], label: str) -> Iterator[Show]:
    with click.progressbar(
        length=1,
        label=label,
        show_pos=True,
        show_eta=True,
        item_show_func=lambda note: note,
        file=stream,
    ) as bar:
        rate = _Rate()

        def show(progress: Progress) -> None:
            bar.length = max(progress.total, 1)
            bar.update(progress.done - bar.pos, _note(progress, rate))

        yield show


def _lines(stream: IO[str]) -> Show:
    rate = _Rate()
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        left = (progress.total - progress.done) / max(rate.of(progress), 1e-6)
        click.echo(
            f"{progress.done:,} of {progress.total:,} images, {_note(progress, rate)}, "
            f"{left / 60:.0f} minutes left",
            file=stream,
        )

    return show


def _note(progress: Progress, rate: _Rate) -> str:
    speed = f"{rate.of(progress):,.1f} images/s"
    if not progress.device:
        return speed
    return f"{speed}, {progress.failed:,} failed, {progress.device}"


class _Rate:
    """Images per second since the first image was waited for."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def of(self, progress: Progress) -> float:
        return progress.done / max(time.monotonic() - self.started, 1e-3)
