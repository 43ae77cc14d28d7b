"""Progress of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedWriter, RawIOBase, TextIOWrapper
from typing import Any, TextIO

import click

from ..errors import counted
from ..progress import OnProgress
from .messages import to_nowhere

SECONDS_BETWEEN_LINES = 10


@dataclass(frozen=True)
class Work:
    """The unit of a run, and a function (progress, number done per second) -> note."""

    unit: str
    note: Callable[[Any, float], str] = lambda progress, rate: f"{rate:,.1f}/s"


def _embedding(progress: Any, rate: float) -> str:
    failed = f"{progress.failed:,} failed" if progress.failed else ""
    device = progress.device if progress.is_cluster or not failed else ""
    return ", ".join(filter(None, [f"{rate:,.1f}/s", device, failed]))


WORKS = {
    "Embedding": Work("images", _embedding),
    "Importing": Work("images", lambda progress, rate: f"{rate:,.0f}/s"),
    "Tagging": Work("images", lambda progress, rate: f"{rate:,.0f}/s"),
    "Locating": Work("images", lambda progress, rate: f"{rate:,.0f}/s"),
    "Reading text": Work("images", lambda progress, rate: f"{rate:,.1f}/s"),
    "Comparing": Work("pairs", lambda progress, rate: f"{rate / 1e6:,.0f} million/s"),
    "Placing": Work("rounds"),
    "Reading": Work("vectors"),
    "Reading metadata": Work("images"),
    "Training": Work("rounds of training"),
    "Adding": Work("vectors added"),
    "Encoding": Work("vectors"),
    "Tuning": Work("rounds of tuning"),
    "Brute force": Work("vectors compared"),
    "Measuring": Work("queries"),
}
"""What a run is doing -> the unit that its progress counts, and the note."""


@contextmanager
def progress_display(silent: bool) -> Iterator[OnProgress]:
    """A function that shows how far a run is; each kind of work has a bar."""
    with ExitStack() as stack:
        doing: str | None = None
        display: OnProgress = _nothing

        def show(progress: Any) -> None:
            nonlocal doing, display
            if progress.doing != doing:
                stack.close()
                doing = progress.doing
                # Not earlier: the download of a model may have a bar of its own.
                stream = stack.enter_context(_own_stderr())
                work = WORKS.get(doing, Work("steps"))
                if silent or stream is None:
                    display = _nothing
                elif stream.isatty():
                    display = stack.enter_context(_bar(stream, doing, work))
                else:
                    display = _lines(stream, work)
            display(progress)

        yield show


@contextmanager
def _own_stderr() -> Iterator[TextIO | None]:
    """
    A private copy of standard error, while the shared one is silent: libtiff writes useless remarks about
    damaged files there. None if standard error is closed.
    """
    try:
        shared = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        yield sys.stderr
        return
    with suppress(OSError):
        sys.stderr.flush()
    lasting = BufferedWriter(_Lasting(os.dup(shared)))
    with TextIOWrapper(lasting, encoding=sys.stderr.encoding) as ours:
        to_nowhere(shared)
        try:
            yield ours
        finally:
            ours.flush()
            os.dup2(ours.fileno(), shared)


class _Lasting(RawIOBase):
    """A descriptor for progress. If the terminal is closed, output is discarded and the run continues."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError:
            to_nowhere(self._descriptor)
            return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _nothing(progress: Any) -> None:
    pass


@contextmanager
def _bar(stream: TextIO, label: str, work: Work) -> Iterator[OnProgress]:
    with click.progressbar(
        length=1,
        label=label,
        # As wide as the terminal leaves it.
        width=0,
        show_pos=True,
        show_eta=True,
        item_show_func=lambda note: note,
        file=stream,
    ) as bar:
        rate = _Rate()

        def show(progress: Any) -> None:
            bar.length = max(progress.total, 1)
            bar.update(progress.done - bar.pos, work.note(progress, rate.of(progress)))

        yield show


def _lines(stream: TextIO, work: Work) -> OnProgress:
    rate = _Rate()
    last = time.monotonic()

    def show(progress: Any) -> None:
        nonlocal last
        now, done_per_second = time.monotonic(), rate.of(progress)
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        line = f"{progress.done:,} of {progress.total:,} {work.unit}, "
        line += work.note(progress, done_per_second)
        if progress.done:
            line += f", {_in_words((progress.total - progress.done) / done_per_second)} left"
        click.echo(line, file=stream)

    return show


def _in_words(seconds: float) -> str:
    """'40 seconds', '3 minutes'"""
    if seconds < 90:
        return counted(round(seconds), "second")
    return counted(round(seconds / 60), "minute")


class _Rate:
    """The number done per second since it was last asked for and nothing was done: a cluster may be waited for."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def of(self, progress: Any) -> float:
        if not progress.done:
            self.started = time.monotonic()
        return progress.done / max(time.monotonic() - self.started, 1e-3)
