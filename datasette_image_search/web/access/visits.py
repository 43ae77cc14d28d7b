"""The actor of a request, for hooks that Datasette does not tell: cells in 0.65, and rules of tables."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils.asgi import Request

from ..compat import can_view_table

MOST_PICTURES = 2_000
"""In the cells of a page: two for each of the 1,000 rows that Datasette returns by default. Each is a look
into the database."""

Actor = dict[str, Any] | None
Asked = tuple[str, str, str]
"""An actor, a database and a table."""
Application = Callable[..., Awaitable[None]]


@dataclass
class Visit:
    """A request while it is answered. Things that are read for it are remembered, and read once."""

    actor: Actor = None
    read: set[Database] = field(default_factory=set)
    """Databases whose side tables were read during this request."""
    visible: dict[Asked, bool] = field(default_factory=dict)
    """Whether the actor may see the table."""
    allowed: dict[Asked, bool] = field(default_factory=dict)
    """The same by all rules but those of side tables."""
    pictures: int = 0
    """Pictures in the cells of its page so far."""

    def may_show_a_picture(self) -> bool:
        """Counts one more picture."""
        self.pictures += 1
        return self.pictures <= MOST_PICTURES


_visit: ContextVar[Visit | None] = ContextVar("image_search_visit", default=None)


def current_visit() -> Visit:
    """The visit of this request; outside of requests, an empty one."""
    return _visit.get() or Visit()


def with_visits(application: Application) -> Application:
    """The application of Datasette, with a visit for each request."""

    async def visited(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await application(scope, receive, send)
        token = _visit.set(Visit())
        try:
            await application(scope, receive, send)
        finally:
            _visit.reset(token)

    return visited


def remembering(answers: Sequence[Any], request: Request) -> list[Any]:
    """The plugins' answers about the actor. The visit gets the first one, as in Datasette."""
    visit = current_visit()
    visit.actor = request.scope.get("actor")
    found: list[Actor] = []

    def remembered(actor: Actor) -> Actor:
        if actor and not found:
            found.append(actor)
            visit.actor = actor
        return actor

    async def remembered_later(answer: Awaitable[Actor]) -> Actor:
        return remembered(await answer)

    # Awaitables stay awaitables: Datasette need not await the others after the first actor.
    return [
        remembered_later(answer) if inspect.isawaitable(answer) else remembered(answer)
        for answer in answers
    ]


def asked(actor: Actor, database: str, table: str) -> Asked:
    """What answers are remembered by."""
    return json.dumps(actor, sort_keys=True, default=repr), database, table


async def sees(datasette: Datasette, actor: Actor, database: str, table: str) -> bool:
    """Whether an actor may see a table. A page asks this many times about few tables."""
    visible = current_visit().visible
    key = asked(actor, database, table)
    if key not in visible:
        visible[key] = await can_view_table(datasette, actor, database, table)
    return visible[key]


async def visitor_sees(datasette: Datasette, database: str, table: str) -> bool:
    """Whether the actor of this request may see a table."""
    return await sees(datasette, current_visit().actor, database, table)
