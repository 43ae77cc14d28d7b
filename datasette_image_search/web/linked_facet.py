"""What the facets of this plugin share: values that are links which add and remove a filter."""

from __future__ import annotations

from typing import Any

from datasette.facets import Facet
from datasette.utils import path_with_added_args, path_with_removed_args


class LinkedFacet(Facet):
    def url(self, path: str) -> str:
        return self.ds.absolute_url(self.request, self.ds.urls.path(path))

    def value(
        self, value: str, count: int, arguments: dict[str, str], selected: bool
    ) -> dict[str, Any]:
        """As templates and JSON have it; `arguments` of the query string are the filter."""
        toggled = path_with_removed_args if selected else path_with_added_args
        return {
            "value": value,
            "label": value,
            "count": count,
            "toggle_url": self.url(toggled(self.request, arguments)),
            "selected": selected,
        }

    def without(self, arguments: dict[str, str]) -> str:
        """The URL of the page without some arguments of its query string."""
        return self.url(path_with_removed_args(self.request, arguments))
