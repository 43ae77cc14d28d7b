from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

import pytest

from datasette_image_search.ingest.made_ahead import made_ahead

from .serving import HANGS


def test_an_item_is_made_while_the_reader_has_the_one_before():
    made: list[int] = []
    threads: set[threading.Thread] = set()

    def make(is_wanted: Callable[[], bool]) -> Generator[int, None, None]:
        for number in range(5):
            threads.add(threading.current_thread())
            made.append(number)
            yield number

    with made_ahead(make) as numbers:
        for number in numbers:
            deadline = time.monotonic() + HANGS
            while len(made) < min(number + 2, 5) and time.monotonic() < deadline:
                time.sleep(0.001)
            assert made == list(range(min(number + 2, 5)))
    assert made == [0, 1, 2, 3, 4]
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_a_reader_that_leaves_ends_the_maker_in_its_own_thread():
    ended: list[tuple[bool, threading.Thread]] = []

    def make(is_wanted: Callable[[], bool]) -> Generator[int, None, None]:
        try:
            while is_wanted():
                yield 1
        finally:
            ended.append((is_wanted(), threading.current_thread()))

    def leave() -> None:
        with made_ahead(make) as numbers:
            next(numbers)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    ((wanted, thread),) = ended
    assert not wanted
    assert thread is not threading.current_thread()


def test_errors_come_to_the_reader_after_what_was_made_before():
    def make(is_wanted: Callable[[], bool]) -> Generator[int, None, None]:
        yield 1
        raise ValueError("damaged")

    with made_ahead(make) as numbers:
        assert next(numbers) == 1
        with pytest.raises(ValueError, match="damaged"):
            next(numbers)
