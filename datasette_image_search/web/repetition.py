"""
A page repeats the URL it was asked for in its links, so a long URL makes a page that is many times as
long. Both have a limit.
"""

from __future__ import annotations

from datasette.utils.asgi import Request
from datasette.views.base import DatasetteError

from ..errors import ImageSearchError

LONGEST = 65_536
"""Bytes of a query string. Servers refuse what is longer, but not all of them."""

MOST_REPEATED = 8_000_000
"""Bytes of links on a page."""


class TooMuchRepeated(ImageSearchError):
    """A page of more links than can be sent for so long a URL."""


def check_url(request: Request) -> None:
    """Raises DatasetteError for a URL that is too long to be looked at."""
    if len(request.query_string) > LONGEST:
        raise DatasetteError(
            f"the URL has more than {LONGEST:,} characters after its question mark; leave some out",
            title="Image search",
            status=414,
        )


def check_repetition(request: Request, links: int, what: str) -> None:
    """Raises TooMuchRepeated if so many links with the URL in them are too many; `what` there are."""
    length = len(request.query_string)
    if length * links > MOST_REPEATED:
        raise TooMuchRepeated(
            f"a URL of {length:,} characters is too long for a page with {what}; ask for fewer of "
            "them, or leave something out of the URL"
        )
