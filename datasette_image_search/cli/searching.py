"""`search-images`: find the images closest to words, to an image, or to a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ImageSearchError, printable
from . import options
from .messages import one_sentence, warn
from .output import check_output, opened, print_paths, print_rows, print_table
from .progress import progress_display
from .waiting import Command

if TYPE_CHECKING:
    from ..search.hits import Found
    from ..search.queries import Query

LONGEST_NAME = 40
"""Characters of a query that a table shows: a query may be a vector in base64."""


class QueryCommand(Command):
    """Explains where to put a query that begins with -, which click takes for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            query = _like_a_query(given)
            if query is None or getattr(error, "option_name", "").startswith("--"):
                raise
            said = error.format_message().rstrip(".")
            raise click.UsageError(
                f'{said}. Put a query that begins with - at the end, after --, as in: -- "{query}"',
                ctx,
            ) from error


def _like_a_query(given: Sequence[str]) -> str | None:
    """The first argument with a minus before words, such as -kitchen: -k5 is an option, and -1 a number."""
    options = given[: given.index("--")] if "--" in given else given
    return next((each for each in options if _MINUS_WORDS.fullmatch(each)), None)


_MINUS_WORDS = re.compile(r"-(?!-|k\d*$|p$)[\d.]*[^\d.].*", re.DOTALL)


@options.database
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option(
    "--image",
    "pictures",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Find images like this picture, which need not be in the table; with a QUERY, it is added to that",
)
@click.option(
    "--by",
    type=click.Choice(["likeness", "text", "both"]),
    default="both",
    show_default=True,
    help="Find what looks like the query; or what its words are written about, in names, folders, titles, keywords and "
    "tags; or both",
)
@click.option("--model", help="For a table with several models: the one to search with")
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of images to find for each query",
)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Skip this many of the best")
@click.option("--min-score", type=options.Number(-1, 1), help="Drop images with a lower score")
@click.option(
    "--min-relevance",
    type=options.Number(0, 1, min_open=True),
    help="Drop images whose likeness is less relevant: 0.95 leaves the matches by likeness",
)
@click.option("--matches-only", is_flag=True, help="Drop weaker matches")
@options.row_filter
@click.option(
    "--exact", is_flag=True, help="Compare all vectors, even if there is an approximate index"
)
@click.option(
    "--rank",
    type=click.Choice(["corrected", "cosine"]),
    default="corrected",
    show_default=True,
    help="Order of the images: corrected for those that are close to any words, or by the score alone",
)
@click.option(
    "--sort",
    metavar="COLUMN",
    help="Sort the matches, or the -k best if none is one, by this column, lowest first; with --min-relevance, all that have it",
)
@click.option("--sort-desc", metavar="COLUMN", help="The same, highest first")
@options.output_format(paths="Output only the paths of the files, each once")
@click.option("--explain", is_flag=True, help="Print the steps of the search on standard error")
def search_images(
    path: Path,
    table: str,
    queries: Sequence[str],
    pictures: Sequence[Path],
    output: str | None,
    null: bool,
    explain: bool,
    **asked: Any,
) -> None:
    """
    Find the images closest to a query

    \b
    Examples of QUERY:
        "a red sports car"              words
        "#42"                           images like the one with id 42
        "#42 + at night - people"       terms added and subtracted
        "2:golden retriever + 0.5:#42"  terms with weights
        '"dona ana" + beach'            in texts, words in quotes stand together
        "red + text:wifi"               wifi is looked for in texts only
        "./pool.jpg - fruit"            a picture on the disk as a term

    In texts, all words of a term are looked for, or its beginning if it ends with *: lis*.

    With several queries, each result names its query, and pictures of --image are added to each of them.
    Several --image without a QUERY are as many queries; to add them up, write "./a.jpg + ./b.jpg". Put
    quotes around words that are the name of a file: '"red.jpg"'. If a query begins with -, put it at the
    end, after --

    \b
    Examples:
        sqlite-utils search-images photos.db images "dark blue" \\
            --where "camera_make = 'Canon'" -k 10
        sqlite-utils search-images photos.db images dog cat --csv
        sqlite-utils search-images photos.db images lisbon --by text
        sqlite-utils search-images photos.db images "at night" --image sketch.png
        sqlite-utils search-images photos.db images --image sketch.png --paths -0 \\
            | xargs -0 open
    """

    with one_sentence(path), opened(path, table) as images:
        index = images.index_of(asked["model"])
        check_output(index, output)
        asked_for = _queries(queries, pictures)
        names = [str(query) for query in asked_for]
        with progress_display(silent=False) as show:
            all_found = images.find(asked_for, **asked, on_progress=show)
        ids = [hit.id for found in all_found for hit in found.hits]
        places = images.locations(ids, model=asked["model"])
    for warning in dict.fromkeys(warning for found in all_found for warning in found.warnings):
        warn(warning)
    rows: list[dict[str, Any]] = [
        {
            "query": name,
            "score": hit.score,
            "relevance": hit.relevance,
            "id": hit.id,
            "path": places[hit.id].path,
            "at": hit.at,
            "matched": "; ".join(map(str, hit.matched)),
        }
        for name, found in zip(names, all_found, strict=True)
        for hit in found.hits
        # A row may have been deleted since it was found.
        if hit.id in places
    ]
    columns = ["query"] if len(names) > 1 else []
    columns += ["score"]
    # What programs get does not depend on what was found.
    is_known = any(row["relevance"] is not None for row in rows)
    columns += ["relevance", "id"] if is_known or output is not None else ["id"]
    if index.content_column is None:
        columns.append("path")
    if output is not None or any(row["at"] is not None for row in rows):
        columns.append("at")
    if any(row["matched"] for row in rows) or (output is not None and asked["by"] != "likeness"):
        columns.append("matched")
    rows_shown = [{column: row[column] for column in columns} for row in rows]
    if output == "paths":
        files = [images.file_of(places[row["id"]]) for row in rows]
        print_paths(dict.fromkeys(files), null=null)
    elif output is not None:
        print_rows(rows_shown, columns, output)
    else:
        _print_table(rows_shown)
        _print_missing(names, asked_for, all_found, asked)
    if explain:
        _print_steps(names, all_found)


