"""
`?_image_tag=cat` and `?_facet_tag=id`: the tags of an image table as a filter and as a facet; `?_image_keyword=cat`
and `?_facet_keyword=id` the same of the keywords in its pictures, `?_image_album=best` and `?_facet_album=id` of its
albums.

Datasette has no facet for many-to-many, and its own `_through=` gives wrong answers beside a filter on a
column: both name their parameter :p0, in 0.65 and in 1.0.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from datasette.app import Datasette
from datasette.database import QueryInterrupted
from datasette.filters import FilterArguments
from datasette.utils import escape_sqlite
from datasette.utils.asgi import Request
from datasette.views.base import DatasetteError

from ...store import Filter, ImageTable, Key
from ...store.triggers import has_albums, has_keywords, has_tags
from ..access.image_tables import pictured_tables
from ..compat import can_view_table
from ..reading import read_bounded
from .linked import LinkedFacet

MOST_OF_IMAGE = 100
"""Words of one image that are shown."""


@dataclass(frozen=True)
class Words:
    """
    Words that images have in a side table of the kind `side`, in its column `column`; or if there is a side table
    `names`, its column has the id of a row there, whose name is the word. `saying` describes a filter by one, `advice`
    is for a table that has none.
    """

    side: str
    column: str
    is_there: Callable[[sqlite3.Connection, ImageTable], bool]
    saying: str
    advice: str
    names: str | None = None

    @property
    def argument(self) -> str:
        """Of the query string."""
        return f"_image_{self.column}"

    @property
    def sides(self) -> tuple[str, ...]:
        """The kinds of the side tables that they are read from. The words are in the last."""
        return (self.side,) if self.names is None else (self.side, self.names)

    @property
    def written_in(self) -> str:
        """The column of the words, in the last of `sides`."""
        return self.column if self.names is None else "name"

    def rows(self, table: ImageTable) -> str:
        """SQL of image_id and word, to select from."""
        side, *names = (escape_sqlite(table.side(kind)) for kind in self.sides)
        if not names:
            return side
        return (
            f"(select _member.image_id, _named.name as {self.column} from {side} as _member "
            f"join {names[0]} as _named on _named.id = _member.{self.column}_id)"
        )


TAGS = Words("tags", "tag", has_tags, "tagged", "add some with: sqlite-utils tag-images")

KEYWORDS = Words(
    "keywords",
    "keyword",
    has_keywords,
    "with the keyword",
    "embed-images reads them from pictures and from .xmp files beside them",
)

ALBUMS = Words(
    "album_members",
    "album",
    has_albums,
    "album =",
    "make some with: sqlite-utils album-images",
    names="albums",
)

ALL = (TAGS, KEYWORDS, ALBUMS)


class FilteredByWords(FilterArguments):
    """`filters` are of the parameters of a request, each of which has a kind of words."""

    def __init__(self, filters: Mapping[str, Filter], descriptions: list[str]) -> None:
        clauses = [each.where for each in filters.values()]
        params = {name: value for each in filters.values() for name, value in each.params.items()}
        super().__init__(clauses, params, descriptions)
        self.filters = filters


def asked_for(request: Request) -> list[Words]:
    """The kinds of words that a request filters by."""
    return [words for words in ALL if any(request.args.getlist(words.argument))]


async def filter_by_words(
    datasette: Datasette, request: Request, database: str, table: str
) -> FilteredByWords:
    """
    The filter for images that have one of the tags of the request, one of its keywords, and are in one of its albums.

    Raises DatasetteError, status 400, for a table without them, or if the actor may not see them.
    """
    filters, descriptions = {}, []
    for words in asked_for(request):
        having = await table_with(datasette, request, database, table, words)
        if having is None:
            raise DatasetteError(
                f"{table!r} has no {words.sides[-1]} to filter by; {words.advice}",
                title="Image search",
                status=400,
            )
        chosen = [word for word in request.args.getlist(words.argument) if word]
        params = {f"_img_{words.column}_{number}": word for number, word in enumerate(chosen)}
        keys = (
            f"select image_id from {words.rows(having)} "
            f"where {words.column} in (:{', :'.join(params)})"
        )
        where = f"{escape_sqlite(table)}.{escape_sqlite(having.key)} in ({keys})"
        filters[words.argument] = Filter(where, params, keys=keys)
        descriptions.append(f"{words.saying} {one_of(chosen)}")
    return FilteredByWords(filters, descriptions)


def one_of(values: Sequence[str], quote: str = '"') -> str:
    """'"a", "b" or "c"', of one or more."""
    # JSON can have half of a character.
    whole = (value.encode(errors="backslashreplace").decode() for value in values)
    quoted = [f"{quote}{value}{quote}" for value in whole]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


async def table_with(
    datasette: Datasette, request: Request, database: str, table: str, words: Words
) -> ImageTable | None:
    """
    The image table of that name, or of the view of that name, if it has such words and the actor may see them.
    """
    served = datasette.get_database(database)
    shown = (await pictured_tables(served)).get(table)
    if shown is None:
        return None

    def read(conn: sqlite3.Connection) -> bool:
        return words.is_there(conn, shown.table)

    is_there = await read_bounded(served, read)
    if not is_there:
        return None
    for side in map(shown.table.side, words.sides):
        if not await can_view_table(datasette, request.actor, database, side):
            return None
    return shown.table


async def words_of_image(
    datasette: Datasette, request: Request, database: str, table: str, image_id: Key
) -> dict[str, list[str]]:
    """The tags, keywords and albums of an image that the actor may see, by the parameter that filters by them."""
    found = {}
    for words in ALL:
        having = await table_with(datasette, request, database, table, words)
        if having is not None:
            sql = (
                f"select distinct {words.column} from {words.rows(having)} "
                f"where image_id = :id and typeof({words.column}) = 'text' "
                f"order by {words.column} limit {MOST_OF_IMAGE}"
            )
            rows = await datasette.get_database(database).execute(sql, {"id": image_id})
            found[words.argument] = [word for (word,) in rows]
    return found


class WordsFacet(LinkedFacet):
    """Words with the number of their images; a facet of the key of an image table."""

    words: ClassVar[Words]

    async def suggest(self) -> list[dict[str, Any]]:
        having = await self._visible_table()
        if having is None or self.get_configs():
            return []
        url = self.adding({f"_facet_{self.type}": having.key})
        return [{"name": having.side(self.words.sides[-1]), "type": self.type, "toggle_url": url}]

    async def facet_results(self) -> tuple[list[dict[str, Any]], list[str]]:
        configs = self.get_configs()
        having = await self._visible_table() if configs else None
        if having is None:
            return [], []
        try:
            return [await self._result(having, configs[0])], []
        except QueryInterrupted:
            return [], [having.side(self.words.sides[-1])]

    async def _visible_table(self) -> ImageTable | None:
        if not self.table:
            return None
        return await table_with(self.ds, self.request, self.database, self.table, self.words)

    async def _result(self, having: ImageTable, config: dict[str, Any]) -> dict[str, Any]:
        size = self.get_facet_size()
        counted = await self.counted(
            _SQL.format(
                sql=self.sql,
                limit=size + 1,
                side=self.words.rows(having),
                word=self.words.column,
                key=escape_sqlite(having.key),
            )
        )
        argument = self.words.argument
        chosen = self.request.args.getlist(argument)
        values = [
            self.value(word, count, {argument: word}, word in chosen)
            for word, count in counted.rows[:size]
        ]
        asked = config["config"]
        column = asked.get("column") or asked.get("simple")
        return {
            "name": having.side(self.words.sides[-1]),
            "type": self.type,
            "results": values,
            "hideable": config["source"] != "metadata",
            "toggle_url": self.without({f"_facet_{self.type}": column}),
            "truncated": len(counted.rows) > size,
        }


class TagFacet(WordsFacet):
    type = TAGS.column
    words = TAGS


class KeywordFacet(WordsFacet):
    type = KEYWORDS.column
    words = KEYWORDS


class AlbumFacet(WordsFacet):
    type = ALBUMS.column
    words = ALBUMS


# Several label sets may give an image the same tag.
_SQL = """
    select {word}, count(distinct image_id) as count from {side}
    where image_id in (select {key} from ({sql}))
    group by {word} order by count desc, {word} limit {limit}
"""
