"""Arguments and options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TextIO

import click

from ..errors import ImageSearchError
from ..files.remote_urls import is_url

Command = Callable[..., Any]


class FileOrUrl(click.Path):
    """A file or folder as a Path, or a URL as a text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_url(value):
            return value
        return super().convert(value, param, ctx)


def database(command: Command) -> Command:
    """The arguments PATH and TABLE."""
    path = click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH")
    return path(click.argument("table")(command))


wal = click.option(
    "--wal",
    is_flag=True,
    help="Switch the database to a write-ahead log, so that readers never wait",
)


def max_megapixels(command: Command) -> Command:
    """The option --max-megapixels, whose value comes as `max_pixels`."""

    @wraps(command)
    def in_pixels(*, max_megapixels: float | None, **others: Any) -> Any:
        return command(max_pixels=int(max_megapixels * 1e6) if max_megapixels else None, **others)

    return click.option(
        "--max-megapixels",
        type=Number(min=0, min_open=True),
        help="Skip larger pictures. Default: as many megapixels as the free memory allows",
    )(in_pixels)


silent = click.option("-s", "--silent", is_flag=True, help="Show no progress")


def lines_of(file: TextIO | None) -> list[str]:
    """The lines of a text file that are not empty."""
    if file is None:
        return []
    try:
        return [line for line in file.read().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ImageSearchError(
            f"the lines of {file.name!r} are not UTF-8: {error.reason}"
        ) from None


def row_filter(command: Command) -> Command:
    """The options --where and -p, whose values come as a dict."""

    @wraps(command)
    def checked(*, where: str | None, params: Sequence[tuple[str, str]], **others: Any) -> Any:
        if where is not None and not where.strip():
            raise click.ClickException(
                "--where is empty; give a condition, or no --where for all rows"
            )
        if params and where is None:
            raise click.ClickException("-p sets a :NAME in --where; add --where")
        return command(where=where, params=dict(params), **others)

    param = click.option(
        "-p",
        "--param",
        "params",
        type=(str, str),
        multiple=True,
        metavar="NAME VALUE",
        help="Value for a :NAME in --where",
    )
    return click.option("--where", help="Use only rows for which this SQL is true")(param(checked))


def output_format(paths: str) -> Callable[[Command], Command]:
    """The options --json, --csv, --nl, --paths and -0; `paths` is the help of --paths."""
    formats = {
        "json": "Output JSON",
        "nl": "Output newline-delimited JSON",
        "csv": "Output CSV",
        "paths": paths,
    }

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_output(*, null: bool, **given: Any) -> Any:
            asked = [name for name in formats if given.pop(name)]
            if len(asked) > 1:
                raise click.ClickException(f"choose one of --{' and --'.join(asked)}")
            if null and asked != ["paths"]:
                raise click.ClickException("-0 works only with --paths; add --paths")
            return command(output=asked[0] if asked else None, null=null, **given)

        option = click.option(
            "-0", "--null", is_flag=True, help="With --paths: end each path with NUL, for xargs -0"
        )
        decorated = option(with_output)
        for name, help in reversed(formats.items()):
            decorated = click.option(f"--{name}", is_flag=True, help=help)(decorated)
        return decorated

    return decorate


class Number(click.FloatRange):
    """A finite number in a range. Comparisons alone would let NaN through."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number
