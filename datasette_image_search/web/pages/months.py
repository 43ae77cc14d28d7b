"""Headings among pictures in the order of their dates: the first of each month has one."""

from __future__ import annotations

from collections.abc import Sequence

from .cards import Card
from .periods import date_in_words, span_of

UNDATED = "Without a date"


def month_headings(cards: Sequence[Card], *, is_first_page: bool) -> dict[str, str]:
    """
    By the anchor of the image that each stands before: "June 2021". Images without a date, which come last, have a heading
    too, unless all begins with them.
    """
    headings, last = {}, UNDATED if is_first_page else ""
    for card in cards:
        month = card.taken_at[:7]
        heading = date_in_words(month) if span_of(month) else UNDATED
        if heading != last:
            headings[card.anchor] = last = heading
    return headings
