"""How many pictures one page may show in its cells: each is a look into the database."""

from __future__ import annotations

from contextvars import ContextVar

MOST_PICTURES = 2_000
"""In the cells of a page: two for each of the rows that Datasette returns at most, unless told else."""

_left: ContextVar[list[int] | None] = ContextVar("image_search_pictures_left", default=None)


def a_new_page() -> None:
    """For the request that is answered by what runs now."""
    _left.set([MOST_PICTURES])


def may_show_a_picture() -> bool:
    """Counts one. True for what belongs to no request."""
    left = _left.get()
    if left is None:
        return True
    left[0] -= 1
    return left[0] >= 0
