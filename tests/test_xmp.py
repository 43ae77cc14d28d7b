from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.metadata.columns import NOTHING, Metadata
from datasette_image_search.metadata.xmp import LONGEST, xmp_metadata

NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
)


def xmp(inside: str = "", attributes: str = "") -> str:
    """A packet with one description."""
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {NAMESPACES}><rdf:Description rdf:about="" {attributes}>{inside}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def read(inside: str = "", attributes: str = "") -> Metadata:
    return xmp_metadata(xmp(inside, attributes).encode())


def test_what_a_person_said_of_a_picture():
    found = read(
        "<dc:title><rdf:Alt><rdf:li xml:lang='de'>Am Meer</rdf:li>"
        "<rdf:li xml:lang='x-default'>By the sea</rdf:li></rdf:Alt></dc:title>"
        "<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>Waves</rdf:li></rdf:Alt>"
        "</dc:description><dc:subject><rdf:Bag><rdf:li>sea</rdf:li><rdf:li>beach</rdf:li></rdf:Bag>"
        "</dc:subject><dc:creator><rdf:Seq><rdf:li>Ada</rdf:li><rdf:li>Bob</rdf:li></rdf:Seq>"
        "</dc:creator><dc:rights>mine</dc:rights>",
        'xmp:Rating="4"',
    )
    assert found == Metadata(
        title="By the sea",
        description="Waves",
        keywords=("sea", "beach"),
        artist="Ada; Bob",
        copyright="mine",
        rating=4,
    )


@pytest.mark.parametrize(
    ("inside", "taken_at"),
    [
        (
            "<xmp:CreateDate>2022</xmp:CreateDate><photoshop:DateCreated>2021</photoshop:DateCreated>"
            "<exif:DateTimeOriginal>2020-05-01T10:00:00</exif:DateTimeOriginal>",
            "2020-05-01T10:00:00",
        ),
        (
            "<xmp:CreateDate>2022</xmp:CreateDate><photoshop:DateCreated>2021</photoshop:DateCreated>",
            "2021",
        ),
        ("<xmp:CreateDate>2022</xmp:CreateDate>", "2022"),
        ("<xmp:ModifyDate>2023</xmp:ModifyDate><xmp:MetadataDate>2023</xmp:MetadataDate>", None),
    ],
)
def test_the_time_of_the_photo_and_never_that_of_an_edit(inside: str, taken_at: str | None):
    assert read(inside).taken_at == taken_at


def test_an_exact_time_of_the_same_day_is_better_than_the_day():
    day = "<photoshop:DateCreated>2021-07-14</photoshop:DateCreated>"
    assert read(f"{day}<xmp:CreateDate>2021-07-14T18:03:11+02:00</xmp:CreateDate>") == Metadata(
        taken_at="2021-07-14T18:03:11", taken_at_offset="+02:00"
    )
    assert (
        read(f"{day}<xmp:CreateDate>2021-07-15T18:03:11</xmp:CreateDate>").taken_at == "2021-07-14"
    )


def test_a_place():
    found = read(
        attributes='exif:GPSLatitude="43,30.6S" exif:GPSLongitude="11,15,18E" '
        'exif:GPSAltitude="1234/10" exif:GPSAltitudeRef="1"'
    )
    assert (found.latitude, found.longitude, found.altitude) == (-43.51, 11.255, -123.4)


@pytest.mark.parametrize(
    ("written", "rating"),
    [("0", 0), ("-1", -1), ("5", 5), ("3.7", 3), ("99", None), ("9" * 400, None), ("good", None)],
)
def test_ratings(written: str, rating: int | None):
    assert read(attributes=f'xmp:Rating="{written}"').rating == rating


def test_numbers_of_thousands_of_digits_cost_no_other_value():
    long = "9" * 5_000
    for written in (f"1/{long}", long, f"{long}/{long}"):
        found = read(
            "<dc:rights>mine</dc:rights>",
            f'exif:GPSAltitude="{written}" exif:GPSLatitude="{written}" exif:GPSAltitudeRef="{long}" '
            f'xmp:Rating="{written}" xmp:CreateDate="{long}"',
        )
        assert found.copyright == "mine"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-16"])
