"""`import-image-vectors`: vectors that another program made."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .messages import (
    INTERRUPTED,
    interruptible,
    one_sentence,
    tell,
    tell_of_run,
    warn,
    warn_of_dropped,
)
from .progress import progress_display

if TYPE_CHECKING:
    from ..ingest.vector_import import ImportSummary


@options.database
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--model",
    help="Model that made the vectors, named as for embed-images. Default: the one that the source names",
)
@click.option(
    "--paths",
    type=click.Path(path_type=Path),
    help="For a .npy file: text file with the paths of its pictures, one on each line",
)
@click.option(
    "--collection", help="For a database of llm with several collections: the one to import"
)
@click.option(
    "--root",
    "roots",
    type=click.Path(file_okay=False, path_type=Path),
    multiple=True,
    help="Folder of the pictures; relative paths are below it",
)
@click.option(
    "--path-column", help="For a table of your own: the column with the paths of its images"
)
@click.option(
    "--unknown",
    type=click.Choice(["refuse", "skip", "add"]),
    help="What to do with a path that has no row. Default: add a row to a new table, refuse the path for "
    "any other",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="File with the weights of the model, to check the vectors with",
)
@click.option("--add-model", is_flag=True, help="Make a second index, beside that of another model")
@click.option("--replace-model", is_flag=True, help="Replace the existing indexes by these vectors")
@options.wal
@options.silent
def import_image_vectors(path: Path, table: str, silent: bool, **asked: Any) -> None:
    """
    Make images searchable with vectors that you have already

    SOURCE is a .npy file, the database of rclip, a folder of clip-retrieval, or a database of llm. Each
    vector goes to the row with its path. A new table gets a row for each path, without the columns that
    only the content of a file can fill. The command imports all vectors, or none.

    \b
    Examples:
        sqlite-utils import-image-vectors photos.db images vectors.npy \\
            --paths paths.txt --root ~/Pictures --model ViT-B-32/openai
        sqlite-utils import-image-vectors photos.db images ~/.local/share/rclip/db.sqlite3
        sqlite-utils import-image-vectors my.db images embeddings.db --collection photos \\
            --root ~/Pictures
    """
    from ..api import Images

    interrupted = interruptible("Interrupted: nothing was imported")
    with one_sentence(path), interrupted, progress_display(silent) as show:
        summary = Images(path, table).import_vectors(on_progress=show, **asked)
    tell_of_run(path, table, summary)
    warn_of_dropped(summary.replacement, is_done=True)
    if summary.unproven:
        warn(f"could not check that {summary.model} made these vectors: {summary.unproven}")
    if summary.looked_for:
        _warn_of_root(path, *summary.looked_for)
    tell(_import_line(summary))
    if summary.interrupted:
        raise SystemExit(INTERRUPTED)


def _warn_of_root(database: Path, root: str, path: str) -> None:
    from ..store.tables import ROOTS

    old = root.replace("'", "''")
    sql = f"update {ROOTS} set path = '/ABSOLUTE/PATH' where path = '{old}'"
    warn(
        f"none of the new files exists, such as {str(Path(root, path))!r}; unless their drive is not "
        "mounted, the folder is wrong, and embed-images would add all of them a second time; correct it "
        f"with: sqlite-utils query {shlex.quote(str(database))} {shlex.quote(sql)}"
    )


def _import_line(summary: ImportSummary) -> str:
    counts = [
        (summary.unchanged, "unchanged"),
        (summary.skipped, "skipped"),
        (summary.added, "rows added"),
        (summary.not_there, "files missing"),
    ]
    listed = [f"{count:,} {name}" for count, name in counts if count]
    line = ", ".join([f"{summary.imported:,} vectors imported", *listed])
    return f"{line} in {summary.seconds:.1f} s ({summary.model})"
