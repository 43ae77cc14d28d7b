"""`album-images`: make albums, and say what is in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ImageSearchError, counted, printable
from . import options
from .messages import one_sentence, tell, warn
from .output import opened, print_paths, print_table
from .progress import progress_display

if TYPE_CHECKING:
    from ..albums import Albums
    from ..api import Images

FIRST_ASKED = 10_000
"""Matches of a query; if there are more, ten times as many are asked for, and so on."""


@options.database
@click.argument("album", required=False)
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--query", metavar="QUERY", help="The images that match this, as in search-images")
@click.option(
    "-k",
    type=click.IntRange(min=1),
    help="With --query: this many of the closest images, whether or not they match",
)
@options.row_filter
@click.option("--remove", is_flag=True, help="Remove these images from the album")
@click.option("--rename", metavar="NAME", help="Give the album another name")
@click.option("--delete", is_flag=True, help="Delete the album; its images stay")
def album_images(
    path: Path,
    table: str,
    album: str | None,
    files: Sequence[str],
    query: str | None,
    k: int | None,
    where: str | None,
    params: dict[str, str],
    remove: bool,
    rename: str | None,
    delete: bool,
) -> None:
    """
    Make albums of images, and list them

    Without an ALBUM, all albums are listed; with an ALBUM alone, the files in it. Images are added to an
    album, which is made if there is none: those of the FILEs, of a --query, or all for which --where is
    true. A FILE is a path on this machine, or as the table has it; - stands for paths on standard input,
    one on each line or with NUL between them.

    An album is a filter and a facet of the search page. The tables TABLE_albums and TABLE_album_members
    keep the albums.

    \b
    Examples:
        sqlite-utils album-images photos.db images
        sqlite-utils album-images photos.db images Lisbon --where "city = 'Lisbon'"
        sqlite-utils album-images photos.db images Beach --query "the sea" -k 30
        sqlite-utils find-duplicates photos.db images --paths \\
            | sqlite-utils album-images photos.db images "To look at" -
        sqlite-utils album-images photos.db images Beach --rename "Sea and sand"
    """
    from ..albums import Albums

    chooses = bool(files) or query is not None or where is not None
    _check(album, chooses=chooses, remove=remove, rename=rename, delete=delete)
    if k is not None and query is None:
        raise click.ClickException("-k counts the images of a --query; add --query")
    with one_sentence(path), opened(path, table) as images:
        albums = Albums(images)
        if album is None:
            _print_albums(albums)
        elif rename is not None:
            albums.rename(album, rename)
            tell(f"{album!r} is now {rename.strip()!r}")
        elif delete:
            left = counted(albums.delete(album), "image")
            tell(f"Deleted the album {album!r} of {left}; the images are still there")
        elif not chooses:
            _print_members(images, albums, album)
        else:
            chosen: dict[str, Any] = {"files": list(_paths(files))}
            if query is None:
                chosen |= {"where": where, "params": params}
            else:
                chosen["ids"] = _found(images, query, k, where, params)
            change = albums.remove if remove else albums.add
            changed = counted(change(album, **chosen), "image")
            said = f"{changed} removed from" if remove else f"{changed} added to"
            tell(f"{said} {album.strip()!r}, which has {len(albums.members(album.strip())):,}")


def _check(
    album: str | None, *, chooses: bool, remove: bool, rename: str | None, delete: bool
) -> None:
    asked = [
        name
        for name, given in (
            ("--remove", remove),
            ("--rename", rename is not None),
            ("--delete", delete),
        )
        if given
    ]
    if len(asked) > 1:
        raise click.ClickException(f"choose one of {' and '.join(asked)}")
    if album is None and (asked or chooses):
        raise click.ClickException("name the album, after the table")
    if asked in (["--rename"], ["--delete"]) and chooses:
        raise click.ClickException(f"{asked[0]} is of the whole album; name no images with it")
    if remove and not chooses:
        raise click.ClickException(
            "--remove needs images: name files, or give a --query or a --where"
        )


def _paths(files: Sequence[str]) -> list[str]:
    """With those on standard input in the place of a -."""
    paths: list[str] = []
    for file in files:
        if file != "-":
            paths.append(file)
            continue
        # As bytes, because names of files need not be UTF-8.
        written = sys.stdin.buffer.read()
        ends = b"\0" if b"\0" in written else b"\n"
        paths += [os.fsdecode(each.rstrip(b"\r")) for each in written.split(ends) if each.strip()]
    if files and not paths:
        raise ImageSearchError("there are no paths on standard input; nothing was changed")
    return paths


def _found(
    images: Images, query: str, k: int | None, where: str | None, params: dict[str, str]
) -> list[Any]:
    most = k or FIRST_ASKED
    with progress_display(silent=False) as show:
        while True:
            (found,) = images.find(
                [query],
                most,
                where=where,
                params=params,
                matches_only=k is None,
                by="both",
                on_progress=show,
            )
            if k is not None or len(found.hits) < most:
                break
            most *= 10
    for warning in found.warnings:
        warn(warning)
    if k is None and not found.knows_matches:
        raise ImageSearchError(
            f"nobody can tell which images match {query!r} with this model; say how many to take, with -k"
        )
    if not found.hits:
        raise ImageSearchError(f"no image matches {query!r}; say how many to take, with -k")
    return [hit.id for hit in found.hits]


def _print_albums(albums: Albums) -> None:
    known = albums.all()
    if not known:
        tell("There are no albums yet; name one, and images for it")
        return
    lines = [(printable(album.name), f"{album.images:,}") for album in known]
    print_table(lines, ["album", "images"], ["left", "right"])


def _print_members(images: Images, albums: Albums, album: str) -> None:
    members = albums.members(album)
    if images.index_of().content_column is not None:
        for id in members:
            tell(f"#{id}")
        return
    files = images.files(members)
    print_paths([files[id] for id in members if id in files], null=False)
