"""The search page as a person uses it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from ..reading_names import write_in_picture
from .touching import finger

pytestmark = pytest.mark.datasette

SEARCH = "/-/image-search/photos/images"


def first_picture(page: Page):
    return page.locator(".image-search-grid [data-key]").first.get_by_role("img")


def open_menu(page: Page, name: str) -> None:
    page.locator(".image-search-menu > summary", has_text=name).click()


def test_search_then_more_and_less_like_this_then_the_page_of_an_image(
    page: Page, server: str
) -> None:
    page.goto(server + SEARCH)
    page.get_by_role("searchbox", name="Search for").fill("red")
    page.get_by_role("button", name="Search", exact=True).click()
    # No empty filter row comes along.
    expect(page).to_have_url(f"{server}{SEARCH}?q=red")
    expect(first_picture(page)).to_have_attribute("alt", "red.jpg")

    page.get_by_role("img", name="blue.jpg").hover()
    page.get_by_role("link", name="More like blue.jpg").click()
    expect(page.get_by_role("searchbox")).to_have_value("red + #2")
    page.get_by_role("link", name="Search without red").click()
    expect(page.get_by_role("searchbox")).to_have_value("#2")
    expect(first_picture(page)).to_have_attribute("alt", "blue.jpg")
    page.get_by_role("img", name="black.jpg").hover()
    page.get_by_role("link", name="Less like black.jpg").click()
    expect(page.get_by_role("searchbox")).to_have_value("#2 - #1")

    page.get_by_role("img", name="blue.jpg").hover()
    page.locator(".image-search-name", has_text="blue.jpg").click()
    expect(page.get_by_role("heading", name="blue.jpg")).to_be_visible()
    page.get_by_role("link", name="#2 - #1").click()
    expect(page.get_by_role("searchbox")).to_have_value("#2 - #1")


def test_filter_then_facet_then_without(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red")
    open_menu(page, "+ filter")
    page.get_by_label("Column of a new filter").select_option("taken_at")
    page.get_by_label("Operator of a new filter").select_option("is not null")
    page.get_by_role("button", name="Apply").click()
    heading = page.locator(".image-search-summary")
    expect(heading).to_have_text('1 of 3 images where taken_at is not null matches "red"')

    page.locator("#facet-camera_model").get_by_role("link", name="Canon").click()
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(2)
    page.locator("#facet-taken_at").get_by_role("link", name="2021, 1").click()
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(1)
    page.get_by_role("link", name="Without the filter Canon").click()
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(2)

    open_menu(page, "+ filter")
    page.get_by_label("Column of filter 3").select_option("- remove filter -")
    page.get_by_role("button", name="Apply").click()
    expect(heading).not_to_contain_text("is not null")
    page.get_by_role("link", name="Remove the filter Taken: 2021").click()
    expect(heading).to_have_text('1 of 8 images matches "red"')


def test_the_next_page_comes_by_itself(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?_size=3")
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(8)
    expect(page.locator(".image-search-grid")).to_have_count(1)
    # Also those of months that go on.
    expect(page.locator(".image-search-date")).to_have_text(
        ["May 2021", "May 2020", "Without a date"]
    )
    expect(page.get_by_role("navigation", name="Pages")).to_have_count(0)
    last = page.locator(".image-search-picture").last
    name = last.get_by_role("img").get_attribute("alt")
    last.click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_have_attribute("alt", name)


def test_whole_rows_of_many_pictures_are_in_lists_of_their_own(page: Page, server: str) -> None:
    """A browser lays out none of such a list while it is out of view, and rows go on as if it was one."""

    def many(route) -> None:
        response = route.fetch()
        grid = r'(<ol class="image-search-grid[^>]*>)(.*?)(</ol>)'
        html = re.sub(
            grid, lambda found: found[1] + found[2] * 100 + found[3], response.text(), flags=re.S
        )
        route.fulfill(response=response, body=html)

    page.route(re.compile("_size=4$"), many)
    page.goto(server + SEARCH + "?_sort=id&_size=4")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(404)
    whole = page.locator(".image-search-grid.whole")
    expect(whole).to_have_count(1)
    count, right, last = whole.evaluate(
        "list => [list.children.length, list, list.lastElementChild].map("
        "each => each.getBoundingClientRect?.().right ?? each)"
    )
    assert count >= 300
    assert right == pytest.approx(last, abs=1)
    expect(page.locator(".image-search-grid").last).to_have_attribute("start", str(count + 1))


def test_behind_the_line_pages_wait_for_a_click(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red&_size=3")
    expect(page.get_by_role("heading", name="Weaker matches")).to_have_count(1)
    page.wait_for_load_state("networkidle")
    expect(page.locator(".image-search-picture")).to_have_count(3)
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_text("4 to 6")).to_be_visible()


def test_a_fold_that_comes_later_waits_until_it_is_opened(page: Page, server: str) -> None:
    """As on a page of 60 with 54 matches; here each page has one more match than the one before."""

    def with_fold(route) -> None:
        response = route.fetch()
        folded = response.text().replace(
            '<h3 class="image-search-line">Weaker matches</h3>',
            '<details class="image-search-weaker"><summary>Weaker matches</summary>',
        )
        start, line, rest = folded.partition('<details class="image-search-weaker">')
        end = rest.find("</ol>") + len("</ol>")
        html = start + line + rest[:end] + "</details>" + rest[end:] if line else start
        route.fulfill(response=response, body=html)

    page.route(re.compile(r"_next=2"), with_fold)
    page.route(re.compile(r"_size=2$"), without_line)
    page.goto(server + SEARCH + "?q=red&_size=2")
    pictures = page.locator(".image-search-picture")
    expect(pictures).to_have_count(4)
    page.wait_for_load_state("networkidle")
    expect(pictures).to_have_count(4)
    page.get_by_text("Weaker matches").click()
    expect(pictures).to_have_count(8)
    expect(page.locator(".image-search-weaker .image-search-picture")).to_have_count(6)
    expect(page.get_by_text("Weaker matches")).to_have_count(1)


def without_line(route) -> None:
    """All of a first page match, as of most."""
    response = route.fetch()
    html = re.sub(
        r'<h3 class="image-search-line">.*?</h3>\s*<ol[^>]*>', "", response.text(), flags=re.S
    )
    route.fulfill(response=response, body=html.replace("</ol>", "", 1))


def test_going_back_closes_the_preview_and_stays(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red")
    page.locator(".image-search-picture").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).to_have_url(f"{server}{SEARCH}?q=red")
    page.go_forward()
    expect(page.get_by_role("dialog").get_by_role("img")).to_have_attribute("alt", "red.jpg")


def test_closing_the_preview_leaves_no_step_to_go_back(page: Page, server: str) -> None:
    page.goto(server + SEARCH)
    page.goto(server + SEARCH + "?q=red")
    page.locator(".image-search-picture").first.click()
    # The step back is told a moment later; who opens it again at once keeps it open.
    for key in ("Escape", "Enter", "Escape", "Enter", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_function("history.state?.preview === 1")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.wait_for_function("history.state?.preview === undefined")
    page.go_back()
    expect(page).to_have_url(server + SEARCH)


@pytest.mark.parametrize("through_preview", [False, True])
def test_going_back_comes_to_the_same_place(page: Page, server: str, through_preview: bool) -> None:
    """Also if the browser has not kept the page, as here: Playwright asks it not to."""
    page.set_viewport_size({"width": 400, "height": 300})
    page.goto(server + SEARCH + "?_size=2")
    pictures = page.locator(".image-search-picture")
    expect(pictures).to_have_count(8)
    pictures.nth(6).focus()
    name = pictures.nth(6).get_by_role("img").get_attribute("alt")
    top = page.evaluate("scrollY")
    assert top > 0
    if through_preview:
        page.keyboard.press("Enter")
        page.get_by_role("dialog").locator(".image-search-name").click()
    else:
        page.locator(".image-search-name").nth(6).press("Enter")
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    page.go_back()
    expect(pictures).to_have_count(8)
    page.wait_for_function("top => scrollY === top", arg=top)
    if through_preview:
        expect(page.get_by_role("dialog").get_by_role("img")).to_have_attribute("alt", name)
        page.keyboard.press("Escape")
    expect(pictures.nth(6)).to_be_focused()


def test_the_page_of_an_image_leads_back_to_its_place(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 400, "height": 300})
    page.goto(server + SEARCH + "/5?_size=3&_position=6")
    page.get_by_role("link", name="all images").click()
    expect(page.get_by_role("img", name="purple.jpg")).to_be_in_viewport()
    # From there it goes on.
    expect(page.locator(".image-search-picture")).to_have_count(5)
    page.get_by_role("link", name="Pictures before these").click()
    expect(page.locator(".image-search-picture")).to_have_count(8)


def test_a_later_page_stays_alone_and_leads_back(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red&_size=3&_next=3")
    expect(page.get_by_text("4 to 6")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.locator(".image-search-picture")).to_have_count(3)
    page.get_by_role("link", name="Previous page").click()
    expect(first_picture(page)).to_have_attribute("alt", "red.jpg")


def test_years_are_brushed(page: Page, server: str) -> None:
    page.goto(server + SEARCH)
    bars = page.locator(".image-search-years a")
    first, last = bars.first.bounding_box(), bars.last.bounding_box()
    page.mouse.move(first["x"] + 2, first["y"] + 5)
    page.mouse.down()
    page.mouse.move(last["x"] + last["width"] - 2, last["y"] + 5, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"\?taken_at__gte=20\d\d&taken_at__lt=20\d\d$"))
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(3)


def test_menus_open_one_at_a_time_and_close(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red")
    opened = page.locator(".image-search-menu[open]")
    open_menu(page, "+ filter")
    open_menu(page, "closest first")
    expect(opened).to_have_count(1)
    page.keyboard.press("Escape")
    expect(opened).to_have_count(0)
    page.locator(".image-search-export > summary").click()
    page.locator(".image-search-summary").click()
    expect(opened).to_have_count(0)


def test_rows_are_justified_and_nothing_is_cropped(page: Page, server: str) -> None:
    """The pictures of a row are as high as each other, and fill its width; each has its own proportions."""
    page.set_viewport_size({"width": 700, "height": 900})
    # Not by date, as the last row of a month is not filled.
    page.goto(server + SEARCH + "?_sort=id")
    page.wait_for_load_state("networkidle")
    boxes = page.eval_on_selector_all(
        ".image-search-grid img",
        "all => all.map(img => [img.getBoundingClientRect(), img.naturalWidth / img.naturalHeight])"
        ".map(([box, ratio]) => [box.top, box.right, box.width / box.height / ratio])",
    )
    tops = sorted({top for top, _, _ in boxes})
    width = page.locator(".image-search-grid").evaluate(
        "grid => grid.getBoundingClientRect().right"
    )
    assert len(tops) > 1
    for top in tops[:-1]:
        assert max(right for at, right, _ in boxes if at == top) == pytest.approx(width, abs=1)
    assert all(ratio == pytest.approx(1, abs=0.02) for _, _, ratio in boxes)


@pytest.mark.parametrize(("width", "most"), [(1400, 200), (390, 220)])
def test_the_first_picture_is_near_the_top(page: Page, server: str, width: int, most: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    # Also with chips and facets.
    for search in ("?q=red", "?taken_at__gte=2000&camera_make=Canon&_facet=camera_model"):
        page.goto(server + SEARCH + search)
        assert page.locator(".image-search-picture").first.bounding_box()["y"] <= most


def test_the_facets_of_a_phone_open_beside_the_heading(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(server + SEARCH + "?_facet=camera_model")
    opener = page.locator("summary", has_text="Narrow down")
    for other in (".image-search-summary", ".image-search-export > summary"):
        box, beside = opener.bounding_box(), page.locator(other).bounding_box()
        assert abs(box["y"] + box["height"] / 2 - beside["y"] - beside["height"] / 2) < 6
        assert box["x"] >= beside["x"] + beside["width"] or beside["x"] >= box["x"] + box["width"]
    opener.click()
    expect(page.get_by_role("link", name="NIKON")).to_be_visible()


def test_a_narrow_picture_shows_its_name(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(server + SEARCH)
    card = page.locator(".image-search-grid > [data-key]").first
    card.evaluate(
        "card => { card.style.flex = '0 0 70px'; card.style.setProperty('--ratio', 0.66) }"
    )
    card.locator(".image-search-picture").focus()
    name = card.locator(".image-search-name").bounding_box()
    assert name["y"] >= card.bounding_box()["y"]


def test_a_finger_opens_a_picture_with_all_that_is_written_of_it(
    browser: Browser, server: str
) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(server + SEARCH + "?q=red")
    ring = page.locator(".image-select-tick").first
    assert 0 < ring.evaluate("ring => Number(getComputedStyle(ring).opacity)") < 1
    assert ring.bounding_box()["width"] >= 24
    page.locator(".image-search-picture").first.tap()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".image-search-caption")).to_contain_text("red.jpg")
    expect(dialog.get_by_role("link", name="More like red.jpg")).to_be_visible()
    dialog.get_by_role("button", name="Close").tap()
    expect(dialog).to_be_hidden()
    expect(page.locator(".image-search-caption").first).to_have_css("opacity", "0")
    context.close()


def test_a_finger_goes_through_the_previews_and_closes_them(browser: Browser, server: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(server + SEARCH + "?q=red")
    picture = page.locator(".image-search-picture").first
    picture.tap()
    dialog = page.get_by_role("dialog")
    shown = dialog.get_by_role("img")
    expect(shown).to_have_attribute("alt", "red.jpg")
    swipe = finger(page)
    second = page.locator(".image-search-picture img").nth(1).get_attribute("alt")
    swipe((300, 300), (100, 310))
    expect(shown).to_have_attribute("alt", second)
    swipe((100, 300), (300, 290))
    expect(shown).to_have_attribute("alt", "red.jpg")
    swipe((200, 200), (210, 500))
    expect(dialog).to_be_hidden()
    context.close()


def test_a_click_or_a_key_looks_closer_at_a_preview(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red")
    page.locator(".image-search-picture").first.click()
    shown = page.get_by_role("dialog").get_by_role("img")
    small = shown.bounding_box()["width"]
    shown.click(position={"x": 5, "y": 5})
    expect(shown).to_have_css("width", "2400px")
    page.keyboard.press("z")
    expect(shown).to_have_css("width", f"{small:g}px")
    page.keyboard.press("ArrowRight")
    expect(shown).to_have_css("width", f"{small:g}px")


def test_keys(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("ArrowDown")
    pictures = page.locator(".image-search-picture")
    expect(pictures.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(pictures.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(pictures.nth(7)).to_be_focused()
    page.keyboard.press("ArrowUp")
    # The one above it, in the row before.
    above = page.evaluate(
        "[...document.querySelectorAll('.image-search-picture')].map(each => "
        "each.getBoundingClientRect().top)"
    )
    focused = page.evaluate("document.activeElement.getBoundingClientRect().top")
    assert focused == max(top for top in above if top < above[7])
    page.keyboard.press("Home")
    expect(pictures.nth(0)).to_be_focused()


def test_the_tab_key_stops_once_at_each_facet_and_arrows_go_on(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?_facet=camera_model&_facet=filename&_facet_year=taken_at")
    page.locator(".image-search-export > summary").focus()
    stops = []
    for _ in range(4):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate(
                "document.activeElement.closest('.image-search-facet, .image-search-grid')?.id"
                " ?? document.activeElement.textContent"
            )
        )
    # And then the facets that are suggested.
    assert stops == ["facet-filename", "facet-camera_model", "facet-taken_at", "folder"]
    box = page.locator("#facet-filename")
    page.locator("#facet-filename a").nth(1).focus()
    page.keyboard.press("ArrowDown")
    expect(box.get_by_role("link").nth(2)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    expect(box.get_by_role("link").nth(1)).to_be_focused()


def test_the_month_in_view_is_told_while_a_list_by_date_is_scrolled(
    page: Page, server: str
) -> None:
    page.set_viewport_size({"width": 400, "height": 300})
    page.goto(server + SEARCH)
    month = page.locator(".image-search-month")
    expect(month).to_have_css("opacity", "0")
    page.locator(".image-search-picture").first.scroll_into_view_if_needed()
    page.mouse.wheel(0, 60)
    expect(month).to_have_text(re.compile("^May 202[01]$"))
    expect(month).to_have_css("opacity", "1")
    page.goto(server + SEARCH + "?q=red")
    expect(month).to_have_count(0)


def test_the_skip_link_leads_to_the_pictures(page: Page, server: str) -> None:
    page.goto(server + SEARCH)
    page.get_by_role("link", name="Skip to the pictures").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(".image-search-picture").first).to_be_focused()


def test_weaker_matches_are_folded_until_a_key_or_a_click(page: Page, server: str) -> None:
    """Of eight pictures none is folded, so the page is as it is of many."""

    def folded(route) -> None:
        response = route.fetch()
        html = re.sub(
            r'<h3 class="image-search-line">Weaker matches</h3>(.*?</ol>)',
            r'<details class="image-search-weaker"><summary>Weaker matches</summary>\1</details>',
            response.text(),
            flags=re.S,
        )
        route.fulfill(response=response, body=html)

    page.route(f"{server}{SEARCH}?q=red", folded)
    page.goto(f"{server}{SEARCH}?q=red")
    pictures = page.locator(".image-search-picture")
    expect(page.locator(".image-search-summary")).to_have_text('1 of 8 images matches "red"')
    expect(pictures.nth(0)).to_be_visible()
    expect(pictures.nth(1)).to_be_hidden()
    pictures.nth(0).focus()
    page.keyboard.press("ArrowDown")
    expect(pictures.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(pictures.nth(1)).to_be_visible()
    expect(pictures.nth(1)).to_be_focused()
    page.get_by_text("Weaker matches").click()
    expect(pictures.nth(1)).to_be_hidden()


def test_nothing_looks_like_that(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}?q=red&filename=blue.jpg")
    expect(page.get_by_text("No clear match.")).to_be_visible()
    expect(page.get_by_role("heading", name="The nearest:")).to_be_visible()
    expect(first_picture(page)).to_have_attribute("alt", "blue.jpg")
    open_menu(page, "closest first")
    page.get_by_label("matches only").check()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("No image matches.")).to_be_visible()


def test_the_preview_shows_where_text_is(page: Page, server: str, database: Path) -> None:
    write_in_picture(database, 6, "No entry")
    page.goto(f"{server}{SEARCH}?q=red")
    page.locator(".image-search-picture").first.click()
    preview = page.get_by_role("dialog")
    expect(preview.get_by_text("No entry", exact=True).last).to_be_visible()
    picture = preview.get_by_role("img").bounding_box()
    box = preview.locator("rect").bounding_box()
    assert picture is not None
    assert box is not None
    # The line that is drawn is wider than its rectangle.
    assert box["x"] - picture["x"] == pytest.approx(picture["width"] / 4, abs=3)
    assert box["y"] - picture["y"] == pytest.approx(picture["height"] / 4, abs=3)
    assert box["width"] == pytest.approx(picture["width"] / 2, abs=3)


def test_the_preview(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red")
    page.locator(".image-search-picture").first.click()
    preview = page.get_by_role("dialog")
    expect(preview).to_be_visible()
    expect(preview.get_by_role("img")).to_have_attribute("alt", "red.jpg")
    assert preview.get_by_role("img").evaluate("img => img.complete && img.naturalWidth") == 80
    # Small pictures are enlarged to twice their size.
    assert preview.get_by_role("img").bounding_box()["width"] == 160
    expect(preview.locator(".image-search-tools span")).to_have_text("1 of 1")
    select = preview.get_by_role("button", name="Select", exact=True)
    select.click()
    expect(select).to_have_attribute("aria-pressed", "true")
    expect(page.locator("li.selected img")).to_have_attribute("alt", "red.jpg")
    # No originals are shown here.
    expect(preview.get_by_role("link", name="Download")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(preview.get_by_role("img")).not_to_have_attribute("alt", "red.jpg")
    preview.get_by_role("button", name="Previous picture").click()
    expect(preview.get_by_role("img")).to_have_attribute("alt", "red.jpg")
    page.keyboard.press("ArrowLeft")
    expect(preview.get_by_role("img")).to_have_attribute("alt", "red.jpg")
    page.keyboard.press("Escape")
    expect(preview).to_be_hidden()
    expect(page.locator(".image-search-picture").first).to_be_focused()
    page.keyboard.press("Enter")
    preview.get_by_role("link", name="More like red.jpg").click()
    expect(page.get_by_role("searchbox")).to_have_value("red + #6")


def test_the_preview_of_a_picture_whose_size_is_not_known(page: Page, server: str) -> None:
    # As a table without sizes has it.
    guessed = re.compile(r'width="\d+" height="\d+"( decoding)')

    def answer(route: Route) -> None:
        html = guessed.sub(r'width="4" height="3"\1', route.fetch().text())
        route.fulfill(body=html, content_type="text/html")

    page.route("**/images?q=red", answer)
    page.goto(server + SEARCH + "?q=red")
    page.locator(".image-search-picture").first.click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_have_css("width", "160px")


@pytest.fixture
def answering(page: Page, server: str) -> list:
    """An upload endpoint that says `#6`, and what it was sent."""
    sent: list = []

    def answer(route) -> None:
        request = route.request
        if request.method == "GET":
            route.fulfill(json={"csrftoken": "a-token"})
        else:
            sent.append((request.post_data_buffer, request.headers.get("x-csrftoken")))
            route.fulfill(json={"query": "#6"})

    page.route(f"{server}{SEARCH}/upload", answer)
    return sent


def test_a_chosen_picture_becomes_a_query(
    page: Page, server: str, folder: Path, answering: list
) -> None:
    page.goto(server + SEARCH + "?q=blue&_size=5&_next=5")
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Search by a picture").click()
    chosen.value.set_files(folder / "red.jpg")
    expect(page.get_by_role("searchbox")).to_have_value("#6")
    assert answering == [((folder / "red.jpg").read_bytes(), "a-token")]
    assert "_size=5" in page.url
    assert "_next" not in page.url


def test_an_uploaded_picture_finds_itself(new_page: Page, server: str, folder: Path) -> None:
    page = new_page
    pytest.importorskip("datasette_image_search.web.media.uploads")
    page.goto(server + SEARCH)
    page.locator(".image-search-file").set_input_files(folder / "red.jpg")
    expect(page).to_have_url(re.compile(r"\?q=vec%3A"))
    expect(first_picture(page)).to_have_attribute("alt", "red.jpg")
    expect(page.locator(".image-search-summary")).to_have_text("2 of 8 images match your picture")

    # The picture is a chip, as small as it is shown, and words are added to it.
    box, chips = page.get_by_role("searchbox"), page.locator(".image-search-chips li")
    expect(box).to_have_value("")
    expect(chips).to_have_text(re.compile("your picture"))
    expect(chips.locator("img")).to_have_js_property("naturalWidth", 64)
    box.fill("- dark")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page).to_have_url(re.compile(r"\?q=vec%3A[\w-]+\+-\+dark$"))
    expect(box).to_have_value("- dark")
    expect(chips).to_have_count(2)
    expect(chips.first.locator("img")).to_be_visible()

    # Another tab has not seen the picture.
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".image-search-chips svg")).to_be_visible()
    expect(other.locator(".image-search-chips img")).to_have_count(0)
    other.get_by_role("link", name="Search without your picture").click()
    expect(other).to_have_url(re.compile(r"\?q=-\+dark$"))


def test_a_time_in_the_words_becomes_a_filter_when_it_is_clicked(page: Page, server: str) -> None:
    page.goto(server + SEARCH)
    page.get_by_role("searchbox").fill("red in 2021")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(8)
    page.get_by_role("link", name="only 2021?").click()
    expect(page).to_have_url(f"{server}{SEARCH}?q=red&taken_at__gte=2021&taken_at__lt=2022")
    expect(page.get_by_role("searchbox")).to_have_value("red")
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(2)
    expect(page.get_by_role("link", name="only 2021?")).to_have_count(0)


def test_an_order_is_chosen_in_the_form(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red")
    open_menu(page, "closest first")
    page.get_by_label("Order").select_option("by filename")
    page.get_by_label("descending").check()
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(f"{server}{SEARCH}?q=red&_sort_desc=filename")
    # Of the matches, if no number is given.
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(1)
    open_menu(page, "by filename")
    page.get_by_label("of the closest").fill("8")
    page.get_by_role("button", name="Apply").click()
    expect(first_picture(page)).to_have_attribute("alt", "yellow.jpg")
    open_menu(page, "by filename")
    page.get_by_label("of the closest").fill("2")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(2)
    expect(page.locator(".image-search-summary")).to_contain_text(
        'matches "red", the 2 closest, sorted'
    )
    open_menu(page, "by filename")
    page.get_by_label("Order").select_option("closest first")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(f"{server}{SEARCH}?q=red")
    expect(first_picture(page)).to_have_attribute("alt", "red.jpg")
    page.go_back()
    expect(page.get_by_label("Order")).to_be_enabled()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(
    page: Page, server: str, answering: list, event: str
) -> None:
    page.goto(server + SEARCH)
    page.evaluate(
        """event => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["bytes"], "x.png", { type: "image/png" }));
            const bringing = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(event === "drop"
                ? new DragEvent("drop", { ...bringing, dataTransfer: transfer })
                : new ClipboardEvent("paste", { ...bringing, clipboardData: transfer }));
        }""",
        event,
    )
    expect(page.get_by_role("searchbox")).to_have_value("#6")
    assert answering == [(b"bytes", "a-token")]


def test_a_file_that_is_no_picture_is_not_sent(
    page: Page, server: str, tmp_path: Path, answering: list
) -> None:
    page.goto(server + SEARCH)
    (tmp_path / "notes.txt").write_text("no picture")
    page.locator(".image-search-file").set_input_files(tmp_path / "notes.txt")
    expect(page.get_by_role("status").first).to_have_text("notes.txt is not a picture or film.")
    assert answering == []


def test_facets_that_were_too_slow_come_by_themselves(page: Page, server: str) -> None:
    """The page says that they are missing, as it does when they are; the rest is as always."""

    def without_facets(route) -> None:
        response = route.fetch()
        later = f'<aside class="image-search-facets" data-later="{SEARCH}?_facet=camera_model">'
        html = re.sub(r"<aside[^>]*>.*?</aside>", f"{later}</aside>", response.text(), flags=re.S)
        route.fulfill(response=response, body=html)

    page.route(f"{server}{SEARCH}?q=red&_facet=camera_model", without_facets)
    page.goto(f"{server}{SEARCH}?q=red&_facet=camera_model")
    expect(page.locator("#facet-camera_model")).to_contain_text("Canon")


def test_without_javascript(browser: Browser, server: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server + SEARCH)
    page.get_by_role("searchbox", name="Search for").fill("red")
    open_menu(page, "+ filter")
    page.get_by_label("Column of a new filter").select_option("camera_model")
    page.get_by_label("Value of a new filter").fill("Canon")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".image-search-summary")).to_have_text(
        'None of 2 images where camera_model = "Canon" matches "red"'
    )
    expect(page.get_by_role("button", name="Search by a picture")).to_be_hidden()
    page.locator(".image-search-menu > summary[title='Medium pictures']").click()
    page.get_by_role("link", name="large").click()
    page.locator(".image-search-picture").first.click()
    expect(page).to_have_url(re.compile(r"/images/\d\?q=red.*&_position=1$"))
    page.get_by_role("link", name="next").click()
    expect(page).to_have_url(re.compile(r"&_position=2$"))
    context.close()


def test_all_pictures_load(new_page: Page, server: str) -> None:
    page = new_page
    page.goto(server + SEARCH + "?q=red")
    page.wait_for_load_state("networkidle")
    widths = page.eval_on_selector_all(
        ".image-search-grid img", "pictures => pictures.map(picture => picture.naturalWidth)"
    )
    assert widths == [80] * 8


def test_nothing_moves_while_pictures_load(new_page: Page, server: str) -> None:
    page = new_page
    page.add_init_script(
        "window.shifted = 0; new PerformanceObserver(list => { for (const entry of "
        "list.getEntries()) window.shifted += entry.value; })"
        ".observe({ type: 'layout-shift', buffered: true });"
    )
    page.goto(server + SEARCH + "?q=red&_facet=folder")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.shifted") < 0.01


@pytest.mark.parametrize("widths", [(320, 390), (2560, 768)])
def test_nothing_sticks_out(page: Page, server: str, widths: tuple[int, int]) -> None:
    """As a page comes to a phone or a desk, and as it is when that is turned or made narrower."""
    query = "q=red+%2B+%236+-+0.5%3Adark&camera_make=Canon&_facet=camera_model&_facet=filename"
    for size in ("small", "medium", "large"):
        page.set_viewport_size({"width": widths[0], "height": 800})
        page.goto(f"{server}{SEARCH}?{query}&_pictures={size}")
        for width in widths:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1200)])
def test_nobody_is_kept_out(page_with_errors: Page, server: str, scheme: str, width: int) -> None:
    """What axe-core calls moderate or worse, within the page; the frame around is Datasette's."""
    page = page_with_errors
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    found = []
    for query in (
        "?q=red+-+%236&_facet=camera_model&camera_make=Canon",
        "?q=red&filename=blue.jpg",
        "?q=nope",
        "?_size=1",
        "/6?q=red&_position=1",
    ):
        page.goto(f"{server}{SEARCH}{query}")
        results = Axe().run(page, context="section.content")
        found += [
            (violation["id"], [node["html"] for node in violation["nodes"]])
            for violation in results.response["violations"]
            if violation["impact"] != "minor"
        ]
    assert found == []


def test_nothing_is_asked_of_another_host(new_page: Page, server: str) -> None:
    page = new_page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server + SEARCH + "?q=red")
    page.wait_for_load_state("networkidle")
    assert len(asked) > 8
    assert [url for url in asked if not url.startswith((server, "data:"))] == []
