from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.metadata.columns import Metadata
from datasette_image_search.metadata.iptc import MOST_RECORDS, iptc_metadata, iptc_of_photoshop
from datasette_image_search.metadata.texts import MOST_KEYWORDS


def record(number: int, value: bytes, kind: int = 2) -> bytes:
    return struct.pack(">BBBH", 0x1C, kind, number, len(value)) + value


def resource(number: int, value: bytes, name: bytes = b"\0\0") -> bytes:
    return b"8BIM" + struct.pack(">H", number) + name + struct.pack(">I", len(value)) + value


EVERYTHING = (
    record(90, b"\x1b%G", kind=1)
    + record(5, b"By the sea")
    + record(25, b"sea")
    + record(25, "Zürich".encode())
    + record(55, b"20210714")
    + record(60, b"180311+0200")
    + record(80, b"Ada")
    + record(116, "© me".encode("latin-1"))
    + record(120, b"Waves")
)


def test_all_columns():
    assert iptc_metadata(EVERYTHING) == Metadata(
        title="By the sea",
        keywords=("sea", "Zürich"),
        taken_at="2021-07-14T18:03:11",
        taken_at_offset="+02:00",
        artist="Ada",
        copyright="© me",
        description="Waves",
    )


def test_a_long_record_has_its_length_in_more_bytes():
    data = b"\x1c\x02\x78" + struct.pack(">HI", 0x8004, 40_000) + b"a" * 40_000 + record(5, b"T")
    found = iptc_metadata(data)
    assert (len(found.description or ""), found.title) == (10_000, "T")


def test_what_comes_after_damage_is_left_out():
    assert iptc_metadata(record(5, b"Title") + b"\x1c\x02" + record(80, b"Ada")).artist is None
    assert iptc_metadata(record(5, b"Title") + b"rubbish").title == "Title"


def test_more_records_than_a_person_writes_are_left_out():
    """Each takes six bytes, so that a million of them fit into a file."""
    many = b"".join(record(25, f"{number}".encode()) for number in range(MOST_RECORDS))
    found = iptc_metadata(record(5, b"Title") + many + record(80, b"Ada"))
    assert (found.title, found.keywords[-1], found.artist) == (
        "Title",
        f"{MOST_KEYWORDS - 1}",
        None,
    )


def test_photoshop_has_it_among_other_things():
    resources = (
        resource(1005, b"odd")
        + b"\0"
        + resource(1006, b"even", name=b"\4name\0")
        + resource(0x0404, EVERYTHING)
    )
    assert iptc_of_photoshop(resources) == EVERYTHING
    assert iptc_of_photoshop(resource(1005, b"even")) == b""


@given(st.binary(max_size=100))
def test_any_bytes_are_read_without_an_error(noise: bytes):
    iptc_metadata(noise)
    iptc_metadata(b"\x1c\x02" + noise)
    iptc_of_photoshop(noise)
    iptc_of_photoshop(b"8BIM" + noise)
