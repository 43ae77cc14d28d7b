from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from datasette_image_search.web.server.threads import DaemonThreads

from .serving import HANGS

NEVER_READY = """
import threading
from datasette_image_search.web.server import preparing, threads

begun = threading.Semaphore(0)

def load_a_model():
    begun.release()
    threading.Event().wait()

queue = threads.DecodingQueue("decode", 1)
for pool in (preparing._threads(), preparing._map_threads(), queue._thread):
    pool.submit(load_a_model)
    begun.acquire()
print("stopped")
"""


def test_the_process_ends_whatever_they_are_doing():
    line = [sys.executable, "-c", NEVER_READY]
    result = subprocess.run(line, check=True, capture_output=True, text=True, timeout=HANGS)
    assert (result.stdout, result.stderr) == ("stopped\n", "")


def test_what_a_function_returns_or_raises_is_told():
    threads = DaemonThreads(2, "test")
    assert threads.submit(lambda: 7).result() == 7
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result()
    assert threads.submit(lambda: threading.current_thread().daemon).result()


def test_so_many_work_at_once_and_the_others_wait_their_turn():
    threads = DaemonThreads(2, "test")
    both = threading.Barrier(3)
    running = [threads.submit(both.wait) for _ in range(2)]
    order: list[int] = []
    later = [threads.submit(lambda number=number: order.append(number)) for number in range(5)]
    assert order == []
    both.wait()
    for each in (*running, *later):
        each.result()
    assert sorted(order) == list(range(5))


def test_one_that_nobody_wants_any_more_is_not_begun():
    threads = DaemonThreads(1, "test")
    wait = threading.Event()
    threads.submit(wait.wait)
    unwanted = threads.submit(pytest.fail)
    assert unwanted.cancel()
    wait.set()
    assert threads.submit(lambda: "next").result() == "next"
