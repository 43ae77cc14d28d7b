"""Draw an imaginary photo collection to try the plugin on: 60 pictures, most with real EXIF.

    python demo/draw_photos.py [FOLDER]

Everything comes from fixed seeds, so two runs write the same bytes; a file that is already there
is left alone.
"""

import argparse
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from canvas import Size
from PIL import ExifTags, Image
from PIL.Image import Transpose
from scenes import (
    DAWN,
    DAY,
    DUSK,
    FIRE_SEA,
    GREY_SEA,
    NIGHT,
    OVERCAST,
    PURPLE,
    TEAL_SEA,
    Scene,
    bands,
    beach,
    cafe,
    checks,
    city,
    dots,
    dunes,
    field,
    flowers,
    fruit,
    hills,
    houses,
    monochrome,
    night,
    peaks,
    sea,
    tiles,
    tree,
)

WIDE, TALL, SQUARE, PANORAMA = (640, 480), (480, 640), (540, 540), (720, 420)
# How an upright picture is turned before it is stored under an EXIF orientation.
STORED_TURN = {6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}


@dataclass(frozen=True)
class Camera:
    """What a camera writes about itself."""

    make: str
    model: str
    lens: str
    focal_length: float
    f_number: float


@dataclass(frozen=True)
class Place:
    """Degrees north and east (negative for south and west), metres above the sea."""

    latitude: float
    longitude: float
    altitude: float


@dataclass(frozen=True)
class Photo:
    """One picture of the collection: what to draw, and what its EXIF says."""

    path: str
    scene: Scene
    size: Size
    taken: datetime
    camera: Camera | None
    place: Place | None
    orientation: int

    @property
    def seed(self) -> int:
        """A number that belongs to the path: adding a photo does not redraw the others."""
        return zlib.crc32(self.path.encode())


CANON = Camera("Canon", "Canon EOS 40D", "EF-S17-85mm f/4-5.6 IS USM", 28, 8)
NIKON = Camera("NIKON CORPORATION", "NIKON D70", "18.0-70.0 mm f/3.5-4.5", 35, 9)
FUJI = Camera("FUJIFILM", "FinePix E500", "Fujinon 4.7-15.1 mm", 4.7, 5.6)
IPHONE = Camera("Apple", "iPhone 12", "iPhone 12 back dual wide camera 4.2mm f/1.6", 4.2, 1.6)
SONY = Camera("SONY", "ILCE-7M3", "FE 24-105mm F4 G OSS", 50, 4)
MACRO = Camera("Canon", "Canon EOS 40D", "EF100mm f/2.8 Macro USM", 100, 2.8)


def album(folder: str, camera: Camera | None, place: Place | None, *rows: tuple) -> list[Photo]:
    """The photos of one folder, from rows of date, file name, size, scene and orientation."""
    photos = []
    for when, name, size, scene, *turned in rows:
        taken = datetime.fromisoformat(f"{when}:{len(name):02}")
        orientation = turned[0] if turned else 1
        photos.append(Photo(f"{folder}/{name}", scene, size, taken, camera, place, orientation))
    return photos


