"""
Commands in processes of their own, each there in milliseconds: one process imports everything, opens no
database, and forks itself for each command. So hundreds can be killed in a minute, and what each of them
knows is what any new process knows.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..quick_program import import_commands

PROJECT = Path(__file__).parents[2]

TURNED = "turned"
"""A model beside palette, which the commands here know: its vectors have nothing in common with those."""


FOR_EVER = ExitStack()
"""What the process that forks, and all that it forks, never leave."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or less than 0 for the signal that killed it."""

    code: int
    output: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Forker:
    """The process that forks; close() ends it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._number = 0

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def start(
        self,
        *arguments: object,
        held: bool = False,
        limit: int | None = None,
        pause: float = 0.0,
    ) -> Running:
        """
        sqlite-utils with these arguments; `held` waits for go(). No file may grow beyond `limit` bytes. With a `pause`, in
        seconds, before each picture of palette a run takes long and little of a processor.
        """
        return self._start("command", (tuple(map(str, arguments)), pause), held, limit)

    def run(self, *arguments: object, limit: int | None = None) -> Ended:
        return self.start(*arguments, limit=limit).wait()

    def call(self, function: Callable, *arguments: Any) -> Any:
        """What a function of a module of ours answers in a new process; what it raises is raised here."""
        running = self.begin(function, *arguments)
        ended = running.wait()
        assert running.result.exists(), f"{function.__name__}: {ended}"
        is_answer, answer = pickle.loads(running.result.read_bytes())
        if is_answer:
            return answer
        raise AssertionError(answer)

    def begin(self, function: Callable, *arguments: Any) -> Running:
        """A new process that calls a function of a module of ours."""
        return self._start("call", (function, arguments), False, None)

    def _start(self, kind: str, what: object, held: bool, limit: int | None) -> Running:
        self._number += 1
        place = Path(self._folder.name, str(self._number))
        # The process may be killed before it says anything.
        place.touch()
        if held:
            os.mkfifo(place.with_suffix(".go"))
        self._ask(("start", kind, what, place, held, limit))
        return Running(self, self._answer(), place)

    def ended(self, pid: int, *, wait: bool) -> int | None:
        """The exit code, or None while it runs."""
        self._ask(("wait" if wait else "poll", pid))
        return self._answer()

    def _ask(self, request: object) -> None:
        _send(self._process.stdin, request)

    def _answer(self) -> Any:
        return _receive(self._process.stdout)


@dataclass
class Running:
    """A process that was forked; files whose names begin with `place` are what it says."""

    forker: Forker
    pid: int
    place: Path
    code: int | None = None

    @property
    def result(self) -> Path:
        return self.place.with_suffix(".result")

    def go(self) -> None:
        self.place.with_suffix(".go").write_bytes(b"")

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        if self.code is None:
            self.code = self.forker.ended(self.pid, wait=False)
        return self.code

    def wait(self) -> Ended:
        if self.code is None:
            self.code = self.forker.ended(self.pid, wait=True)
        return Ended(self.code, self.place.read_text(errors="replace"))

    def wait_at_most(self, seconds: float) -> bool:
        """Whether it has ended."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True


def _send(file: IO[bytes], value: object) -> None:
    data = pickle.dumps(value)
    file.write(len(data).to_bytes(8, "little") + data)
    file.flush()


def _receive(file: IO[bytes]) -> Any:
    length = file.read(8)
    if not length:
        raise EOFError
    return pickle.loads(file.read(int.from_bytes(length, "little")))


# --- In the process that forks -------------------------------------------------------------------


def _serve() -> None:
    _import_everything()
    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    while True:
        try:
            kind, *values = _receive(requests)
        except EOFError:
            return
        if kind == "start":
            pid = os.fork()
            if not pid:
                answers.close()
                requests.close()
                _be_forked(*values)
            _send(answers, pid)
            continue
        pid, status = os.waitpid(values[0], 0 if kind == "wait" else os.WNOHANG)
        _send(answers, os.waitstatus_to_exitcode(status) if pid else None)


def _import_everything() -> None:
    # What it warns of is a process that used it before it forks.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    import numpy as np

    from datasette_image_search.embedders import registry
    from datasette_image_search.embedders.palette import PaletteEmbedder
    from datasette_image_search.engines.lance import _imported as import_lance

    from ..kept import lists_of_few
    from . import searches  # noqa: F401

    import_lance()

    import_commands()

    know_another_model(registry._factories())
    FOR_EVER.enter_context(lists_of_few(fewest=16))
    locate_and_read_quickly()
    # Tables that are made once, of what a picture and words come to.
    palette = PaletteEmbedder()
    palette.encode_images(np.zeros((1, palette.image_size, palette.image_size, 3), np.uint8))
    palette.encode_texts(["red"])
    gc.freeze()


def know_another_model(factories: dict) -> None:
    import numpy as np

    from datasette_image_search.embedders.palette import PaletteEmbedder

    class Turned(PaletteEmbedder):
        id, fingerprint = TURNED, f"{TURNED}-1"

        def encode_images(self, inputs: np.ndarray) -> np.ndarray:
            return np.roll(super().encode_images(inputs), 100, axis=1)

        def encode_texts(self, texts: list[str]) -> np.ndarray:
            return np.roll(super().encode_texts(texts), 100, axis=1)

    factories[TURNED] = lambda request: Turned()


def locate_and_read_quickly() -> None:
    """Without the towns and models, which take seconds to load, and in batches of a few images."""
    from datasette_image_search.places import locating
    from datasette_image_search.reading import reading

    from ..reading_names import NamesRead

    def places(points: Sequence[tuple[float, float]], _: float, kept: Sequence[int]) -> list:
        return [tuple(f"{north}, {east}, {column}" for column in kept) for north, east in points]

    locating.BATCH = 3
    locating._places = places
    reading.check_recognition = lambda: None
    reading.ReadingProcess = NamesRead
    reading.COMMIT_SECONDS = 0.0


def _be_forked(kind: str, what: Any, place: Path, held: bool, limit: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(place, os.O_WRONLY | os.O_CREAT)
    for descriptor, file in ((0, nothing), (1, output), (2, output)):
        os.dup2(file, descriptor)
    if held:
        place.with_suffix(".go").read_bytes()
    if limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if kind == "command":
        os._exit(_command(*what))
    function, arguments = what
    try:
        answer = True, function(*arguments)
    except BaseException:
        answer = False, traceback.format_exc()
    place.with_suffix(".result").write_bytes(pickle.dumps(answer))
    os._exit(0)


def _command(arguments: tuple[str, ...], pause: float) -> int:
    """The exit code. To take everything that was imported to pieces would take longer than most commands."""
    from sqlite_utils.cli import cli

    if pause:
        _pause_before_each_picture(pause)
    try:
        cli(arguments, prog_name="sqlite-utils")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    with suppress(OSError):
        sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _pause_before_each_picture(seconds: float) -> None:
    from datasette_image_search.embedders.palette import PaletteEmbedder

    preprocess = PaletteEmbedder.preprocess

    def slowly(picture: Any) -> Any:
        time.sleep(seconds)
        return preprocess(picture)

    PaletteEmbedder.preprocess = staticmethod(slowly)


if __name__ == "__main__":
    from tests.faults.forked import _serve as serve

    serve()
