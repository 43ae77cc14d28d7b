"""Headings among pictures in the order of their dates: the first of each month has one, or of each year if there are few."""

from __future__ import annotations

from collections.abc import Sequence

from .cards import Card
from .periods import date_in_words, span_of

UNDATED = "Without a date"

FEW_MONTHS = 3
FEW_IMAGES = 3
"""A page of more months than this, with fewer images in each, has years as headings: a month ends a row of pictures."""


def date_headings(cards: Sequence[Card], *, is_first_page: bool) -> dict[str, str]:
    """
    By the anchor of the image that each stands before: "June 2021" or "2021". Images without a date, which come last, have a heading
    too, unless all begins with them.
    """
    dated = [card.taken_at[:7] for card in cards if span_of(card.taken_at[:7])]
    months = len(set(dated))
    length = 4 if months > FEW_MONTHS and len(dated) < FEW_IMAGES * months else 7
    headings, last = {}, UNDATED if is_first_page else ""
    for card in cards:
        begun = card.taken_at[:length]
        heading = date_in_words(begun) if span_of(begun) else UNDATED
        if heading != last:
            headings[card.anchor] = last = heading
    return headings
