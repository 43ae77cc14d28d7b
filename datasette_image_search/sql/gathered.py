"""The ids that an aggregate is fed, in as little memory as can be: a join may feed it millions of times."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ImageSearchError
from .arguments import image_key, whole_number

if TYPE_CHECKING:
    import numpy as np

    from ..store import ImageTable, Key

GATHERED = 2**20
"""Ids after which those that came before are left out: no more are kept than twice as many as are
different, or this number of them."""

MOST_CHARACTERS = 64 * 2**20
"""Of the different texts that an aggregate takes for ids."""


class GatheredIds:
    """
    The ids in any order, some of them more than once; nothing is kept of what is no id, which may be a
    BLOB, a million times.
    """

    def __init__(self) -> None:
        self._integers = array("q")
        self._texts: set[str] = set()
        self._characters = 0
        self._first_wrong: Any = None

    def step(self) -> Callable[..., None]:
        """What takes one id, and is called for each: a microsecond here is a second for a million."""
        append, other, tidy = self._integers.append, self._add, self._tidy
        left = GATHERED

        def step(id: Any, *_: Any) -> None:
            nonlocal left
            try:
                append(id)
            except TypeError:
                other(id)
            else:
                left -= 1
                if not left:
                    left = tidy()

        return step

    def _add(self, id: Any) -> None:
        """An id that is no integer."""
        if isinstance(id, str):
            if self._characters <= MOST_CHARACTERS and id not in self._texts:
                self._texts.add(id)
                self._characters += len(id)
        elif id is not None and self._first_wrong is None:
            number = whole_number(id)
            if number is None:
                self._first_wrong = id
            else:
                self._integers.append(number)

    def _tidy(self) -> int:
        """Leave out what is there twice; how many may come until that is worth it again."""
        import numpy as np

        ids = np.sort(self._as_array())
        # Not np.unique, which takes ten times as long for what is in order already.
        different = ids[np.append(True, ids[1:] != ids[:-1])]
        self._integers[:] = array("q", different.tobytes())
        return max(GATHERED, len(different))

    def _as_array(self) -> np.ndarray:
        import numpy as np

        return np.array(self._integers, dtype=np.int64)

    def keys(self, table: ImageTable) -> np.ndarray | list[Key]:
        """
        The keys that these are, without what can be the key of no image: a table has such rows now and
        then. Raises ImageSearchError if there is nothing else, as of another column.
        """
        import numpy as np

        if self._characters > MOST_CHARACTERS:
            raise ImageSearchError(
                f"the ids given to image_search_agg have more than {MOST_CHARACTERS:,} characters; name "
                f"the column {table.key!r}"
            )
        texts: list[Key] = []
        first_wrong = self._first_wrong
        for text in self._texts:
            try:
                texts.append(image_key(table, text))
            except ImageSearchError:
                first_wrong = text if first_wrong is None else first_wrong
        if first_wrong is not None and not texts and not self._integers:
            image_key(table, first_wrong)
        if table.key_is_integer:
            return np.append(self._as_array(), np.array(texts, dtype=np.int64))
        return [*texts, *map(str, self._as_array().tolist())]
