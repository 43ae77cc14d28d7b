"""Where the kinds of files have their metadata, and which of it counts."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasette_image_search.metadata import reading
from datasette_image_search.metadata.columns import NOTHING, Metadata, combined
from datasette_image_search.metadata.containers import LONGEST_BOX
from datasette_image_search.metadata.reading import read_metadata

from .conftest import SHARED
from .test_exif import gps_at, make_exif
from .test_iptc import record, resource
from .test_xmp import xmp
from .tiny_dng import tiny_dng

MAKE, DESCRIPTION, ORIGINAL, CREATED = 271, 270, 36867, 36868

CAMERA = make_exif({MAKE: "Canon"}, {ORIGINAL: "2021:07:14 18:03:11"}).tobytes()[6:]
XMP = xmp("<dc:rights>mine</dc:rights><xmp:CreateDate>2022</xmp:CreateDate>").encode()


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(*chunks: bytes) -> bytes:
    """A PNG with chunks behind its pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    end = buffer.getvalue().rindex(b"\0\0\0\0IEND")
    return buffer.getvalue()[:end] + b"".join(chunks) + buffer.getvalue()[end:]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def saved(format: str, **options) -> tuple[bytes, Image.Image]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format, **options)
    return buffer.getvalue(), Image.open(io.BytesIO(buffer.getvalue()))


def profile(kind: str, content: bytes) -> bytes:
    text = f"\n{kind}\n{len(content):8}\n{content.hex()}\n".encode()
    return chunk(b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text))


RAF = b"FUJIFILMCCD-RAW ".ljust(84, b"\0")
JPEG = saved("JPEG", exif=b"Exif\0\0" + CAMERA)[0]

CR3 = box(b"ftyp", b"crx \0\0\0\1crx isom") + box(
    b"moov",
    box(
        b"uuid",
        bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
        + box(b"CMT1", make_exif({MAKE: "Canon"}).tobytes()[6:])
        + box(b"CMT2", make_exif({ORIGINAL: "2021:07:14 18:03:11"}).tobytes()[6:]),
    ),
)

WITH_EXIF = {
    "PNG, eXIf": png(chunk(b"eXIf", CAMERA)),
    "PNG of ImageMagick": png(profile("exif", b"Exif\0\0" + CAMERA)),
    "TIFF": CAMERA,
    "ORF": b"IIRO" + CAMERA[4:] if CAMERA[:2] == b"II" else b"MMOR" + CAMERA[4:],
    "RAF": RAF + struct.pack(">II", 92, len(JPEG)) + JPEG,
    "MRW": b"\0MRM\0\0\0\0" + b"\0PRD" + struct.pack(">I", 4) + b"size"
    + b"\0TTW" + struct.pack(">I", len(CAMERA)) + CAMERA,
    "CR3": CR3,
    "JPEG 2000": box(b"jP  ", b"\r\n\x87\n") + box(b"uuid", b"JpgTiffExif->JP2" + CAMERA),
}  # fmt: skip


@pytest.mark.parametrize("data", WITH_EXIF.values(), ids=WITH_EXIF.keys())
def test_the_exif_of_files_without_a_look_at_their_pixels(data: bytes):
    found = read_metadata(data)
    assert (found.camera_make, found.taken_at) == ("Canon", "2021-07-14T18:03:11")


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "PNG", "TIFF"])
def test_the_exif_of_pictures_that_pillow_opened(format: str):
    data, image = saved(format, exif=b"Exif\0\0" + CAMERA)
    found = read_metadata(data, image)
    assert (found.camera_make, found.taken_at) == ("Canon", "2021-07-14T18:03:11")


IPTC = record(5, b"By the sea") + record(25, b"sea")

WITH_WORDS = {
    "PNG, iTXt": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "PNG, packed": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
    "PNG of ImageMagick": png(profile("xmp", XMP)),
    "GIF": b"GIF89a" + b"\0" * 20 + b"\x21\xff\x0bXMP DataXMP" + XMP + b"\x01\xff\xfe\0",
    "JPEG 2000": box(b"jP  ", b"\r\n\x87\n")
    + box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP),
    "CR3": CR3 + box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP),
}


@pytest.mark.parametrize("data", WITH_WORDS.values(), ids=WITH_WORDS.keys())
def test_the_xmp_of_files(data: bytes):
    assert read_metadata(data).copyright == "mine"


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_the_xmp_of_pictures_that_pillow_opened(format: str):
    assert read_metadata(*saved(format, xmp=XMP)).copyright == "mine"


def with_extended_xmp(
    parts: list[tuple[int, bytes]], length: int, name: bytes = b"A" * 32
) -> Image.Image:
    """A JPEG whose XMP is in two packets, the second in parts that begin at some positions."""
    main = xmp(
        "<dc:rights>mine</dc:rights>", 'xmlns:xmpNote="x" xmpNote:HasExtendedXMP="' + "A" * 32 + '"'
    )
    data, _ = saved("JPEG", xmp=main.encode())
    for position, part in reversed(parts):
        begin = (
            b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">II", length, position)
        )
        data = (
            data[:2]
            + b"\xff\xe1"
            + struct.pack(">H", 2 + len(begin + part))
            + begin
            + part
            + data[2:]
        )
    return Image.open(io.BytesIO(data))


