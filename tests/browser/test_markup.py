"""Whatever names, tags, columns and queries say, a browser shows it as text and runs none of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from click.testing import CliRunner
from datasette.app import Datasette
from playwright.sync_api import Browser, Page
from sqlite_utils import Database
from sqlite_utils.cli import cli

from datasette_image_search.store import find_index
from datasette_image_search.store.albums import add_to_album

from ..conftest import draw_picture
from ..serving import datasette_of, served_here

pytestmark = pytest.mark.datasette

RUN = "window.ran = true"
MARKUP = (
    f"\"'`>{{{{7*7}}}}</script></style></textarea></title><script>{RUN}</script>"
    f"<img src=x onerror='{RUN}'><svg onload='{RUN}'> \" onmouseover=\"{RUN}\" ' onfocus='{RUN}' "
    f"\n javascript:{RUN} &lt;b&gt; \u2028 ${{{RUN}}} --> ]]>"
)
"""Ways out of whatever a page may put a text into, each of which leaves a mark if it works."""

AS_NAME = MARKUP.replace("/", "\u2215").replace("\n", " ")[:200] + f"<img src=x onerror='{RUN}'>"
"""As much of it as the name of a file can have."""

SEARCH = "/-/image-search/photos/images"

TOUCH_EVERYTHING = """() => {
    const touched = document.querySelectorAll("a, button, img, input, [tabindex]");
    for (const element of [...touched].slice(0, 60)) {
        for (const event of ["mouseover", "focus"]) {
            element.dispatchEvent(new Event(event, {bubbles: event === "mouseover"}));
        }
    }
}"""

AT_ONCE = 5
"""Pages that wait together for their network to be idle, which is half a second of nothing."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose names, folders, columns and tags are all MARKUP."""
    place = tmp_path_factory.mktemp("markup")
    folder = place / "pictures" / AS_NAME.encode()[:100].decode(errors="ignore")
    for colour in ("red", "green", "blue"):
        draw_picture(
            folder / f"{colour}{AS_NAME.encode()[:150].decode(errors='ignore')}.jpg", colour
        )
    database = place / "photos.db"
    arguments = ["embed-images", database, "images", folder.parent, "--model", "palette"]
    assert CliRunner().invoke(cli, list(map(str, arguments))).exit_code == 0
    db = Database(database)
    db["images"].add_column(MARKUP, str)
    db.execute(
        f"update images set {', '.join(f'{name} = ?1' for name in ('camera_make', 'camera_model', 'lens'))}",
        [MARKUP],
    )
    db.execute("update images set [taken_at] = ?1 where id = 1", [MARKUP])
    db["images"].update(2, {MARKUP: MARKUP})
    tagged = CliRunner().invoke(cli, ["tag-images", str(database), "images", "red", "blue"])
    assert tagged.exit_code == 0, tagged.output
    db.execute("update images_tags set tag = tag || ' ' || ?", [MARKUP])
    add_to_album(db, find_index(db.conn, "images"), "any", [1, 2])
    db.execute("update images_albums set name = ?", [MARKUP])
    db.close()
    return database


@pytest.fixture(scope="module")
def server(database: Path) -> Iterator[str]:
    roots = str(database.parent / "pictures")
    with served_here(datasette_of(database, plugin={"roots": [roots]})) as url:
        yield url


@pytest.fixture
def new_page(browser: Browser, server: str) -> Iterator[Callable[[], Page]]:
    """Errors in the console are none of this: a picture may well be missing."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})

    def new_page() -> Page:
        page = context.new_page()
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog was opened: {dialog.message}"))
        return page

    yield new_page
    context.close()


@pytest.fixture
def page(new_page: Callable[[], Page]) -> Page:
    return new_page()


def assert_nothing_ran(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    page.evaluate(TOUCH_EVERYTHING)
    assert page.evaluate("window.ran") is None
    assert page.locator("img[src=x], [onerror], [onload], svg[onload]").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0


def sql_page(sql: str) -> str:
    path = "/photos/-/query" if hasattr(Datasette, "allowed") else "/photos"
    return f"{path}?{urlencode({'sql': sql})}"


TEXT = quote(MARKUP)
PATHS = {
    "newest": SEARCH,
    "query": f"{SEARCH}?q=red",
    "query that is markup": f"{SEARCH}?q={TEXT}",
    "image": f"{SEARCH}?q=%232",
    "page of an image": f"{SEARCH}/2?q={TEXT}&_position=1",
    "filter": f"{SEARCH}?camera_make={TEXT}&q=red",
    "filter by the column": f"{SEARCH}?{TEXT}={TEXT}",
    "column that is not there": f"{SEARCH}?{TEXT}x={TEXT}",
    "where": f"{SEARCH}?_where={TEXT}",
    "facets": f"{SEARCH}?_facet=folder&_facet={TEXT}&_facet_tag=id&_facet_array={TEXT}",
    "years": f"{SEARCH}?_facet_year=taken_at",
    "tag": f"{SEARCH}?_image_tag={quote('red ' + MARKUP)}",
    "tag that is not there": f"{SEARCH}?_image_tag={TEXT}",
    "unknown parameters": f"{SEARCH}?_pictures={TEXT}&_next={TEXT}&_min_score={TEXT}",
    "table of another name": f"/-/image-search/photos/{TEXT}",
    "albums": f"{SEARCH}/albums",
    "album": f"{SEARCH}/album/1",
    "duplicates": f"{SEARCH}/duplicates?_threshold=0.85",
    "duplicates with markup": f"{SEARCH}/duplicates?_threshold={TEXT}",
    "map of the earth": f"{SEARCH}/earth?{TEXT}={TEXT}",
    "map": f"{SEARCH}/map",
    "map with a query": f"{SEARCH}/map?q={TEXT}",
    "map by the column": f"{SEARCH}/map?_color={TEXT}",
    "table": "/photos/images?_facet_tag=id&_facet=camera_make",
    "table searched": "/photos/images?_image_search=red",
    "table searched for markup": f"/photos/images?_image_search={TEXT}",
    "row": "/photos/images/2",
    "tags": "/photos/images_tags?_labels=on",
    "images": "/photos/images.images?_image_search=red",
    "images of a query": f"{sql_page('select id, path from images').replace('?', '.images?')}",
    "query page": sql_page("select * from images"),
    "query that fails": sql_page(
        f"select image_search('{MARKUP.replace(chr(39), '')}', 5, 'x<script>')"
    ),
}


# SQLite tells of a function that raises, as one of these queries lets one.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_page(new_page: Callable[[], Page], server: str) -> None:
    pages = [new_page() for _ in range(AT_ONCE)]
    paths = list(PATHS.values())
    for first in range(0, len(paths), AT_ONCE):
        some = list(zip(pages, paths[first : first + AT_ONCE], strict=False))
        for page, path in some:
            page.goto(server + path)
        for page, _ in some:
            assert_nothing_ran(page)


def test_the_preview(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}?q=red")
    page.locator(".image-search-picture").first.click()
    for _ in range(3):
        assert_nothing_ran(page)
        page.keyboard.press("ArrowRight")


def test_the_points_of_the_map(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}/map?_color={TEXT}")
    page.wait_for_load_state("networkidle")
    canvas = page.locator("canvas").first
    box = canvas.bounding_box()
    assert box is not None
    for x in range(20, int(box["width"]), 60):
        for y in range(20, int(box["height"]), 60):
            page.mouse.move(box["x"] + x, box["y"] + y)
    assert_nothing_ran(page)
