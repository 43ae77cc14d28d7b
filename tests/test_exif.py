from __future__ import annotations

import io
import math
import struct
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from datasette_image_search.decoding.orientation import read_orientation
from datasette_image_search.metadata.columns import COLUMNS, Metadata
from datasette_image_search.metadata.reading import read_metadata

from .conftest import SHARED
from .tiny_dng import tiny_dng

NOTHING = Metadata()


def jpeg_with(exif: Image.Exif | bytes) -> Image.Image:
    """What Pillow reads of a small JPEG that was written with this EXIF."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
    return Image.open(io.BytesIO(buffer.getvalue()))


def make_exif(
    main: dict[int, Any] | None = None,
    photo: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
) -> Image.Exif:
    exif = Image.Exif()
    exif.update(main or {})
    for ifd, tags in ((IFD.Exif, photo), (IFD.GPSInfo, gps)):
        if tags:
            exif.get_ifd(ifd).update(tags)
    return exif


def exif_with(tag: int, kind: int, count: int, value: bytes) -> bytes:
    """EXIF of one tag of any TIFF type, also of those that Pillow would not write for it."""
    entry = struct.pack("<HHHI", 1, tag, kind, count)
    inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", 26)
    return b"Exif\0\0II*\0\x08\0\0\0" + entry + inline + struct.pack("<I", 0) + value


def read_exif(image: Image.Image) -> Metadata:
    return read_metadata(b"", image)


ASCII, SHORT, LONG, UNDEFINED, FLOAT = 2, 3, 4, 7, 11


def read_of(**ifds: dict[int, Any]) -> Metadata:
    return read_exif(jpeg_with(make_exif(**ifds)))


def gps_at(**tags: Any) -> dict[int, Any]:
    """GPS tags of a place in the north-east, some of them replaced."""
    place = {
        "GPSLatitudeRef": "N",
        "GPSLatitude": (43.0, 30.0, 36.0),
        "GPSLongitudeRef": "E",
        "GPSLongitude": (11.0, 15.0, 18.0),
    } | tags
    return {GPS[name].value: value for name, value in place.items()}


def test_all_columns_of_a_camera_photo():
    exif = read_of(
        main={Base.Make: "Canon", Base.Model: "Canon EOS R5"},
        photo={
            Base.DateTimeOriginal: "2021:07:14 18:03:11",
            Base.LensModel: "RF50mm F1.2 L USM",
            Base.FocalLength: IFDRational(505, 10),
            Base.FNumber: IFDRational(28, 10),
            Base.ExposureTime: IFDRational(1, 250),
            Base.ISOSpeedRatings: 400,
        },
        gps=gps_at(GPSAltitudeRef=b"\x00", GPSAltitude=IFDRational(1234, 10)),
    )

    assert exif.keywords == ()
    columns = {name: value for name, value in asdict(exif).items() if name in COLUMNS}
    assert columns == pytest.approx(
        {
            "taken_at": "2021-07-14T18:03:11",
            "camera_make": "Canon",
            "camera_model": "EOS R5",
            "lens": "RF50mm F1.2 L USM",
            "focal_length": 50.5,
            "f_number": 2.8,
            "exposure_time": 0.004,
            "iso": 400,
            "latitude": 43.51,
            "longitude": 11.255,
            "altitude": 123.4,
            "title": None,
            "description": None,
            "rating": None,
            "artist": None,
            "copyright": None,
            "taken_at_offset": None,
            "duration": None,
        }
    )


def test_a_picture_without_exif_has_no_columns():
    image = Image.new("RGB", (8, 8))
    assert read_exif(image) == NOTHING
    assert read_orientation(image) == 1


# --- Time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "taken_at"),
    [
        ("2021:07:14 18:03:11", "2021-07-14T18:03:11"),
        ("2021-07-14 18:03:11", "2021-07-14T18:03:11"),
        ("2021:07:14 18:03", "2021-07-14T18:03:00"),
        ("2021:07:14T18:03:11.25+02:00", "2021-07-14T18:03:11"),
        ("2021:07:14 18:03:11\0", "2021-07-14T18:03:11"),
        ("2020:02:29 00:00:00", "2020-02-29T00:00:00"),
    ],
)
def test_times_are_iso_8601_as_the_camera_wrote_them(text: str, taken_at: str):
    assert read_of(photo={Base.DateTimeOriginal: text}).taken_at == taken_at


@pytest.mark.parametrize(
    "text",
    [
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        "2021:13:45 10:00:00",
        "2021:02:29 10:00:00",
        "2021:07:14 25:00:00",
        "2021:07:14",
        "yesterday",
        "",
        "\0\0\0\0",
    ],
)
def test_times_that_are_lies_are_none(text: str):
    assert read_of(photo={Base.DateTimeOriginal: text}).taken_at is None


def test_the_next_best_time_counts_where_the_best_is_a_lie():
    exif = read_of(
        main={Base.DateTime: "2022:01:01 00:00:00"},
        photo={
            Base.DateTimeOriginal: "0000:00:00 00:00:00",
            Base.DateTimeDigitized: "2021:12:31 23:59:59",
        },
    )
    assert exif.taken_at == "2021-12-31T23:59:59"


def test_the_time_of_the_last_change_is_not_when_a_photo_was_taken():
    assert read_of(main={Base.DateTime: "2022:01:01 00:00:00"}).taken_at is None


# --- Text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("PENTAX Corporation ", "Pentax"),
        ("Canon\0\0\0\0", "Canon"),
        ("Canon\0rubbish", "Canon"),
        ("  Leica ", "Leica"),
        ("\0\0\0", None),
        ("   ", None),
    ],
)
def test_text_is_stripped_of_its_padding(written: str, text: str | None):
    assert read_of(main={Base.Make: written}).camera_make == text


@pytest.mark.parametrize(
    ("kind", "count", "value", "text"),
    [
        (ASCII, 6, b"Canon\0", "Canon"),
        (UNDEFINED, 6, b"Canon\0", "Canon"),
        (ASCII, 4, b"\xff\xfe\xe9\0", "ÿþé"),
        (UNDEFINED, 4, b"a\xff\0b", "aÿ"),
        (LONG, 1, struct.pack("<I", 7), None),
    ],
)
def test_text_of_another_type(kind: int, count: int, value: bytes, text: str | None):
    assert read_exif(jpeg_with(exif_with(Base.Make, kind, count, value))).camera_make == text


# --- Numbers -------------------------------------------------------------------------------------

NO_NUMBERS = [IFDRational(0, 0), IFDRational(1, 0), IFDRational(0, 5), "fast", (1.0, 2.0)]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=["0/0", "1/0", "zero", "text", "two"])
@pytest.mark.parametrize(
    ("tag", "column"),
    [
        (Base.FocalLength, "focal_length"),
        (Base.FNumber, "f_number"),
        (Base.ExposureTime, "exposure_time"),
    ],
)
def test_numbers_that_make_no_sense_are_none(tag: int, column: str, value: Any):
    exif = read_of(photo={tag: value, Base.ISOSpeedRatings: 100})
    assert getattr(exif, column) is None
    assert exif.iso == 100


@pytest.mark.parametrize(("written", "iso"), [(100, 100), ((200, 0), 200), (0, None), ("x", None)])
def test_iso_is_a_whole_number(written: Any, iso: int | None):
    found = read_of(photo={Base.ISOSpeedRatings: written}).iso
    assert found == iso
    assert found is None or type(found) is int


def test_an_iso_beyond_the_integers_of_sqlite_is_none():
    photo = struct.pack("<HHHIfI", 1, Base.ISOSpeedRatings, FLOAT, 1, 1e30, 0)
    exif = exif_with(IFD.Exif, LONG, 1, struct.pack("<I", 30)) + photo
    assert jpeg_with(exif).getexif().get_ifd(IFD.Exif)[Base.ISOSpeedRatings] > 1e29
    assert read_exif(jpeg_with(exif)).iso is None


def test_65535_is_a_tag_without_room_for_the_iso():
    def iso(**photo: int) -> int | None:
        return read_of(photo={Base[name].value: value for name, value in photo.items()}).iso

    assert iso(ISOSpeedRatings=65535, RecommendedExposureIndex=102400) == 102400
    assert iso(ISOSpeedRatings=65535) == 65535
    assert iso(ISOSpeedRatings=200, RecommendedExposureIndex=400) == 200
    assert iso(StandardOutputSensitivity=80) == 80


def test_what_is_in_the_first_directory_counts_if_there_is_no_other():
    """TIFF/EP, as in the DNG of Android, has it there."""
    tags = {
        Base.DateTimeOriginal: "2021:07:14 18:03:11",
        Base.LensModel: "50mm",
        Base.ISOSpeedRatings: 100,
    }
    found = read_of(main=tags)
    assert (found.taken_at, found.lens, found.iso) == ("2021-07-14T18:03:11", "50mm", 100)
    assert read_of(main=tags, photo={Base.ISOSpeedRatings: 200}).iso == 200


# --- Words ---------------------------------------------------------------------------------------

XP_TITLE, XP_COMMENT, XP_AUTHOR, XP_KEYWORDS, RATING = 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x4746


def test_words_of_windows():
    tags = {
        XP_TITLE: "Am Zürichsee",
        XP_COMMENT: "Wellen",
        XP_AUTHOR: "Zoë",
        XP_KEYWORDS: "See;Sommer; See",
    }
    main: dict[int, Any] = {tag: f"{text}\0".encode("utf-16-le") for tag, text in tags.items()}
    found = read_of(main=main | {RATING: 4})
    assert (found.title, found.description, found.artist, found.rating) == (
        "Am Zürichsee",
        "Wellen",
        "Zoë",
        4,
    )
    assert found.keywords == ("See", "Sommer")


def test_words_of_exif_come_before_those_of_windows():
    found = read_of(
        main={
            Base.ImageDescription: "Waves",
            Base.Artist: "Ada",
            XP_COMMENT: "other".encode("utf-16-le"),
            XP_AUTHOR: "other".encode("utf-16-le"),
        }
    )
    assert (found.description, found.artist) == ("Waves", "Ada")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"ASCII\0\0\0Waves", "Waves"),
        (b"UNICODE\0" + "Zürich".encode("utf-16-le"), "Zürich"),
        (b"UNICODE\0" + "Zurich".encode("utf-16-be"), "Zurich"),
        (b"JIS\0\0\0\0\0" + "東京".encode("iso2022_jp"), "東京"),
        (b"\0\0\0\0\0\0\0\0" + "Zürich".encode(), "Zürich"),
        (b"Waves of the sea", "Waves of the sea"),
        (b"ASCII\0\0\0", None),
    ],
)
def test_a_comment_says_which_characters_it_has(written: bytes, text: str | None):
    assert read_of(photo={Base.UserComment: written}).description == text


def test_a_copyright_is_that_of_the_photographer_or_the_editor():
    both = exif_with(Base.Copyright, ASCII, 8, b"Ada\0Bob\0")
    assert read_exif(jpeg_with(both)).copyright == "Ada"
    one = exif_with(Base.Copyright, ASCII, 6, b" \0Bob\0")
    assert read_exif(jpeg_with(one)).copyright == "Bob"


def test_text_of_exif_3_is_utf_8():
    exif = exif_with(Base.Make, 129, 8, "Zürich\0".encode())
    assert read_exif(jpeg_with(exif)).camera_make == "Zürich"


# --- Place ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("references", "latitude", "longitude"),
    [
        ("NE", 43.51, 11.255),
        ("SE", -43.51, 11.255),
        ("NW", 43.51, -11.255),
        ("SW", -43.51, -11.255),
        ("sw", -43.51, -11.255),
    ],
)
def test_south_and_west_are_negative(references: str, latitude: float, longitude: float):
    exif = read_of(gps=gps_at(GPSLatitudeRef=references[0], GPSLongitudeRef=references[1]))
    assert (exif.latitude, exif.longitude) == pytest.approx((latitude, longitude))


@pytest.mark.parametrize(
    "latitude",
    [
        (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0)),
        (43.0, IFDRational(1, 0), 0.0),
        (43.0, 30.0, IFDRational(0, 0)),
        (90.0, 0.0, 1.0),
        (1234.0, 0.0, 0.0),
        (43.0, 30.0, 36.0, 1.0),
    ],
    ids=["0/0", "1/0 minutes", "0/0 seconds", "above 90", "far", "four parts"],
)
def test_a_latitude_that_makes_no_sense_is_none(latitude: Any):
    exif = read_of(gps=gps_at(GPSLatitude=latitude))
    assert exif.latitude is None
    assert exif.longitude == pytest.approx(11.255)


@pytest.mark.parametrize(("degrees", "longitude"), [(90, 90.0), (180, 180.0), (181, None)])
def test_a_longitude_goes_up_to_180(degrees: int, longitude: float | None):
    exif = read_of(gps=gps_at(GPSLongitude=(float(degrees), 0.0, 0.0)))
    assert exif.longitude == longitude


@pytest.mark.parametrize(
    ("reference", "written", "altitude"),
    [
        (b"\x00", IFDRational(4305, 10), 430.5),
        (b"\x01", IFDRational(4305, 10), -430.5),
        (None, IFDRational(10, 1), 10.0),
        (b"\x00", IFDRational(1, 0), None),
        (b"\x01", IFDRational(0, 0), None),
        (b"\x00", IFDRational(0, 1), 0.0),
    ],
)
def test_altitude_below_the_sea_is_negative(
    reference: bytes | None, written: IFDRational, altitude: float | None
):
    tags = {"GPSAltitude": written} | ({"GPSAltitudeRef": reference} if reference else {})
    assert read_of(gps=gps_at(**tags)).altitude == altitude


# --- Orientation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "orientation"), [*((n, n) for n in range(1, 9)), (0, 1), (9, 1), (65535, 1)]
)
def test_orientation_is_1_where_the_file_says_nothing_sensible(written: int, orientation: int):
    assert read_orientation(jpeg_with(make_exif({Base.Orientation: written}))) == orientation


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (ASCII, 2, b"6\0"),
        (FLOAT, 1, struct.pack("<f", 6.5)),
        (UNDEFINED, 2, b"\6\0"),
        (SHORT, 0, b""),
    ],
)
def test_orientation_of_another_type_is_1(kind: int, count: int, value: bytes):
    assert read_orientation(jpeg_with(exif_with(Base.Orientation, kind, count, value))) == 1


# --- Broken EXIF ---------------------------------------------------------------------------------


def is_sensible(exif: Metadata) -> bool:
    """What every column promises whatever the file holds: SQLite takes it, a map can draw it."""
    texts = (exif.taken_at, exif.camera_make, exif.camera_model, exif.lens)
    numbers = (exif.focal_length, exif.f_number, exif.exposure_time, exif.iso)
    return (
        all(text is None or (text.strip() and "\0" not in text and text.encode()) for text in texts)
        and all(n is None or (n > 0 and math.isfinite(n)) for n in numbers)
        and (exif.iso is None or exif.iso < 2**63)
        and (exif.taken_at is None or bool(datetime.fromisoformat(exif.taken_at)))
        and (exif.latitude is None or abs(exif.latitude) <= 90)
        and (exif.longitude is None or abs(exif.longitude) <= 180)
        and (exif.altitude is None or math.isfinite(exif.altitude))
    )


@given(st.binary(max_size=300))
@settings(max_examples=150)
@pytest.mark.filterwarnings("ignore")
def test_random_bytes_as_exif_never_raise(noise: bytes):
    for start in (b"", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0MM\0*\0\0\0\x08"):
        image = jpeg_with(start + noise)
        assert is_sensible(read_exif(image))
        assert read_orientation(image) in range(1, 9)


@given(
    cut=st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(6, 399), st.integers(0, 255)), max_size=12),
)
@settings(max_examples=200)
@pytest.mark.filterwarnings("ignore")
def test_exif_that_is_cut_or_altered_never_raises(cut: int, changes: list[tuple[int, int]]):
    good = make_exif(
        {Base.Make: "Canon", Base.Model: "EOS", Base.Orientation: 6},
        {
            Base.DateTimeOriginal: "2021:07:14 18:03:11",
            Base.FocalLength: IFDRational(50, 1),
            Base.FNumber: IFDRational(28, 10),
            Base.ISOSpeedRatings: 400,
        },
        gps_at(GPSAltitudeRef=b"\x01", GPSAltitude=IFDRational(10, 1)),
    ).tobytes()
    damaged = bytearray(good[: max(cut, 6)])
    for position, value in changes:
        damaged[position % len(damaged)] = value

    image = jpeg_with(bytes(damaged))

    assert is_sensible(read_exif(image))
    assert read_orientation(image) in range(1, 9)


# --- Real files ----------------------------------------------------------------------------------

needs_real_photos = pytest.mark.skipif(not SHARED.exists(), reason="no real photos here")


def exif_of(path: Path) -> Metadata:
    with Image.open(path) as image:
        return read_metadata(path.read_bytes(), image)


@needs_real_photos
def test_a_canon_of_2008():
    assert exif_of(SHARED / "exif" / "camera" / "Canon_40D.jpg") == Metadata(
        taken_at="2008-05-30T15:56:01",
        camera_make="Canon",
        camera_model="EOS 40D",
        focal_length=135.0,
        f_number=7.1,
        exposure_time=0.00625,
        iso=100,
    )


@needs_real_photos
@pytest.mark.parametrize(
    ("name", "model", "year"),
    [
        ("Fujifilm_FinePix_E500", "FinePix E500", "2006"),
        ("Nikon_D70", "D70", "2008"),
        ("Olympus_C8080WZ", "C8080WZ", "2006"),
        ("Panasonic_DMC-FZ30", "DMC-FZ30", "2008"),
        ("Pentax_K10D", "K10D", "2008"),
        ("Sony_HDR-HC3", "HDR-HC3", "2007"),
        ("corrupted", "u1020,S1020", "2015"),
    ],
)
def test_other_cameras(name: str, model: str, year: str):
    exif = exif_of(SHARED / "exif" / "camera" / f"{name}.jpg")
    assert (exif.camera_model, (exif.taken_at or "")[:4]) == (model, year)
    assert is_sensible(exif)


@needs_real_photos
@pytest.mark.parametrize(
    ("name", "taken_at", "latitude", "longitude"),
    [
        ("DSCN0010", "2008-10-22T16:28:39", 43.46745, 11.88513),
        ("DSCN0012", "2008-10-22T16:29:49", 43.46716, 11.88539),
        ("DSCN0021", "2008-10-22T16:38:20", 43.46708, 11.88454),
        ("DSCN0040", "2008-10-22T16:55:37", 43.46601, 11.87911),
    ],
)
def test_photos_of_arezzo_are_in_arezzo(
    name: str, taken_at: str, latitude: float, longitude: float
):
    exif = exif_of(SHARED / "exif" / "gps" / f"{name}.jpg")
    assert (exif.camera_model, exif.taken_at) == ("COOLPIX P6000", taken_at)
    assert (exif.latitude, exif.longitude) == pytest.approx((latitude, longitude), abs=2e-5)


@needs_real_photos
def test_a_photo_of_an_iphone():
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = exif_of(SHARED / "exif" / "heic" / "IMG_5195.HEIC")
    assert (exif.camera_make, exif.camera_model) == ("Apple", "iPhone 11 Pro Max")
    assert (exif.taken_at, exif.iso) == ("2021-04-11T15:47:53", 32)
    assert (exif.latitude, exif.longitude) == pytest.approx((39.05134, -94.28877), abs=1e-5)


@needs_real_photos
@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
def test_orientations_of_real_files(shape: str):
    found = []
    for number in range(9):
        with Image.open(SHARED / "orientation" / f"{shape}_{number}.jpg") as image:
            found.append(read_orientation(image))
    assert found == [1, 1, 2, 3, 4, 5, 6, 7, 8]


# --- Camera RAW ----------------------------------------------------------------------------------


@pytest.mark.parametrize("magic", [b"II*\0", b"IIRO", b"IIU\0"], ids=["NEF", "ORF", "RW2"])
def test_exif_of_raw_files_that_are_nearly_tiff(magic: bytes):
    exif = read_metadata(magic + tiny_dng()[4:])
    assert (exif.camera_make, exif.camera_model, exif.iso) == ("Example", "E1", 400)
    assert exif.taken_at == "2021-07-14T18:03:11"


@given(st.binary(max_size=200))
@settings(max_examples=50)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_tiff_has_no_exif(noise: bytes):
    assert read_metadata(b"FUJIFILM" + noise) == NOTHING
    assert is_sensible(read_metadata(b"II*\0\x08\0\0\0" + noise))
