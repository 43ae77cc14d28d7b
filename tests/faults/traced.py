"""
Commands under strace, which ends them just before one of the system calls that write, or lets that call
fail. So each boundary between two writes can be the last thing that a process did.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .forked import Ended, Forker, Running

WRITES = (
    *("write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync", "ftruncate"),
    *("rename", "renameat", "renameat2", "linkat", "unlink", "unlinkat", "fallocate"),
)
"""What changes files. What an architecture has no such call for is none (the question mark)."""

_CALL = re.compile(r"(?:(\d+) +)?(\w+)\((.*)")


@dataclass(frozen=True)
class Call:
    """
    A system call: the `number`th of this name that its thread makes, and what strace printed of it. Those of another thread
    than the main one come at about the same place each time.
    """

    name: str
    number: int
    text: str
    of_thread: bool = False

    @property
    def kind(self) -> tuple[str, str]:
        """What is done, and to which kind of file."""
        ending = re.search(r"(-journal|-wal|-shm|\.faiss|\.lance|\.lock|\.db)\b", self.text)
        return self.name, ending[1] if ending else ""

    def __str__(self) -> str:
        return f"{self.name} {self.number}: {self.text}"


@cache
def problem() -> str | None:
    """Why processes cannot be traced here; None where they can."""
    if not sys.platform.startswith("linux"):
        return "strace is a program of Linux"
    if shutil.which("strace") is None:
        return "strace is not installed"
    with subprocess.Popen(["sleep", "20"]) as sleep:
        line = ["strace", "-p", str(sleep.pid), "-e", "inject=?write:error=ENOSPC:when=1"]
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as strace:
            said = strace.stderr.readline()
            strace.terminate()
        sleep.kill()
    return None if "attached" in said else f"strace cannot trace here: {said.strip()}"


def calls_of(
    forker: Forker, *arguments: object, within: Path, of_threads: bool = False
) -> list[Call]:
    """
    The calls of the main thread, or those `of_threads` too, in the order in which an undisturbed command makes them, that touch
    files of a folder.
    """
    running = forker.start(*arguments, held=True)
    with tempfile.NamedTemporaryFile("r") as log:
        ended = _traced(running, *(["-f"] if of_threads else []), "-y", "-o", log.name)
        assert ended.code == 0, ended
        lines = log.read().splitlines()
    calls, numbers = [], Counter()
    for line in lines:
        if match := _CALL.match(line):
            thread, name, text = match.groups()
            of_thread = thread is not None and int(thread) != running.pid
            numbers[thread, name] += 1
            # By this threads wake each other too, any number of times.
            is_of_file = not (of_threads and name == "write")
            if str(within) in text and is_of_file:
                calls.append(Call(name, numbers[thread, name], text, of_thread))
    return calls


def killed_at(forker: Forker, call: Call, *arguments: object) -> Ended:
    """A command that is killed before a call (or ends, where it comes to make fewer)."""
    inject = f"inject={call.name}:signal=KILL:when={call.number}"
    return _traced(forker.start(*arguments, held=True), *_threads(call), "-e", inject)


def killed_at_unlink(forker: Forker, file: Path, number: int, *arguments: object) -> Ended:
    """A command that is killed before it deletes a file for the `number`th time."""
    inject = f"inject=unlink,unlinkat:signal=KILL:when={number}"
    return _traced(forker.start(*arguments, held=True), "-P", file, "-e", inject)


def failing_at(
    forker: Forker, call: Call, error: str, *arguments: object, for_ever: bool = False
) -> Ended:
    """A command for which a call fails; with `for_ever` also all of that name that come after it."""
    inject = f"inject={call.name}:error={error}:when={call.number}{'+' if for_ever else ''}"
    return _traced(forker.start(*arguments, held=True), *_threads(call), "-e", inject)


def _threads(call: Call) -> tuple[str, ...]:
    return ("-f",) if call.of_thread else ()


def _traced(running: Running, *options: str | Path) -> Ended:
    calls = ",".join(f"?{name}" for name in WRITES)
    line = ["strace", "-p", str(running.pid), "-s", "8", "-e", f"trace={calls}", *options]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as strace:
        said = strace.stderr.readline()
        assert "attached" in said, said
        running.go()
        strace.communicate()
    return running.wait()
