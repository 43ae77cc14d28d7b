import difflib
import re
from collections.abc import Iterable


class ImageSearchError(Exception):
    """
    An error that a person can put right.

    The message is one sentence that names the thing and says what to do. The command line prints
    it and exits with 1, pages show it with a 4xx, SQL functions raise it.
    """


def is_fault(error: BaseException) -> bool:
    """Whether a computation failed, and nobody stopped it: what a library in Rust panics with is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number of things in a sentence: "1 image", "2,000 images"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def most_similar(name: str, known: Iterable[str], least: float = 0.6) -> str | None:
    """
    The most similar of some names, ignoring case; None if none is similar. `least` is the share of letters, 0 to 1,
    that two similar names have in common.
    """
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=least)
    return by_lower[near[0]] if near else None


def printable(text: str) -> str:
    """A text that is safe in a terminal or a log: names may contain line breaks and escape sequences."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


_UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, marks of the direction of a line, and halves of characters."""
