"""
Compare thumbnails with what a browser shows of the same files.

    python benchmarks/rendering.py FOLDER [FOLDER ...] [--shown DIFFERENCE] [--save FOLDER]

The script renders each picture of the folders, and of those in them, by Chromium and by this package, and prints
the mean difference of their pixels, from 0 to 255, of those that differ by more than --shown, the most
different first. Then come the files that only one of the two shows, with the reason of this package.
--save writes the pairs that are printed into a folder, Chromium's on the left. About ten files a second.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, Route, sync_playwright
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasette_image_search.decoding.decode import decode_bytes
from datasette_image_search.decoding.formats import THUMBNAIL_SIZE, is_image_name
from datasette_image_search.decoding.opening import DecodeError, DecodeSettings

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--force-color-profile=srgb",
    "--no-first-run",
]

SITE = "http://rendering.invalid/"

DRAW = """
async url => {
    // The first picture of an animation, as in thumbnails; of damaged ones only an element shows a part.
    const blob = await (await fetch(url)).blob()
    let picture = await createImageBitmap(blob).catch(() => null)
    let {width, height} = picture ?? {}
    if (!picture) {
        picture = new Image()
        picture.src = url
        await new Promise(done => { picture.onload = picture.onerror = done })
        width = picture.naturalWidth
        height = picture.naturalHeight
    }
    if (!width || !height) return null
    const scale = Math.min(1, 1600 / Math.max(width, height))
    const canvas = document.createElement("canvas")
    canvas.width = Math.max(1, Math.round(scale * width))
    canvas.height = Math.max(1, Math.round(scale * height))
    const context = canvas.getContext("2d")
    context.imageSmoothingQuality = "high"
    context.fillStyle = "white"
    context.fillRect(0, 0, canvas.width, canvas.height)
    context.drawImage(picture, 0, 0, canvas.width, canvas.height)
    return canvas.toDataURL("image/png").split(",")[1]
}
"""

SETTINGS = DecodeSettings(np.asarray, image_size=224, max_pixels=200_000_000)


@dataclass(frozen=True)
class Rendering:
    """A file as Chromium and as this package show it; None for what they do not show, with the reason."""

    path: Path
    chromium: Image.Image | None
    ours: Image.Image | None
    reason: str = ""

    @property
    def difference(self) -> float:
        """The mean over all pixels and channels, 0 to 255; 255 if the pictures have other shapes."""
        assert self.chromium is not None
        assert self.ours is not None
        theirs = self.chromium.copy()
        theirs.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
        (width, height), size = theirs.size, self.ours.size
        if abs(width - size[0]) > 2 or abs(height - size[1]) > 2:
            return 255.0
        pixels = np.asarray(theirs.resize(size), dtype=float)
        return float(np.abs(pixels - np.asarray(self.ours, dtype=float)).mean())


def renderings(folders: list[Path]) -> Iterator[Rendering]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    files = sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if is_image_name(path.name) and path.is_file()
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        served: dict[str, bytes] = {SITE: b"<!doctype html>"}
        page.route("**/*", lambda route: _serve(route, served))
        page.goto(SITE)
        for number, path in enumerate(files):
            url = f"{SITE}{number}"
            served[url] = path.read_bytes()
            ours, reason = _ours(served[url], path.name)
            theirs = _chromiums(page, url)
            del served[url]
            if ours is not None or theirs is not None:
                yield Rendering(path, theirs, ours, reason)
        browser.close()


def _serve(route: Route, served: dict[str, bytes]) -> None:
    kind = "text/html" if route.request.url == SITE else "image/x"
    route.fulfill(body=served.get(route.request.url, b""), headers={"content-type": kind})


def _chromiums(page: Page, url: str) -> Image.Image | None:
    png = page.evaluate(DRAW, url)
    return None if png is None else Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")


def _ours(data: bytes, name: str) -> tuple[Image.Image | None, str]:
    try:
        decoded = decode_bytes(data, name, SETTINGS)
    except DecodeError as error:
        return None, str(error)
    assert decoded.thumbnail is not None
    return Image.open(io.BytesIO(decoded.thumbnail)).convert("RGB"), ""


def _save(rendering: Rendering, folder: Path) -> None:
    assert rendering.chromium is not None
    assert rendering.ours is not None
    pair = Image.new("RGB", (2 * THUMBNAIL_SIZE + 10, THUMBNAIL_SIZE), "grey")
    theirs = rendering.chromium.copy()
    theirs.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    pair.paste(theirs, (0, 0))
    pair.paste(rendering.ours, (THUMBNAIL_SIZE + 10, 0))
    pair.save(folder / f"{rendering.difference:05.1f}-{rendering.path.name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--shown", type=float, default=20.0)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    found = list(renderings(options.folders))
    both = [each for each in found if each.chromium is not None and each.ours is not None]
    both.sort(key=lambda each: -each.difference)
    far = [each for each in both if each.difference > options.shown]
    if options.save is not None:
        options.save.mkdir(parents=True, exist_ok=True)
        for each in far:
            _save(each, options.save)
    print(tabulate([[f"{each.difference:.1f}", each.path] for each in far], ["differs", "file"]))
    print(f"\n{len(far)} of {len(both)} differ by more than {options.shown:g} of 255\n")
    theirs = [[each.path, each.reason] for each in found if each.ours is None]
    print(tabulate(theirs, ["only Chromium shows", "reason"]))
    ours = [[each.path] for each in found if each.chromium is None]
    print("\n" + tabulate(ours, ["only this package shows"]))


if __name__ == "__main__":
    main()
