"""The base of this plugin's facets: each value is a link that adds or removes a filter."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from datasette.database import QueryInterrupted, Results
from datasette.facets import Facet
from datasette.utils import path_with_added_args, path_with_removed_args

from ..urls import path_below_base_url


class LinkedFacet(Facet):
    async def counted(self, sql: str) -> Results:
        """All rows of a query of counts. Raises QueryInterrupted if it takes too long."""
        return await self.ds.execute(
            self.database,
            sql,
            self.params,
            truncate=False,
            custom_time_limit=self.ds.setting("facet_time_limit_ms"),
        )

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


class LinkedColumnFacet(LinkedFacet):
    """One whose configurations are columns, each of which is counted by itself."""

    async def facet_results(self) -> tuple[list[dict[str, Any]], list[str]]:
        results, timed_out = [], []
        for source_and_config in self.get_configs():
            config = source_and_config["config"]
            column = config.get("column") or config["simple"]
            try:
                results.append(await self.result_of(column, source_and_config["source"]))
            except QueryInterrupted:
                timed_out.append(column)
        return results, timed_out

    @abstractmethod
    async def result_of(self, column: str, source: str) -> dict[str, Any]:
        """The counts of a column, as Datasette's facets have them; `source` is "metadata" if the configuration asks for it."""
