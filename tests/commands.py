"""What tests of whole runs share: the commands in this process and in their own, and a look at the tables."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result
from sqlite_utils.cli import cli


def command(*arguments: object) -> Result:
    """sqlite-utils in this process. What would be a traceback is raised."""
    return CliRunner().invoke(
        cli, [str(argument) for argument in arguments], catch_exceptions=False
    )


def embed_images(*arguments: object) -> Result:
    """`embed-images` that has to succeed."""
    result = command("embed-images", *arguments)
    assert result.exit_code == 0, result.output
    return result


def start(*arguments: object, **options) -> subprocess.Popen:
    """sqlite-utils in a process of its own; its output is text, and in pipes unless told else."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    if sys.platform != "win32":
        # Where tests run in the background of a shell, ctrl-C is ignored, and would be here too.
        pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    line = [sys.executable, "-m", "sqlite_utils", *map(str, arguments)]
    return subprocess.Popen(line, **{**pipes, **options})


def query(database: Path, sql: str, params: Sequence = ()) -> list[tuple]:
    with closing(sqlite3.connect(database)) as conn:
        return conn.execute(sql, params).fetchall()


def change(database: Path, *statements: str) -> None:
    """What a person does with another tool."""
    with closing(sqlite3.connect(database)) as conn, conn:
        for sql in statements:
            conn.execute(sql)


def vectors_of(database: Path, table: str = "images", name: str = "path") -> dict[str, bytes]:
    """Path -> vector of every row; None stands for a row without one."""
    sql = (
        f'select {name}, vector from "{table}" as i left join "_{table}_vectors" on image_id = i.id'
    )
    return dict(query(database, sql))


def touch_later(path: Path, seconds: float = 10) -> None:
    """Change the mtime for certain: some file systems count in whole seconds."""
    stat = path.stat()
    os.utime(path, (stat.st_atime, stat.st_mtime + seconds))
