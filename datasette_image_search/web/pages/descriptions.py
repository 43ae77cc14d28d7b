"""The sentence about what a search found, such as '6 of 214 images where camera_make = "Canon" match "red car"'."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import counted
from ...search.hits import Count
from ...store.ordering import Order
from .cards import query_in_words
from .results import Answer
from .search_request import DATE, SORTED, SearchRequest


@dataclass(frozen=True)
class Part:
    """Of the description of what was found; `is_repeated` if the box or the chips have the same words."""

    words: str
    is_repeated: bool = False


def description_in_words(wanted: SearchRequest, answer: Answer) -> str:
    """
    '6 of 214 images where camera_make = "Canon" match "red car"', or if nobody can tell what matches,
    '214 images where camera_make = "Canon", closest to "red car"'.
    """
    return "".join(part.words for part in description_of(wanted, answer))


def description_of(wanted: SearchRequest, answer: Answer) -> list[Part]:
    images, verb = count_in_words(answer.count), None
    if answer.matches is not None:
        images, verb = _matching(images, answer)
    parts = [Part(images)]
    if wanted.filter_words:
        parts.append(Part(f" {wanted.filter_words}", is_repeated=True))
    if verb is not None:
        parts += [Part(f" {verb}"), Part(f" {query_in_words(wanted.query)}", is_repeated=True)]
    return [*parts, Part(f"{_order_in_words(wanted, answer)}{limits_in_words(wanted)}")]


def limits_in_words(wanted: SearchRequest) -> str:
    """', with a score of 0.25 or more'; without a query there are no scores."""
    if not wanted.is_limited:
        return ""
    limits = ("score", wanted.min_score), ("relevance", wanted.min_relevance)
    return "".join(
        f", with a {name} of {number:g} or more" for name, number in limits if number is not None
    )


def _matching(images: str, answer: Answer) -> tuple[str, str]:
    """('6 of 214 images', 'match'); `images` are '214 images'."""
    matches, count = answer.matches or Count(None), answer.count
    if count.number == 0:
        return images, "match"
    of = f"{images[0].lower()}{images[1:]}" if count.number else "the images"
    if not matches.number:
        none = images.replace("1 image", "No image", 1) if count.number == 1 else f"None of {of}"
        return none, "matches"
    if matches.number != count.number:
        images = f"{_extent_in_words(matches)}{matches.number:,}"
        # Of all, nobody knows the number if there are so many.
        images += f" of {of}" if matches.number < (count.number or 0) else " images"
    return images, "matches" if matches.number == 1 else "match"


def _order_in_words(wanted: SearchRequest, answer: Answer) -> str:
    """', the 300 closest to "red car", sorted by width descending'"""
    count, knows_matches = answer.count.number, answer.matches is not None
    closest = "closest" if knows_matches else f"closest to {query_in_words(wanted.query)}"
    if wanted.order is None:
        if not wanted.query:
            return ", newest first"
        return "" if knows_matches else f", {closest}"
    by = order_in_words(wanted.order)
    limit = wanted.limit
    if limit is None and not (answer.matches and answer.matches.number):
        limit = SORTED
    is_cut = wanted.query and limit is not None and (count is None or count >= limit)
    return f", the {limit:,} {closest}, {by}" if is_cut else f", {by}"


def order_in_words(order: Order) -> str:
    """'newest first', or 'sorted by width descending' of a column of a person's own meaning."""
    if order.column == DATE:
        return "newest first" if order.descending else "oldest first"
    return f"sorted by {order.column}{' descending' if order.descending else ''}"


def count_in_words(count: Count) -> str:
    if count.number is None:
        return "Images"
    return f"{_extent_in_words(count)}{counted(count.number, 'image')}"


def _extent_in_words(count: Count) -> str:
    return f"{count.extent.capitalize()} " if count.number and not count.is_exact else ""