SUNSET = partial(sea, sky=DUSK, water=FIRE_SEA, sun="#ff9a3c", cloud="#7a2a5a")
# One photo a line, however long, so that the collection can be read down.
# fmt: off
PHOTOS = [
    *album(
        "2019 Namibia", NIKON, Place(-24.7275, 15.3412, 562),
        ("2019-05-11 09:12", "orange dunes.jpg", WIDE, dunes),
        ("2019-05-11 17:48", "red dunes.jpg", PANORAMA, partial(dunes, sand=("#e0481c", "#4a0c08"))),
        ("2019-05-12 06:31", "dunes at dawn.jpg", WIDE, partial(dunes, sky=DAWN, sand=("#f0b890", "#7a4a5c"))),
        ("2019-05-12 11:05", "DSC_0412.jpg", TALL, partial(dunes, sand=("#f7cf7c", "#a8672a")), 6),
        ("2019-05-12 18:20", "acacia at sunset.jpg", WIDE, partial(tree, leaves=("#14100c", "#3a2a14"), sky=DUSK, grass="#7a3a1c", flat=0.4)),
        ("2019-05-12 22:40", "milky way.jpg", WIDE, partial(night, milky=True)),
    ),
    *album(
        "2020 New York", CANON, Place(40.7061, -73.9969, 12),
        ("2020-02-14 10:02", "skyline.jpg", WIDE, partial(city, river="#3a5f80")),
        ("2020-02-14 17:33", "skyline at dusk.jpg", PANORAMA, partial(city, sky=DUSK, wall="#3a2348", lights="#ffd080", river="#4a2048")),
        ("2020-02-14 21:15", "skyline at night.jpg", WIDE, partial(city, sky=NIGHT, wall="#0c1424", lights="#ffd25e", river="#050a1c")),
        ("2020-02-15 11:20", "brick houses.jpg", WIDE, partial(houses, walls=("#9c3a2a", "#b4523a", "#7a2a22"))),
        ("2020-02-15 14:41", "IMG_2207.jpg", TALL, partial(city, sky=OVERCAST, wall="#6a6e74"), 8),
        ("2020-02-15 22:08", "blue night.jpg", SQUARE, partial(city, sky=("#061040", "#0f2a78", "#2a56b0"), wall="#0a1a44", lights="#bfe0ff")),
    ),
    *album(
        "2021 Lisbon", IPHONE, Place(38.6977, -9.2063, 8),
        ("2021-06-18 10:31", "blue sea.jpg", WIDE, sea),
        ("2021-06-18 11:47", "sailing boats.jpg", WIDE, partial(sea, sails=("#f4f4f0", "#d83a2c", "#f2b632"))),
        ("2021-06-18 20:52", "sunset over the sea.jpg", WIDE, SUNSET),
        ("2021-06-19 09:40", "coloured houses.jpg", WIDE, houses),
        ("2021-06-19 10:05", "azulejos.jpg", SQUARE, tiles),
        ("2021-06-19 10:38", "café d'été.jpg", WIDE, cafe),
        ("2021-06-20 13:22", "beach.jpg", WIDE, beach),
        ("2021-06-20 15:02", "IMG_0871.jpg", TALL, partial(houses, walls=("#4f86b0", "#f2efe6", "#e8c24a")), 6),
        ("2021-06-20 21:03", "IMG_0899.jpg", TALL, SUNSET, 6),
    ),
    *album(
        "2022 Alps", FUJI, Place(46.0207, 7.7491, 1621),
        ("2022-03-05 09:30", "snowy peaks.jpg", WIDE, peaks),
        ("2022-03-05 11:11", "mountain lake.jpg", WIDE, partial(peaks, lake="#2a6a86")),
        ("2022-03-06 06:58", "pink peaks at dawn.jpg", WIDE, partial(peaks, sky=DAWN, snow="#ffd2c4")),
        ("2022-03-06 22:17", "winter night.jpg", WIDE, partial(peaks, sky=NIGHT, snow="#8fa4cc", moon=True)),
        ("2022-03-07 10:45", "DSCF0331.jpg", TALL, peaks, 8),
        ("2022-06-21 14:20", "green hills.jpg", WIDE, partial(hills, firs=20)),
        ("2022-06-21 16:02", "fir forest.jpg", WIDE, partial(hills, grass=("#3f7f48", "#0f3a20"), firs=420, sky=OVERCAST)),
        ("2022-06-22 08:10", "balloons.jpg", WIDE, partial(hills, balloons=(("#e03a2c", "#ffd23c"), ("#2c5fd0", "#f4f4f4"), ("#8a2fa0", "#ff9a3c")))),
        ("2022-06-22 08:24", "red balloon.webp", SQUARE, partial(hills, balloons=(("#d8201c", "#f25a3c"),), firs=30)),
    ),
    *album(
        "2023 Sydney", SONY, Place(-33.8568, 151.2153, 6),
        ("2023-11-02 09:15", "harbour.jpg", PANORAMA, partial(city, wall="#b0aca4", river="#1f6f9c")),
        ("2023-11-02 12:50", "bondi.jpg", WIDE, partial(beach, parasols=("#2a6fd0", "#f08a1c"))),
        ("2023-11-03 13:31", "white sails.webp", WIDE, partial(sea, water=TEAL_SEA, sails=("#fdfdf8", "#e8f0f8"))),
        ("2023-11-03 16:09", "jacaranda.jpg", WIDE, partial(tree, leaves=("#5a3a9c", "#c0a0f0"), sky=DAY, grass="#5f9a3c")),
        ("2023-11-03 19:44", "purple evening.jpg", WIDE, partial(sea, sky=PURPLE, water=("#b86aa8", "#4a2a78", "#180c3a"), sun="#ffb0c8", cloud="#4a2a7a")),
    ),
    *album(
        "2024 Iceland", SONY, Place(64.1466, -21.9426, 31),
        ("2024-01-19 23:12", "northern lights.jpg", WIDE, partial(night, aurora=("#2ee88a", "#1fc8a0"))),
        ("2024-01-20 00:35", "purple aurora.jpg", TALL, partial(night, aurora=("#a04af0", "#3ee8a0"))),
        ("2024-01-20 12:14", "grey sea.jpg", WIDE, partial(sea, sky=OVERCAST, water=GREY_SEA, cloud="#6a747c")),
        ("2024-01-21 20:30", "moonrise.jpg", SQUARE, partial(night, moon=0.13)),
    ),
    *album(
        "garden", MACRO, None,
        ("2021-05-30 11:00", "poppies.jpg", WIDE, flowers),
        ("2021-08-08 12:12", "sunflowers.jpg", WIDE, partial(flowers, petals=("#ffd01c", "#fcba10"), heart="#4a2810", leaves=16, count=6, ground=("#2a5a8c", "#9cc4d8"))),
        ("2022-06-02 10:25", "daisies.jpg", WIDE, partial(flowers, petals=("#ffffff",), heart="#f0b818", leaves=14)),
        ("2022-07-14 18:40", "lavender.jpg", WIDE, field),
        ("2023-04-22 09:50", "tulips.jpg", WIDE, partial(field, rows=("#e0302c", "#f8c820", "#f070a0", "#fff4e8"))),
        ("2023-05-27 10:10", "pink cosmos.webp", SQUARE, partial(flowers, petals=("#f06aa8", "#d83a8c", "#f8a8cc"), heart="#f0c030", leaves=7)),
        ("2023-10-21 15:30", "autumn tree.jpg", WIDE, tree),
        ("2024-04-13 13:00", "blue anemones.jpg", TALL, partial(flowers, petals=("#3a4fd0", "#5a6ae8"), heart="#f8f0d0", leaves=8)),
    ),
    *album(
        "kitchen", IPHONE, None,
        ("2022-01-16 12:00", "oranges.jpg", WIDE, fruit),
        ("2022-01-16 12:06", "lemons.jpg", WIDE, partial(fruit, colours=("#fadb2a",), tall=0.78, wall=("#3a6a8c", "#24485f"))),
        ("2022-09-25 16:45", "apples.jpg", WIDE, partial(fruit, colours=("#c8201c", "#8abf2c", "#d83a28"))),
        ("2023-07-01 09:30", "plums.jpg", SQUARE, partial(fruit, colours=("#4a2a78", "#5a2a5c"), tall=1.15, r=0.1, wall=("#f0e0c0", "#d8c090"))),
    ),
    *album(
        "black and white", CANON, None,
        ("2020-11-08 09:02", "lonely tree.jpg", WIDE, monochrome(tree)),
        ("2021-02-20 10:10", "mountains.jpg", WIDE, monochrome(peaks)),
        ("2021-02-27 17:17", "waterfront.jpg", WIDE, monochrome(partial(city, sky=OVERCAST, river="#808080"))),
        ("2021-03-06 16:16", "sea and sky.jpg", SQUARE, monochrome(sea)),
    ),
    *album(
        "patterns", None, None,
        ("2024-01-01 00:00", "stripes.png", WIDE, bands),
        ("2024-01-01 00:00", "waves.webp", WIDE, partial(bands, colours=("#0b3c5d", "#328cc1", "#9ad1e8", "#f4f9fb"), bend=0.05)),
        ("2024-01-01 00:00", "chessboard.png", SQUARE, checks),
        ("2024-01-01 00:00", "triangles.png", WIDE, partial(checks, colours=("#0f7173", "#f05d5e", "#e7ecef", "#272932", "#d8a47f"), cut=True)),
        ("2024-01-01 00:00", "dots.webp", WIDE, dots),
    ),
]
# fmt: on


