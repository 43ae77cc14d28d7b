"""Progress of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedWriter, RawIOBase, TextIOWrapper
from typing import Any, Protocol, TextIO

import click

from .messages import to_nowhere

SECONDS_BETWEEN_LINES = 10


class HowFar(Protocol):
    """A state of progress: `done` of `total`."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...


@dataclass(frozen=True)
class Phase:
    """A HowFar with nothing but the two numbers."""

    done: int
    total: int


Show = Callable[[Any], None]
"""Shows a HowFar of the type that the Work expects."""


@dataclass(frozen=True)
class Work:
    """The label and unit of a run, and a function (HowFar, number done per second) -> note."""

    label: str
    unit: str
    note: Callable[[Any, float], str]


EMBEDDING = Work(
    "Embedding",
    "images",
    lambda progress, rate: f"{rate:,.1f} images/s, {progress.failed:,} failed, {progress.device}",
)

IMPORTING = Work("Importing", "images", lambda progress, rate: f"{rate:,.0f} images/s")

TAGGING = Work("Tagging", "images", lambda tagged, rate: f"{rate:,.0f} images/s")

COMPARING = Work("Comparing", "pairs", lambda compared, rate: f"{rate / 1e6:,.0f} million pairs/s")

_COUNTED = {
    "Reading": "vectors",
    "Training": "rounds of training",
    "Adding": "vectors added",
    "Tuning": "rounds of tuning",
    "Brute force": "vectors compared",
    "Measuring": "queries",
}
"""Phase of index-images -> the unit that its progress counts."""


@contextmanager
def progress_display(silent: bool, work: Work = EMBEDDING) -> Iterator[Show]:
    """A function that shows how far the work is."""
    with ExitStack() as stack:
        display: Show | None = None

        def show(progress: HowFar) -> None:
            nonlocal display
            if display is None:
                # Not earlier: the download of a model may have a bar of its own.
                stream = stack.enter_context(_own_stderr())
                if silent or stream is None:
                    display = _nothing
                elif stream.isatty():
                    display = stack.enter_context(_bar(stream, work))
                else:
                    display = _lines(stream, work)
            display(progress)

        yield show


@contextmanager
def phases_display(silent: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function (phase, done, total); each phase has a bar of its own."""
    with ExitStack() as stack:
        phase = ""
        show: Show = _nothing

        def report(doing: str, done: int, of: int) -> None:
            nonlocal phase, show
            if doing != phase:
                stack.close()
                work = Work(doing, _COUNTED.get(doing, "steps"), lambda _, rate: f"{rate:,.1f}/s")
                phase, show = doing, stack.enter_context(progress_display(silent, work))
            show(Phase(done, of))

        yield report


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
    """
    A descriptor for progress. If the terminal is closed, output is discarded and the run continues.
    """

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


def _nothing(progress: HowFar) -> None:
    pass


@contextmanager
def _bar(stream: TextIO, work: Work) -> Iterator[Show]:
    with click.progressbar(
        length=1,
        label=work.label,
        show_pos=True,
        show_eta=True,
        item_show_func=lambda note: note,
        file=stream,
    ) as bar:
        rate = _Rate()

        def show(progress: HowFar) -> None:
            bar.length = max(progress.total, 1)
            bar.update(progress.done - bar.pos, work.note(progress, rate.of(progress)))

        yield show


def _lines(stream: TextIO, work: Work) -> Show:
    rate = _Rate()
    last = time.monotonic()

    def show(progress: HowFar) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        done_per_second = rate.of(progress)
        line = f"{progress.done:,} of {progress.total:,} {work.unit}, "
        line += work.note(progress, done_per_second)
        if progress.done:
            left = (progress.total - progress.done) / done_per_second
            line += f", {left / 60:.0f} minutes left"
        click.echo(line, file=stream)

    return show


class _Rate:
    """The number done per second since this object was made."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def of(self, progress: HowFar) -> float:
        return progress.done / max(time.monotonic() - self.started, 1e-3)