def test_packets_of_all_encodings(encoding: str):
    data = xmp("<dc:rights>Zürich</dc:rights>").encode(encoding)
    assert xmp_metadata(data).copyright == "Zürich"


def test_what_stands_around_a_packet_is_left_out():
    data = xmp("<dc:rights>mine</dc:rights>")
    assert xmp_metadata(f"junk {data}>\n</rdf:RDF></x:xmpmeta>\0\0".encode()).copyright == "mine"


def test_a_file_of_a_program_with_a_declaration():
    data = "<?xml version='1.0' encoding='UTF-8'?>" + xmp("<dc:rights>mine</dc:rights>")
    assert xmp_metadata(data.encode()).copyright == "mine"


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<x:xmpmeta>",
        b"<x:xmpmeta></x:xmpmeta>",
        (BOMB + xmp("<dc:rights>&j;</dc:rights>")).encode(),
        xmp(BOMB + "<dc:rights>&j;</dc:rights>").encode(),
        xmp("<dc:rights>" + "a" * LONGEST + "</dc:rights>").encode(),
        xmp("<dc:rights>").encode(),
        xmp("<dc:a/>" * 200_000 + "<dc:rights>mine</dc:rights>").encode(),
        xmp(f"<dc:rights xmlns:q='{'u' * 50_000}'>mine{'<q:a/>' * 40_000}</dc:rights>").encode(),
        xmp(f"<dc:rights>mine<a xmlns='{'u' * 201}'/></dc:rights>").encode(),
    ],
    ids=[
        "empty",
        "open",
        "nothing",
        "bomb",
        "bomb inside",
        "too long",
        "not closed",
        "too much",
        "long names",
        "long name",
    ],
)
def test_damaged_and_hostile_packets_say_nothing(data: bytes):
    assert xmp_metadata(data) == NOTHING


@pytest.mark.parametrize(
    "inside",
    [
        "<dc:rights>" * 20_000 + "</dc:rights>" * 20_000,
        "<rdf:Description>" * 20_000 + "</rdf:Description>" * 20_000,
        "<rdf:Description><dc:rights/></rdf:Description>" * 20_000,
        "<dc:subject><rdf:Bag>" + "<rdf:li>a</rdf:li>" * 50_000 + "</rdf:Bag></dc:subject>",
        "<dc:a/>" * 100_000,
    ],
    ids=["deep", "nested", "repeated", "long", "others"],
)
def test_packets_of_a_million_brackets_are_read(inside: str):
    """If it took the square of that, this would not end."""
    assert read(inside, 'xmp:Rating="4"').rating == 4


def test_what_is_said_of_other_pictures_is_not_said_of_this_one():
    ingredient = (
        "<rdf:Description xmp:CreateDate='1999' dc:title='Other'><dc:subject><rdf:Bag>"
        "<rdf:li>other</rdf:li></rdf:Bag></dc:subject></rdf:Description>"
    )
    pantry = f"<dc:relation><rdf:Bag><rdf:li>{ingredient}</rdf:li></rdf:Bag></dc:relation>"
    assert read(pantry, "xmp:Rating='4'") == Metadata(rating=4)
    bare = f"<rdf:RDF {NAMESPACES}><rdf:Description dc:rights='mine'>{pantry}</rdf:Description></rdf:RDF>"
    assert xmp_metadata(bare.encode()) == Metadata(copyright="mine")


@pytest.mark.parametrize("empty", ["dc:rights=''", "dc:rights='----'"])
def test_what_says_nothing_hides_no_value_in_a_later_description(empty: str):
    packet = xmp("<dc:rights>mine</dc:rights>")
    packet = packet.replace("<rdf:Description", f"<rdf:Description {empty}/><rdf:Description", 1)
    assert xmp_metadata(packet.encode()).copyright == "mine"


def test_a_value_with_a_qualifier():
    inside = "<dc:rights rdf:parseType='Resource'><rdf:value>mine</rdf:value></dc:rights>"
    assert read(inside).copyright == "mine"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(noise: bytes):
    xmp_metadata(noise)
    xmp_metadata(xmp().encode()[:200] + noise + b"</x:xmpmeta>")
