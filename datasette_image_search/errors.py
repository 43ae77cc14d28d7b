import re


class ImageSearchError(Exception):
    """
    Something a person can put right.

    The message is one sentence that names the thing and says what to do. The command line prints
    it and exits with 1, pages show it with a 4xx, SQL functions raise it.
    """


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number of things, as a sentence has it: "1 image", "2,000 images"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def printable(text: str) -> str:
    """As a terminal or a log may show it: what others named may hold line breaks and escape sequences."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


_UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of a line, and what is no character."""
