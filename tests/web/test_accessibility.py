"""Accessibility of the explorer: keyboard, small screens, contrast in both colour schemes, reduced motion."""

import pytest
from playwright.sync_api import expect

from tests.web.steps import fill, get, judge, load, record
from tests.web.test_explorer import VIEWS

LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 12
NAME = "it => (it.ariaLabel || it.labels?.[0]?.textContent || it.textContent).trim()"


def focused(page):
    """Return the name of the focused element; check that the focus is visible."""
    handle = page.evaluate_handle("document.activeElement")
    assert handle.evaluate("it => getComputedStyle(it).outlineStyle") != "none"
    return handle.evaluate(NAME)


def tab_to(page, name):
    """Press Tab until an element whose name begins with `name` has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page).startswith(name):
            return
    raise AssertionError(f"{name} cannot be reached with Tab")


def test_playground_by_keyboard(visit, url):
    page = visit(url)
    page.get_by_role("button", name="Judge", exact=True).wait_for()
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    tab_to(page, "Turn 1")
    page.keyboard.press("Control+A")
    page.keyboard.type("Name a bird.")
    tab_to(page, "Add a response")
    page.keyboard.press("Enter")
    assert focused(page) == "Response C"
    page.keyboard.type("A robin.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".summary")).to_be_visible()
    tab_to(page, "Sample 0")
    page.keyboard.press("Enter")
    expect(page.locator(".sample").first).to_have_attribute("open", "")
    while focused(page) != "Open the record":
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    verdict = page.get_by_role("heading", level=1).locator("code").inner_text()
    assert get(f"{url}/v1/verdicts/{verdict}")["request"]["responses"][2] == "A robin."


def test_new_view_takes_the_focus(visit, url):
    page = visit(url)
    page.get_by_role("link", name="Queue").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title("Queue · grm-service")
    expect(page.get_by_role("link", name="Queue")).to_have_attribute("aria-current", "page")
    expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("name", [*VIEWS, "verdict"])
def test_control_names_and_headings(visit, url, name):
    page = visit(url)
    judge(page)
    path = f"verdicts/{record(page)}" if name == "verdict" else name
    load(page, url, path)
    assert page.get_by_role("heading", level=1).count() == 1
    controls = "[...document.querySelectorAll('input, select, textarea, button, a')]"
    assert page.evaluate(f"{controls}.filter(it => !({NAME})(it)).map(it => it.outerHTML)") == []


@pytest.mark.parametrize("width", [320, pytest.param(360, marks=pytest.mark.slow)])
def test_no_horizontal_scrolling(visit, url, width):
    page = visit(url, viewport={"width": width, "height": 740}, has_touch=True)
    fill(page, LONG, LONG, "<b>" + LONG, "", k=16)
    judge(page)
    page.locator(".sample summary").first.click()
    widths = {"playground after a verdict": page.evaluate("document.documentElement.scrollWidth")}
    verdict = record(page)
    for path in (f"verdicts/{verdict}", *VIEWS):
        load(page, url, path)
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert {path: actual for path, actual in widths.items() if actual > width} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(visit, url, scheme):
    """WCAG AA: a contrast of at least 4.5, from the colours that the browser computes."""
    page = visit(url, color_scheme=scheme)
    fill(page, "Which of the twins?", "the same", "the same")
    judge(page)
    record(page)
    low = page.evaluate(CONTRAST)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(x) for x in background[4:-1].split(",")) < 200) == (scheme == "dark")
    assert low == []


CONTRAST = """() => {
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const solid = (it) => {
        for (; it; it = it.parentElement) {
            const [r, g, b, a = 1] = parts(getComputedStyle(it).backgroundColor);
            if (a === 1) return [r, g, b];
        }
    };
    const light = (rgb) => {
        const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = rgb.map((x) => linear(x / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const texts = [...document.querySelectorAll("body *")].filter((it) => it.checkVisibility() && !it.disabled
        && [...it.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim()));
    return texts.map((it) => {
        const [a, b] = [light(parts(getComputedStyle(it).color).slice(0, 3)), light(solid(it))];
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), it.className, it.textContent.slice(0, 30)];
    }).filter(([contrast]) => contrast < 4.5);
}"""


def test_reduced_motion(visit, url):
    page = visit(url, reduced_motion="reduce")
    judge(page)
    assert page.locator(".sample").first.evaluate("it => getComputedStyle(it).animationName") == "none"