def exif_of(photo: Photo) -> Image.Exif:
    """What the camera would have written; nothing for a drawing."""
    exif = Image.Exif()
    if photo.camera is None:
        return exif
    after_dark = not 6 <= photo.taken.hour < 20
    when = photo.taken.strftime("%Y:%m:%d %H:%M:%S")
    base, shot = ExifTags.Base, exif.get_ifd(ExifTags.IFD.Exif)
    exif[base.Make], exif[base.Model] = photo.camera.make, photo.camera.model
    exif[base.Orientation], exif[base.DateTime] = photo.orientation, when
    shot[base.DateTimeOriginal] = shot[base.DateTimeDigitized] = when
    shot[base.LensModel] = photo.camera.lens
    shot[base.FocalLength], shot[base.FNumber] = photo.camera.focal_length, photo.camera.f_number
    shot[base.ExposureTime] = 2.0 if after_dark else 1 / Random(photo.seed).choice((125, 250, 500))
    shot[base.ISOSpeedRatings] = 1600 if after_dark else 100
    if photo.place:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps_of(photo.place, Random(photo.seed)))
    return exif


def gps_of(place: Place, random: Random) -> dict[int, object]:
    """The GPS block of a spot within a kilometre or two of a place."""
    north = place.latitude + random.uniform(-0.01, 0.01)
    east = place.longitude + random.uniform(-0.01, 0.01)
    return {
        ExifTags.GPS.GPSLatitudeRef: "N" if north >= 0 else "S",
        ExifTags.GPS.GPSLatitude: sexagesimal(north),
        ExifTags.GPS.GPSLongitudeRef: "E" if east >= 0 else "W",
        ExifTags.GPS.GPSLongitude: sexagesimal(east),
        ExifTags.GPS.GPSAltitudeRef: b"\0",  # above the sea
        ExifTags.GPS.GPSAltitude: place.altitude + random.randrange(40) / 2,
    }


