"""What differs between Datasette 0.65 and 1.0, told apart by capability; and nothing else."""

from __future__ import annotations

from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request


async def can_view_table(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, table: str
) -> bool:
    """Whether this actor may see this table, by the table's, the database's and the instance's rules."""
    if hasattr(datasette, "allowed"):
        from datasette.resources import TableResource

        return await datasette.allowed(
            action="view-table", resource=TableResource(database, table), actor=actor
        )
    visible, _ = await datasette.check_visibility(
        actor,
        permissions=[
            ("view-table", (database, table)),
            ("view-database", database),
            "view-instance",
        ],
    )
    return visible


def csrf_token(request: Request) -> str:
    """
    What a POST is to send as x-csrftoken. In 0.65 it comes with a cookie, which makes Datasette
    forbid all caching: so not for pages. 1.0 looks at other headers, and its token means nothing.
    """
    token = request.scope.get("csrftoken")
    return token() if token else ""
