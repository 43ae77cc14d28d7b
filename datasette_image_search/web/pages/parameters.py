"""The names of parameters in the URLs of our pages, so that one that is mistyped is not passed over."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from datasette.plugins import pm
from datasette.utils import MultiParams
from datasette.utils.asgi import Request

from ...errors import most_similar
from ..urls import RequestError

OURS = [
    "_among",
    "_by",
    "_color",
    "_facet_wait",
    "_limit",
    "_matches_only",
    "_min_relevance",
    "_min_score",
    "_next",
    "_pictures",
    "_position",
    "_rank",
    "_size",
    "_sort",
    "_sort_by_desc",
    "_sort_desc",
    "_view",
]

TABLE_PAGE = [
    "_col",
    "_dl",
    "_extra",
    "_facet",
    "_facet_size",
    "_hash",
    "_header",
    "_image_search",
    "_image_search_k",
    "_json",
    "_json_infinity",
    "_label",
    "_labels",
    "_nl",
    "_nocol",
    "_nocount",
    "_nofacet",
    "_nosuggest",
    "_search",
    "_searchmode",
    "_shape",
    "_stream",
    "_through",
    "_timelimit",
    "_trace",
    "_ttl",
    "_where",
]
"""Those of Datasette's table page, whose URLs people change into ours. What has no meaning here is ignored."""

SEARCHED_COLUMN = "_search_"
"""The beginning of Datasette's parameters for a text search in one column."""


FAMILIES = ("_facet_", "_image_", "_min_", "_sort_")
"""Beginnings of parameters that are ours or Datasette's, whatever follows."""

SIMILAR = 0.75
"""Of two letters of four that changed places. With less, _geojson of another plugin would be a _json."""


class SeenRequest(Request):
    """A request that notes the parameters that were asked for by their names, in `seen`."""

    def __init__(self, request: Request) -> None:
        super().__init__(request.scope, request.receive)
        self.seen: set[str] = set()
        # A page asks for them some dozen times, and Datasette parses the URL for each.
        self._parameters = _SeenParameters(request.args, self.seen)

    @property
    def args(self) -> MultiParams:
        return self._parameters


class _SeenParameters(MultiParams):
    def __init__(self, parameters: MultiParams, seen: set[str]) -> None:
        super().__init__(parameters._data)
        self._seen = seen

    def __contains__(self, name: str) -> bool:
        self._seen.add(name)
        return super().__contains__(name)

    def __getitem__(self, name: str) -> str:
        self._seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: str | None = None) -> str | None:
        self._seen.add(name)
        return super().get(name, default)

    def getlist(self, name: str) -> list[str]:
        self._seen.add(name)
        return super().getlist(name)


def is_parameter(name: str) -> bool:
    """Whether a name is that of a parameter, not of a column with a filter."""
    return name.startswith("_") and "__" not in name


def check_names(names: Iterable[str], columns: Collection[str], seen: Collection[str]) -> None:
    """
    Raises RequestError for a parameter that resembles one of this page, of Datasette's table page or of a plugin
    that asked for it: those are `seen`. A name that resembles none may be that of a plugin that reads the URL
    elsewhere, such as a token.
    """
    kinds = (kind.type for kinds in pm.hook.register_facet_classes() for kind in kinds)
    known = {*OURS, *TABLE_PAGE, *seen, *(f"_facet_{kind}" for kind in kinds)}
    for name in names:
        if not is_parameter(name) or name in known or name.startswith(SEARCHED_COLUMN):
            continue
        # As Datasette has it: a name that begins with _ needs a lookup to be one of a column.
        meant = f"{name}__exact" if name in columns else _meant(name, known)
        if meant is not None:
            raise RequestError(f"there is no parameter {name[:100]}; did you mean {meant}?")


def _meant(name: str, known: Collection[str]) -> str | None:
    for family in FAMILIES:
        if name.startswith(family):
            return most_similar(name, [each for each in known if each.startswith(family)], least=0)
    # Without the _ that all have in common: it is a third of _gl.
    similar = most_similar(name[1:], [each[1:] for each in known if is_parameter(each)], SIMILAR)
    return None if similar is None else f"_{similar}"