def _queries(texts: Sequence[str], pictures: Sequence[Path]) -> list[Query]:
    """Each text with all the pictures; without a text, each picture by itself."""
    from ..search.queries import QueryWithFiles

    if not texts and not pictures:
        raise ImageSearchError(
            "there is nothing to search for; type a QUERY, or name a file with --image"
        )
    if not texts:
        return list(pictures)
    return [QueryWithFiles(text, tuple(pictures)) for text in texts]


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _printable(value: object) -> str:
    return printable(str(value))


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from tabulate import tabulate

    from ..search.hits import clock, written_relevance
    from ..search.query import written_id

    written = {"score": "{:.4f}".format, "relevance": written_relevance, "at": clock}
    for row in rows:
        for name, value in row.items():
            row[name] = "" if value is None else written.get(name, _printable)(value)
        row["id"] = written_id(row["id"])
        if "query" in row:
            row["query"] = _shortened(row["query"])
    if rows:
        click.echo(tabulate(rows, headers="keys", disable_numparse=True))


def _print_missing(
    names: Sequence[str],
    queries: Sequence[Query],
    all_found: Sequence[Found],
    asked: dict[str, Any],
) -> None:
    """A line for each query that found nothing, or nothing that is a match."""
    needed = ["passes the filter"] if asked["where"] else []
    if asked["min_score"] is not None:
        needed.append(f"has a score of {asked['min_score']:g} or more")
    if asked["min_relevance"] is not None:
        needed.append(f"has a relevance of {asked['min_relevance']:g} or more")
    if asked["matches_only"]:
        needed.append("is a match")
    if asked["offset"]:
        needed.append(f"comes after the first {asked['offset']:,}")
    for name, query, found in zip(names, queries, all_found, strict=True):
        of_which = f" for {_shortened(name)!r}" if len(names) > 1 else ""
        if found.hits and found.knows_matches and not found.matches and not asked["offset"]:
            click.echo(f"No image is a clear match{of_which}; these are the nearest", err=True)
        elif not found.hits:
            is_text = asked["by"] == "text" or _is_of_texts(query)
            words = ["has these words in its texts"] if is_text else []
            sentence = " and ".join(words + needed) or "has a vector"
            click.echo(f"No image {sentence}{of_which}", err=True)


def _is_of_texts(query: Query) -> bool:
    """Whether a query only has words to look for in texts, such as "text:wifi"."""
    from ..search.queries import QueryWithFiles
    from ..search.query import Kind

    return isinstance(query, QueryWithFiles) and all(
        term.kind is Kind.TEXT for term in query.terms() if term.weight > 0
    )


def _print_steps(names: Sequence[str], all_found: Sequence[Found]) -> None:
    lines = [
        [
            *([_shortened(name)] if len(names) > 1 else []),
            *(step.name, f"{step.looked_at:,}", f"{step.passed:,}", f"{step.milliseconds:.2f}"),
        ]
        for name, found in zip(names, all_found, strict=True)
        for step in found.steps
    ]
    headers = [*(["query"] if len(names) > 1 else []), "step", "looked at", "passed", "ms"]
    align = ["left"] * (len(headers) - 3) + ["right"] * 3
    print_table(lines, headers, align, err=True)
