"""Take the screenshots of the README from the `photos.db` of its quick start, which is in this project's folder.

python demo/screenshots.py [DATABASE] [FOLDER]
"""

import io
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS.append("--disable-background-networking")

SHOTS = {
    # file: (width, height, colours, query string)
    "search.png": (1280, 860, "light", "q=blue+above+green"),
    "search-dark.png": (1280, 860, "dark", "q=%238+-+0.5:dark&taken_at__gte=2020"),
    "search-phone.png": (390, 844, "light", "q=orange"),
    "search-nothing.png": (1000, 620, "light", "q=orange&folder=2020+New+York"),
    "search-sorted.png": (1000, 620, "light", "q=blue&_sort_desc=taken_at"),
    "selection.png": (1000, 620, "light", "q=blue&_matches_only=1"),
}

SELECTED = {"selection.png": 3}
"""File: how many of its first pictures are selected."""


def main() -> None:
    database = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "photos.db"
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs"
    folder.mkdir(exist_ok=True)
    with served(database) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for name, (width, height, colours, query) in SHOTS.items():
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=colours
            )
            page.goto(f"{url}/-/image-search/{database.stem}/images?{query}")
            page.wait_for_load_state("networkidle")
            for _ in range(SELECTED.get(name, 0)):
                page.keyboard.press("ArrowRight")
                page.keyboard.press("x")
            save(page, folder / name)
            page.close()
        browser.close()


def save(page: Page, path: Path) -> None:
    """With 256 colours, which nobody misses and which makes a third of the file."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path} {path.stat().st_size:,} bytes")


def chromium() -> str | None:
    """Debian's, else the one that Playwright installed."""
    debian = Path("/usr/bin/chromium")
    return str(debian) if debian.exists() else None


@contextmanager
def served(database: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "datasette", "serve", str(database), "--port", str(port)]
    command += ["--metadata", str(ROOT / "demo" / "metadata.yml")]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while server.poll() is None and not answers(url):
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


if __name__ == "__main__":
    main()
