class ImageSearchError(Exception):
    """
    Something a person can put right.

    The message is one sentence that names the thing and says what to do. The command line prints
    it and exits with 1, pages show it with a 4xx, SQL functions raise it.
    """