def sexagesimal(degrees: float) -> tuple[float, float, float]:
    """Degrees, minutes and seconds to a hundredth, as GPS receivers write them."""
    hundredths = round(abs(degrees) * 360_000)
    return (hundredths // 360_000, hundredths // 6_000 % 60, hundredths % 6_000 / 100)


def upright(photo: Photo) -> Image.Image:
    """The finished picture: drawn at twice the size for smooth edges, with grain and vignette."""
    width, height = photo.size
    picture = photo.scene((2 * width, 2 * height), Random(photo.seed)).reduce(2)
    if photo.camera is None:
        return picture
    noise = np.random.default_rng(photo.seed).standard_normal((height, width, 1), np.float32)
    vignette = np.asarray(Image.radial_gradient("L").resize(photo.size), np.float32) / 255
    pixels = np.asarray(picture, np.float32) * (1 - 0.18 * vignette[..., None] ** 2) + 2.6 * noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(photo: Photo) -> bytes:
    """The bytes of the file, turned the way its orientation says it is stored."""
    picture = upright(photo)
    if photo.orientation in STORED_TURN:
        picture = picture.transpose(STORED_TURN[photo.orientation])
    file = io.BytesIO()
    suffix = Path(photo.path).suffix
    options = {"quality": 90, "method": 2} if suffix == ".webp" else {"quality": 90}
    picture.save(file, Image.registered_extensions()[suffix], exif=exif_of(photo), **options)
    return file.getvalue()


def draw_missing(folder: Path) -> int:
    """Draw the photos that are not in the folder yet; how many there are now."""
    for photo in PHOTOS:
        path = folder / photo.path
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Renamed into place, so that an interrupted run leaves no half a picture behind.
            part = path.with_name(path.name + ".part")
            part.write_bytes(encoded(photo))
            part.replace(path)
    return len(PHOTOS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw into the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Draw an imaginary photo collection.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(__file__).parent / "photos", metavar="FOLDER"
    )
    folder = parser.parse_args(arguments).folder
    count, shown = draw_missing(folder), folder
    if folder.is_relative_to(Path.cwd()):
        shown = folder.relative_to(Path.cwd())
    print(f"{count} photos in {shown}")


if __name__ == "__main__":
    main()
