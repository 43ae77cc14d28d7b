"""Arguments and options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

database = click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH")

wal = click.option(
    "--wal",
    is_flag=True,
    help="Switch the database to a write-ahead log, which never makes readers wait",
)

silent = click.option("-s", "--silent", is_flag=True, help="Show no progress")


def row_filter(command: Command) -> Command:
    """The options --where and -p."""
    param = click.option(
        "-p",
        "--param",
        "params",
        type=(str, str),
        multiple=True,
        metavar="NAME VALUE",
        help="Value of a :NAME in --where",
    )
    return click.option("--where", help="Only the rows for which this SQL is true")(param(command))


def output_format(paths: str) -> Callable[[Command], Command]:
    """The options --json, --csv, --nl and --paths, of which `paths` is the help, and -0."""
    options = (
        click.option("--json", "output", flag_value="json", help="Output JSON"),
        click.option("--nl", "output", flag_value="nl", help="Output newline-delimited JSON"),
        click.option("--csv", "output", flag_value="csv", help="Output CSV"),
        click.option("--paths", "output", flag_value="paths", help=paths),
        click.option(
            "-0", "--null", is_flag=True, help="End each of the --paths with NUL, for xargs -0"
        ),
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
