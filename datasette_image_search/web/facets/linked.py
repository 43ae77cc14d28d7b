"""The base of this plugin's facets: each value is a link that adds or removes a filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from datasette.facets import Facet
from datasette.utils import path_with_added_args, path_with_removed_args

from ..urls import path_below_base_url


class LinkedFacet(Facet):
    def adding(self, arguments: dict[str, str]) -> str:
        """The URL of the page with more arguments in its query string."""
        return self._url(path_with_added_args, arguments)

    def without(self, arguments: dict[str, str]) -> str:
        """The URL of the page without some arguments of its query string."""
        return self._url(path_with_removed_args, arguments)

    def _url(self, changed: Callable[..., str], arguments: Mapping[str, str | None]) -> str:
        path = changed(self.request, arguments, path=path_below_base_url(self.request))
        return self.ds.absolute_url(self.request, self.ds.urls.path(path))

    def value(
        self, value: str, count: int, arguments: dict[str, str], selected: bool
    ) -> dict[str, Any]:
        """A value for templates and JSON; `arguments` of the query string are its filter."""
        return {
            "value": value,
            "label": value,
            "count": count,
            "toggle_url": self.without(arguments) if selected else self.adding(arguments),
            "selected": selected,
        }