def test_the_second_part_of_an_xmp_above_64_kb():
    words = "<dc:title><rdf:Alt><rdf:li>Sea</rdf:li></rdf:Alt></dc:title>"
    packet = xmp("<dc:source>" + "a" * 70_000 + "</dc:source>" + words).encode()
    first, second = packet[:60_000], packet[60_000:]
    whole = [(60_000, second), (0, first)]
    found = read_metadata(b"", with_extended_xmp(whole, len(packet)))
    assert (found.copyright, found.title) == ("mine", "Sea")
    for parts, length, name in (
        (whole[:1], len(packet), b"A" * 32),
        (whole[1:], len(packet), b"A" * 32),
        (whole, len(packet) + 1, b"A" * 32),
        (whole, len(packet), b"B" * 32),
        ([(0, first), (59_999, second)], len(packet) - 1, b"A" * 32),
    ):
        found = read_metadata(b"", with_extended_xmp(parts, length, name))
        assert (found.copyright, found.title) == ("mine", None)


def test_iptc_of_jpeg_tiff_and_png():
    segment = b"Photoshop 3.0\0" + resource(0x0404, IPTC)
    data, _ = saved("JPEG")
    data = data[:2] + b"\xff\xed" + struct.pack(">H", 2 + len(segment)) + segment + data[2:]
    of_tiff = Image.Exif()
    of_tiff[33723] = IPTC
    for found in (
        read_metadata(data, Image.open(io.BytesIO(data))),
        read_metadata(of_tiff.tobytes()[6:]),
        read_metadata(png(profile("iptc", resource(0x0404, IPTC)))),
        read_metadata(png(profile("8bim", resource(0x0404, IPTC)))),
    ):
        assert (found.title, found.keywords) == ("By the sea", ("sea",))


def test_the_texts_of_a_png():
    data = png(
        chunk(b"tEXt", b"Title\0By the sea"),
        chunk(b"zTXt", b"Description\0\0" + zlib.compress("für uns".encode("latin-1"))),
        chunk(b"iTXt", b"Author\0\0\0\0\0" + "Zoë".encode()),
        chunk(b"tEXt", b"Copyright\0mine"),
        chunk(b"tEXt", b"Creation Time\0Wed, 14 Jul 2021 18:03:11 +0200"),
    )
    assert read_metadata(data) == Metadata(
        title="By the sea",
        description="für uns",
        artist="Zoë",
        copyright="mine",
        taken_at="2021-07-14T18:03:11",
        taken_at_offset="+02:00",
    )


def test_a_text_that_unpacks_to_gigabytes_costs_no_other():
    bomb = zlib.compress(b"a" * 50_000_000)
    data = png(
        chunk(b"zTXt", b"Description\0\0" + bomb),
        chunk(b"zTXt", b"Comment\0\0rubbish"),
        chunk(b"tEXt", b"Title\0By the sea"),
    )
    assert read_metadata(data) == Metadata(title="By the sea")


def test_a_block_that_says_it_has_gigabytes_takes_none():
    data = b"\0MRM\0\0\0\0" + b"\0PRD" + struct.pack(">I", 2**28) + b"size"
    tracemalloc.start()
    try:
        assert read_metadata(data) == NOTHING
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_thousands_of_parts_are_not_all_read(monkeypatch: pytest.MonkeyPatch):
    """Whoever makes such a file wants it to take time."""
    read: list[bytes] = []

    def count(data: bytes) -> Metadata:
        read.append(data)
        return NOTHING

    monkeypatch.setattr(reading, "exif_metadata", count)
    monkeypatch.setattr(reading, "xmp_metadata", count)
    packet = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    read_metadata(png(chunk(b"eXIf", CAMERA) * 5_000, packet * 1_000))
    assert len(read) == 8


# --- What counts ---------------------------------------------------------------------------------


def test_a_box_that_is_too_long_for_metadata_is_left_out():
    exif = make_exif({MAKE: "Canon"}).tobytes()[6:]
    data = b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"CMT1", exif + bytes(LONGEST_BOX - len(exif)))
    assert read_metadata(data).camera_make == "Canon"
    data = b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"CMT1", exif + bytes(LONGEST_BOX))
    assert read_metadata(data) == NOTHING


def test_a_camera_knows_the_time_and_people_know_what_is_to_be_seen():
    data, image = saved(
        "JPEG",
        exif=make_exif({DESCRIPTION: "OLYMPUS DIGITAL CAMERA"}, {CREATED: "2021:07:14 18:03:11"}),
        xmp=xmp(
            "<dc:description><rdf:Alt><rdf:li>Waves</rdf:li></rdf:Alt></dc:description>"
            "<exif:DateTimeOriginal>2022</exif:DateTimeOriginal>"
        ).encode(),
    )
    found = read_metadata(data, image)
    assert (found.description, found.taken_at) == ("Waves", "2021-07-14T18:03:11")


