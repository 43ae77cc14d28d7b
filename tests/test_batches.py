from __future__ import annotations

import pytest

from datasette_image_search.ingest import batches as module
from datasette_image_search.ingest.batches import batches

from .serving import HANGS


def test_a_batch_is_full_by_weight(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COMMIT_SECONDS", HANGS)
    assert list(batches("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batches([1, 2, 9, 1, 1], 3, lambda item: item)) == [[1, 2], [9], [1, 1]]
    assert list(batches([], 3)) == []


def test_or_by_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COMMIT_SECONDS", 0.0)
    assert list(batches("ab", 2)) == [["a"], ["b"]]
