"""The explorer's view of a lineage, in a real browser."""

import pytest
from playwright.sync_api import expect

from tests.faults.server import MARKUP
from tests.faults.test_faults import served
from tests.web.steps import get, view
from tests.web.test_everybody import CONTRAST, tab_to
from tests.web.test_explorer import HOSTILE


def improve(page, query="Name a prime.", **fields):
    """Fills the form, presses the button and waits for the end."""
    view(page, "Improve")
    page.get_by_label("What is asked").fill(query)
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " ")).fill(str(value))
    with page.expect_response("**/v1/improve") as told:
        page.get_by_role("button", name="Improve", exact=True).click()
    expect(page.locator(".result .summary")).to_be_visible()
    return told.value


def test_the_lineage_is_a_tree_with_the_rewards_that_the_trail_has(visit, url):
    page = visit(url)
    improve(page, Drafts_at_first=3, **{"Samples_(k)": 4})
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


def test_what_speaks_against_the_gain_stands_above_the_answer(visit, url):
    page = visit(url)
    improve(page)
    head = page.locator(".result .summary")
    expect(head).to_contain_text("same model")
    expect(head).to_contain_text("rates its own answers")
    expect(head).to_contain_text("Second opinion")


def test_a_draft_of_ones_own_is_the_original(visit, url):
    page = visit(url)
    improve(page, Your_own_draft="Eleven.", Drafts_at_first=0, Rounds_at_most=1)
    original = page.locator('.tree > li[data-draft="0"]')
    expect(original.locator(".text").first).to_have_text("Eleven.")
    assert page.locator(".tree > li").count() == 1
    assert original.locator("li").count() >= 1


def test_it_needs_no_mouse(visit, url):
    page = visit(url)
    view(page, "Improve")
    tab_to(page, "What is asked")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".result .summary")).to_be_visible()
    tab_to(page, "Draft 0")
    page.keyboard.press("Enter")
    expect(page.locator(".draft").first).to_have_attribute("open", "")


def test_a_budget_that_does_not_do_is_a_problem_that_says_what_does(visit, url):
    page = visit(url)
    view(page, "Improve")
    page.get_by_label("Tokens generated").fill("10")
    page.get_by_role("button", name="Improve", exact=True).click()
    problem = page.get_by_role("alert").filter(has_text="bad_request")
    expect(problem).to_contain_text("at least")


def test_it_can_be_cancelled(visit):
    with served() as (url, _):
        page = visit(url)
        view(page, "Improve")
        page.get_by_label("What is asked").fill("please hang")
        page.get_by_role("button", name="Improve", exact=True).click()
        expect(page.get_by_role("status").filter(has_text="The policy writes")).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("status").filter(has_text="Cancelled after 0 drafts")).to_be_visible()


def test_hostile_text_stays_text(visit):
    with served() as (url, _):
        page = visit(url)
        improve(page, f"please markup {HOSTILE}", Your_own_draft=HOSTILE)
        for summary in page.locator(".draft > summary").all():
            summary.click()
        expect(page.locator(".tree")).to_contain_text(HOSTILE)
        expect(page.locator(".tree")).to_contain_text(MARKUP)
        assert page.locator("main").locator("script, img, b").count() == 0
        assert page.evaluate("window.ran") is None


@pytest.mark.parametrize("width", [320, 360])
def test_a_tree_does_not_scroll_sideways_on_a_phone(visit, url, width):
    page = visit(url, viewport={"width": width, "height": 740}, has_touch=True)
    improve(page, "Donaudampfschifffahrt" * 20, Your_own_draft="kapitän" * 90, Rounds_at_most=3)
    for summary in page.locator(".draft > summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_it_stands_out(visit, url, scheme):
    page = visit(url, color_scheme=scheme)
    improve(page)
    page.locator(".draft > summary").first.click()
    assert page.evaluate(CONTRAST) == []
