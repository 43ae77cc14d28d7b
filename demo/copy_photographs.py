"""Copy a few real photographs for the demo out of the wheel of scikit-image, which nothing else here needs.

    python demo/copy_photographs.py [FOLDER]

pip fetches the wheel, 14 MB, and nothing of it is installed. If all photographs are there, nothing is done.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

NAMES = (
    *("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("hubble_deep_field.jpg", "motorcycle_left.png", "page.png", "rocket.jpg"),
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Copy a few photographs out of scikit-image.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(__file__).with_name("photographs")
    )
    folder = parser.parse_args(arguments).folder
    folder.mkdir(exist_ok=True, parents=True)
    if not all((folder / name).exists() for name in NAMES):
        with TemporaryDirectory() as place:
            if not fetch(place):
                print("No photographs: pip has no wheel of scikit-image here")
                return
            (wheel,) = Path(place).glob("*.whl")
            copy(wheel, folder)
    print(f"{len(NAMES)} photographs in {folder}")


def fetch(place: str) -> bool:
    """Whether pip finds a wheel to put there."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    wanted = ["--no-deps", "--only-binary", ":all:", "--dest", place, "scikit-image>=0.26"]
    return subprocess.run([*pip, *wanted], check=False).returncode == 0


def copy(wheel: Path, folder: Path) -> None:
    with ZipFile(wheel) as archive:
        for name in NAMES:
            (folder / name).write_bytes(archive.read(f"skimage/data/{name}"))


if __name__ == "__main__":
    main()