def test_the_time_of_the_gps_is_better_than_none():
    gps = gps_at(GPSDateStamp="2021:07:14", GPSTimeStamp=(16.0, 3.0, 11.0))
    data, image = saved("JPEG", exif=make_exif(gps=gps), xmp=xmp().encode())
    found = read_metadata(data, image)
    assert (found.taken_at, found.taken_at_offset) == ("2021-07-14T16:03:11", "+00:00")
    data, image = saved("JPEG", exif=make_exif(gps=gps), xmp=XMP)
    assert read_metadata(data, image).taken_at == "2022"


def test_what_a_person_wrote_beside_a_picture_comes_before_what_is_in_it():
    data, image = saved("JPEG", exif=b"Exif\0\0" + CAMERA, xmp=XMP)
    first = xmp("<dc:rights>yours</dc:rights>").encode()
    second = xmp(
        "<dc:rights>theirs</dc:rights><exif:DateTimeOriginal>2021-07-14T19:03:11+02:00"
        "</exif:DateTimeOriginal>"
    ).encode()
    found = read_metadata(data, image, [first, second])
    assert (found.copyright, found.camera_make) == ("yours", "Canon")
    assert (found.taken_at, found.taken_at_offset) == ("2021-07-14T19:03:11", "+02:00")


@pytest.mark.parametrize(
    ("beside", "taken_at"),
    [
        ("<exif:DateTimeOriginal>1985-07</exif:DateTimeOriginal>", "1985-07"),
        ("<exif:DateTimeOriginal>2021-07-14</exif:DateTimeOriginal>", "2021-07-14T18:03:11"),
        ("<photoshop:DateCreated>1985-07-01</photoshop:DateCreated>", "2021-07-14T18:03:11"),
        ("<xmp:CreateDate>2023-01-01T10:00:00</xmp:CreateDate>", "2021-07-14T18:03:11"),
    ],
)
def test_the_order_of_times_holds_for_the_files_beside_as_well(beside: str, taken_at: str):
    """A person corrects the time of the photo, and programs write that of a file."""
    data, image = saved("JPEG", exif=b"Exif\0\0" + CAMERA)
    assert read_metadata(data, image, [xmp(beside).encode()]).taken_at == taken_at


def test_another_time_beside_a_picture_comes_before_that_in_it():
    data, image = saved("JPEG", xmp=XMP)
    beside = xmp("<xmp:CreateDate>2023-01-01T10:00:00</xmp:CreateDate>").encode()
    assert read_metadata(data, image).taken_at == "2022"
    assert read_metadata(data, image, [beside]).taken_at == "2023-01-01T10:00:00"


def test_a_place_is_of_one_source():
    half = Metadata(latitude=1.0, altitude=None)
    whole = Metadata(latitude=2.0, longitude=3.0, altitude=4.0)
    assert combined([Metadata(altitude=9.0), half, whole]) == whole
    flat = Metadata(latitude=5.0, longitude=6.0)
    assert combined([flat, whole]) == flat
    assert combined([Metadata(altitude=9.0), half]) == half
    assert combined([whole, half]).longitude == 3.0
    raw = Metadata(camera_make="Example", iso=400, altitude=0.0)
    preview = Metadata(camera_make="EXAMPLE", lens="50mm", altitude=7.0)
    assert combined([raw, preview]) == Metadata(
        camera_make="Example", lens="50mm", iso=400, altitude=0.0
    )


def test_an_offset_is_of_the_time_that_counts():
    there = Metadata(taken_at="2021-07-14T18:03:11")
    same = Metadata(taken_at="2021-07-14T18:03:11", taken_at_offset="+02:00")
    other = Metadata(taken_at="2020-07-14T18:03:11", taken_at_offset="+05:00")
    assert combined([there, other, same]) == same
    assert combined([there, other]) == there


@given(st.binary(max_size=200))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_are_read_without_an_error(noise: bytes):
    for start in (
        b"",
        b"\x89PNG\r\n\x1a\n",
        RAF,
        b"\0MRM",
        b"\0\0\0\x18ftypcrx ",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"GIF89a\x0bXMP DataXMP",
    ):
        read_metadata(start + noise, None, [noise])
    assert read_metadata(b"") == NOTHING


def test_a_raw_says_its_own():
    found = read_metadata(tiny_dng())
    assert (found.camera_make, found.lens, found.iso) == ("Example", "50mm F1.2", 400)


@pytest.mark.skipif(not (SHARED / "exif").exists(), reason="no real photos here")
def test_real_photos_are_described():
    described = 0
    for path in sorted(Path(SHARED / "exif").rglob("*.jpg")):
        with Image.open(path) as image:
            described += read_metadata(path.read_bytes(), image).taken_at is not None
    assert described > 10
