"""
The programs sqlite-utils and datasette for shells that run many of them: a process that has imported everything
forks itself for each, so that a command takes a tenth of the time. Folder, environment, pipes and exit code are
those of the shell, and what a command knows is what any new process knows. If the program is ended, so is what
was forked.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAM = f"""#!{sys.executable} -ISE
import os, pickle, socket, sys

with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), "socket"))
    request = pickle.dumps((sys.argv, os.getcwd(), dict(os.environ)))
    socket.send_fds(asked, [len(request).to_bytes(4, "big")], [0, 1, 2])
    asked.sendall(request)
    code = asked.recv(1)
sys.exit(code[0] if code else 255)
"""
"""What the shell starts; it asks the process that forks."""


@contextmanager
def quick_program(folder: Path) -> Iterator[Path]:
    """A folder for PATH with these programs, as long as the context lasts."""
    for name in ("sqlite-utils", "datasette"):
        program = folder / name
        program.write_text(PROGRAM)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    line = [sys.executable, "-m", "tests.quick_program", str(folder / "socket")]
    project = Path(__file__).parents[1]
    with subprocess.Popen(line, cwd=project, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield folder
        finally:
            process.terminate()


def import_commands() -> None:
    """What commands import while they run."""
    import faiss  # noqa: F401
    import sqlite_utils.cli  # noqa: F401

    from datasette_image_search import api  # noqa: F401
    from datasette_image_search.cli import (  # noqa: F401
        albums,
        duplicates,
        embedding,
        importing,
        indexing,
        locating,
        plotting,
        reading,
        searching,
        tags,
    )
    from datasette_image_search.decoding import films  # noqa: F401
    from datasette_image_search.embedders import palette, registry  # noqa: F401
    from datasette_image_search.ingest import pipeline, vector_import  # noqa: F401
    from datasette_image_search.maps.plotting import plot  # noqa: F401
    from datasette_image_search.search import approximate, asked, planner, queries  # noqa: F401


def read_tables() -> None:
    """Those of our packages that a process reads once, for seconds, and that are the same for each command."""
    from datasette_image_search.embedders.palette_colours import traits_of_rgb
    from datasette_image_search.places.geonames import geonames, has_towns

    traits_of_rgb()
    if has_towns():
        geonames()


def serve(path: str) -> None:
    import datasette.cli  # noqa: F401
    import uvicorn.protocols.http.auto  # noqa: F401

    import_commands()
    read_tables()
    # Else each command looks through all of it for garbage, and so copies it.
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
        while True:
            asked, _ = listening.accept()
            if not os.fork():
                listening.close()
                answer(asked)
            asked.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def answer(asked: socket.socket) -> None:
    """Never returns: it is the process of one command."""
    length, descriptors, _, _ = socket.recv_fds(asked, 4, 3)
    request = b""
    while len(request) < int.from_bytes(length, "big"):
        request += asked.recv(2**16)
    arguments, folder, environment = pickle.loads(request)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    known = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [each for each in known if each not in sys.path]
    threading.Thread(target=end_with, args=[asked], daemon=True).start()
    asked.sendall(bytes([run(*arguments)]))
    os._exit(0)


def end_with(asked: socket.socket) -> None:
    """Wait for the program to end, which says nothing more."""
    asked.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


def run(program: str, *arguments: str) -> int:
    """The exit code."""
    from datasette.cli import cli as datasette
    from sqlite_utils.cli import cli as sqlite_utils

    name = Path(program).name
    code = 1
    try:
        {"datasette": datasette, "sqlite-utils": sqlite_utils}[name](arguments, prog_name=name)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[1])
