"""The improve view of the explorer, in a real browser."""

import pytest
from playwright.sync_api import expect

from tests.faults.server import MARKUP
from tests.web.steps import get, view
from tests.web.test_accessibility import CONTRAST, tab_to
from tests.web.test_explorer import HOSTILE


def improve(page, query="Name a prime.", **fields):
    """Fill in the form, click Improve and wait for the result."""
    view(page, "Improve")
    page.get_by_label("Prompt").fill(query)
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " ")).fill(str(value))
    with page.expect_response("**/v1/improve") as response:
        page.get_by_role("button", name="Improve", exact=True).click()
    expect(page.locator(".result .summary")).to_be_visible()
    return response.value


def test_lineage_matches_the_trail(visit, url):
    page = visit(url)
    improve(page, Initial_drafts=3, **{"Samples_(k)": 4})
    tree = page.locator(".tree")
    first, nested = tree.locator("> li"), tree.locator("li li")
    assert first.count() == 3
    assert nested.count() >= 2
    expect(tree.locator("li.best")).to_have_count(1)
    expect(first.first).to_contain_text("original")
    draft = nested.first
    draft.locator("summary").first.click()
    expect(draft).to_contain_text("Revises draft")
    assert draft.locator(".sample").count() == 2
    link = draft.get_by_role("link", name="verdict of round 1")
    verdict = get(f"{url}/v1/verdicts/{link.get_attribute('href').rpartition('/')[2]}")
    text = draft.locator(".body > .text").first.inner_text()
    reward = verdict["verdict"]["rewards"][verdict["request"]["responses"].index(text)]
    expect(draft.locator(".reward strong").first).to_have_text(f"{reward:.2f}")
    assert verdict["route"] == "improve"


def test_caveats_above_the_answer(visit, url):
    page = visit(url)
    improve(page)
    head = page.locator(".result .summary")
    expect(head).to_contain_text("same model")
    expect(head).to_contain_text("rates its own answers")
    expect(head).to_contain_text("Second opinion")


def test_own_draft_is_the_original(visit, url):
    page = visit(url)
    improve(page, Your_own_draft="Eleven.", Initial_drafts=0, Max_rounds=1)
    original = page.locator('.tree > li[data-draft="0"]')
    expect(original.locator(".text").first).to_have_text("Eleven.")
    assert page.locator(".tree > li").count() == 1
    assert original.locator("li").count() >= 1


def test_improve_by_keyboard(visit, url):
    page = visit(url)
    view(page, "Improve")
    tab_to(page, "Prompt")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".result .summary")).to_be_visible()
    tab_to(page, "Draft 0")
    page.keyboard.press("Enter")
    expect(page.locator(".draft").first).to_have_attribute("open", "")


def test_too_small_budget(visit, url):
    page = visit(url)
    view(page, "Improve")
    page.get_by_label("Tokens generated").fill("10")
    page.get_by_role("button", name="Improve", exact=True).click()
    problem = page.get_by_role("alert").filter(has_text="bad_request")
    expect(problem).to_contain_text("at least")


def test_cancel(visit, faulty):
    page = visit(faulty)
    view(page, "Improve")
    page.get_by_label("Prompt").fill("please hang")
    page.get_by_role("button", name="Improve", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="The policy is writing")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status").filter(has_text="Cancelled after 0 drafts")).to_be_visible()


def test_hostile_text_stays_text(visit, faulty):
    page = visit(faulty)
    improve(page, f"please markup {HOSTILE}", Your_own_draft=HOSTILE)
    for summary in page.locator(".draft > summary").all():
        summary.click()
    expect(page.locator(".tree")).to_contain_text(HOSTILE)
    expect(page.locator(".tree")).to_contain_text(MARKUP)
    assert page.locator("main").locator("script, img, b").count() == 0
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize("width", [320, pytest.param(360, marks=pytest.mark.slow)])
def test_no_horizontal_scrolling(visit, url, width):
    page = visit(url, viewport={"width": width, "height": 740}, has_touch=True)
    improve(page, "Donaudampfschifffahrt" * 20, Your_own_draft="kapitän" * 90, Max_rounds=3)
    for summary in page.locator(".draft > summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(visit, url, scheme):
    page = visit(url, color_scheme=scheme)
    improve(page)
    page.locator(".draft > summary").first.click()
    assert page.evaluate(CONTRAST) == []
