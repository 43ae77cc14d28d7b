"""What listings of storage tell of a file, as its state."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from datasette_image_search.files.told_states import told_state


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (
            {"LastModified": datetime(2020, 5, 1, 12, tzinfo=timezone.utc)},
            "2020-05-01T12:00:00+00:00",
        ),
        ({"updated": "2020-05-01T12:00:00.000Z"}, "2020-05-01T12:00:00+00:00"),
        ({"Last-Modified": "Fri, 01 May 2020 12:00:00 GMT"}, "2020-05-01T12:00:00+00:00"),
        ({"date_time": (2020, 5, 1, 12, 0, 0)}, "2020-05-01T12:00:00+00:00"),
        ({"mtime": 1588334400}, "2020-05-01T12:00:00+00:00"),
        ({"mtime": "never", "ETag": '"abc"'}, 'tag "abc"'),
        ({}, ""),
    ],
)
def test_the_state_of_a_file(told: dict, state: str):
    assert told_state(told) == state


def test_versions_of_one_second_are_told_apart():
    states = {told_state({"mtime": 1588334400, "ETag": tag}) for tag in ("a", "b")}
    assert len(states) == 2
    assert {state[:19] for state in states} == {"2020-05-01T12:00:00"}
