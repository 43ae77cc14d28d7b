"""What a process and the one that it started say to each other: messages on standard input and output."""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import threading
from typing import Any, BinaryIO

LONGEST_HEADER = 10_000

_LENGTH = struct.Struct(">Q")

_START = (
    "import importlib, json, sys; sys.path[:] = sys.argv[3:]; "
    "importlib.import_module(sys.argv[1]).main(*json.loads(sys.argv[2]))"
)

Message = tuple[dict[str, Any], bytes]
"""A header, and content."""


def start_process(module: str, *numbers: int, **options: Any) -> subprocess.Popen[bytes]:
    """
    Starts a process that calls main() of a module with some numbers, and finds modules where this one does; the options are
    those of Popen. Raises OSError.
    """
    path = [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _START, module, json.dumps(numbers), *path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C is for this process, which ends it.
        start_new_session=True,
        **options,
    )


def send(stream: BinaryIO, header: dict[str, Any], length: int) -> None:
    """Sends the beginning of a message; the content must follow, with exactly its number of bytes."""
    text = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(text)) + text + _LENGTH.pack(length))


def receive(stream: BinaryIO, longest: int) -> Message | None:
    """A message; None if the stream ends first, or the message has more bytes than allowed."""
    text = _read(stream, LONGEST_HEADER)
    content = None if text is None else _read(stream, longest)
    if text is None or content is None:
        return None
    header = json.loads(text)
    return (header, content) if isinstance(header, dict) else None


def _read(stream: BinaryIO, longest: int) -> bytes | None:
    size = stream.read(_LENGTH.size)
    if len(size) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(size)
    if length > longest:
        return None
    content = stream.read(length)
    return content if len(content) == length else None


def end_with_the_parent() -> None:
    """
    Ends the process when the one that started it ends, even while it computes: if that was killed, nobody else could. The
    other end of its standard input is there as long.
    """
    if not hasattr(select, "poll"):
        return

    def watch() -> None:
        poll = select.poll()
        poll.register(sys.stdin.fileno(), 0)
        poll.poll()  # Told of nothing but that the other end is closed.
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
