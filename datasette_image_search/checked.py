"""
Values that a caller gives: each is checked before anything is written, and refused with one
ImageSearchError that names it. Commands and Python are refused the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeVar

from .errors import ImageSearchError

T = TypeVar("T")


def check_fields(request: Any, **ranges: tuple[int, int | None]) -> None:
    """
    Check the fields of a dataclass that are annotated as texts, flags and whole numbers. The `ranges` are
    those of the numbers, with None for no highest.
    """
    for field in fields(request):
        kind, *others = str(field.type).split(" | ")
        value = getattr(request, field.name)
        if value is None and others:
            continue
        if kind == "int":
            check_whole(field.name, value, *ranges[field.name])
        elif kind == "bool":
            check_flag(field.name, value)
        elif kind == "str":
            check_text(field.name, value)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    wanted = f"at least {least:,}" if most is None else f"from {least:,} to {most:,}"
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or not least <= int(value) <= (math.inf if most is None else most):
        raise _refused(name, value, f"a whole number, {wanted}")


def check_number(name: str, value: Any) -> None:
    if not _is_real(value) or not math.isfinite(value):
        raise _refused(name, value, "a number")


def check_positive(name: str, value: Any) -> None:
    if not _is_real(value) or not 0 < value < math.inf:
        raise _refused(name, value, "a number above 0")


def check_share(name: str, value: Any, such_as: float) -> None:
    if not _is_real(value) or not 0 < value <= 1:
        raise _refused(name, value, f"above 0 and at most 1, such as {such_as}")


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _refused(name, value, "True or False")


def check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _refused(name, value, "a text")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    if value not in choices:
        raise _refused(name, value, f"one of {', '.join(choices)}")


def as_key(id: Any) -> int | str:
    """An id as SQLite takes it, also of a whole number of numpy."""
    if isinstance(id, str):
        return id
    check_whole("id", id, -(2**63), 2**63 - 1)
    return int(id)


def several(name: str, given: Any, *kinds: type[T]) -> tuple[T, ...]:
    """A list of values of these kinds; a single one, such as a text, is a list of that."""
    wanted = " or ".join(kind.__name__ for kind in kinds)
    try:
        some = (given,) if isinstance(given, kinds) else tuple(given)
    except TypeError:
        raise _refused(name, given, f"a list of {wanted}") from None
    for each in some:
        if not isinstance(each, kinds):
            raise _refused(f"one of the {name}", each, wanted)
    return some


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _refused(name: str, value: object, wanted: str) -> ImageSearchError:
    shown = f"{value:g}" if isinstance(value, float) else repr(value)
    return ImageSearchError(f"{name} is {shown:.60}; it must be {wanted}")
