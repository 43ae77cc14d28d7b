"""
Commands for sqlite-utils: options, progress and messages. Each command imports its work when it runs,
because sqlite-utils loads this package on every run.
"""

from __future__ import annotations

import sqlite3
from functools import partial

import click
from sqlite_utils import hookimpl

from ..sql import has_functions, register_functions
from .albums import album_images
from .duplicates import find_duplicates
from .embedding import RayCommand, embed_images
from .exporting import export_image_vectors, export_text_tower
from .importing import import_image_vectors
from .indexing import index_images
from .locating import locate_images
from .messages import tell, warn
from .models import image_models
from .plotting import plot_images
from .reading import read_images
from .searching import QueryCommand, search_images
from .tags import tag_images
from .waiting import Command, end_soon, is_command_of_sqlite_utils, wait_asleep


@hookimpl
def prepare_connection(conn: sqlite3.Connection) -> None:
    if has_functions(conn):
        # A connection of Datasette, which sometimes wraps its own in sqlite_utils.Database. It keeps its
        # functions, which do not trust the database about where weights are; ours would.
        return
    if is_command_of_sqlite_utils():
        wait_asleep()
        end_soon()
    problem = register_functions(conn, tell=partial(tell, err=True))
    if problem is not None:
        warn(problem)


@hookimpl
def register_commands(cli: click.Group) -> None:
    cli.command("embed-images", cls=RayCommand)(embed_images)
    cli.command("import-image-vectors", cls=Command)(import_image_vectors)
    cli.command("export-image-vectors", cls=Command)(export_image_vectors)
    cli.command("index-images", cls=RayCommand)(index_images)
    cli.command("export-text-tower", cls=Command)(export_text_tower)
    cli.command("search-images", cls=QueryCommand)(search_images)
    cli.command("find-duplicates", cls=Command)(find_duplicates)
    cli.command("tag-images", cls=Command)(tag_images)
    cli.command("album-images", cls=Command)(album_images)
    cli.command("locate-images", cls=Command)(locate_images)
    cli.command("read-images", cls=Command)(read_images)
    cli.command("plot-images", cls=Command)(plot_images)
    cli.command("image-models", cls=Command)(image_models)
