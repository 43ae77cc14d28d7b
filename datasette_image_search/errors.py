class ImageSearchError(Exception):
    """
    Something a person can put right.

    The message is one sentence that names the thing and says what to do. The command line prints
    it and exits with 1, pages show it with a 4xx, SQL functions raise it.
    """


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number of things, as a sentence has it: "1 image", "2,000 images"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
