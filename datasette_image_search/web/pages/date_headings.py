"""Headings among pictures in the order of their dates: the first of each month has one, or of each year if there are few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .cards import Card
from .periods import date_in_words, span_of

UNDATED = "Without a date"

FEW_MONTHS = 3
FEW_IMAGES = 3
"""A page of more months than this, with fewer images in each, has years as headings: a month ends a row of pictures."""


Span = Literal["month", "year"]

CHARACTERS: dict[Span, int] = {"month": len("2021-06"), "year": len("2021")}


def suited_span(cards: Sequence[Card]) -> Span:
    """Of headings that are not more than the pictures."""
    dated = [card.taken_at[:7] for card in cards if span_of(card.taken_at[:7])]
    months = len(set(dated))
    return "year" if months > FEW_MONTHS and len(dated) < FEW_IMAGES * months else "month"


def date_headings(cards: Sequence[Card], span: Span, *, is_first_page: bool) -> dict[str, str]:
    """
    By the anchor of the image that each stands before: "June 2021" or "2021". Images without a date, which come last, have a heading
    too, unless all begins with them; those with another text in place of a date have that of the images before them.
    """
    headings, last = {}, UNDATED if is_first_page else ""
    for card in cards:
        begun = card.taken_at[: CHARACTERS[span]]
        if begun and not span_of(begun):
            continue
        heading = date_in_words(begun) if begun else UNDATED
        if heading != last:
            headings[card.anchor] = last = heading
    return headings
