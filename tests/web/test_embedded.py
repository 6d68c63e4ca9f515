"""The explorer on the embedded default, as a newcomer meets it.

With SCREENSHOTS=docs/images it leaves the pictures of the documentation there (`make screenshots`).
"""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.faults.server import MARKUP
from tests.web.steps import get, judge, record, view

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}


@pytest.fixture(scope="module")
def embedded(serving, smollm):
    """The default service, with the real default model."""
    return serving()


def picture(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(400)  # for what fades in
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_an_example_is_judged_watched_reviewed_and_found_again(visit, embedded):
    page = visit(embedded)
    page.get_by_label("Example").select_option("A conversation, under a constitution")
    # In waves, so that there is something to watch whatever the machine.
    page.get_by_label("Stop early").select_option("exact")
    page.evaluate("""() => {
        window.counts = [];
        new MutationObserver(() => window.counts.push(document.querySelectorAll(".sample").length))
            .observe(document.querySelector(".result"), {subtree: true, childList: true});
    }""")
    judge(page, timeout_s=120)
    counts = sorted(set(page.evaluate("window.counts")))
    assert len(counts) > 2, counts
    page.evaluate("scrollTo(0, 0)")
    picture(page, "playground")

    verdict = record(page)
    kept = get(f"{embedded}/v1/verdicts/{verdict}")
    assert kept["verdict"]["model"] == "grm-service/smollm2-judge"
    page.locator(".sample summary").first.click()
    written = kept["verdict"]["samples"][0]
    page.locator(".sample").first.get_by_text("As the model wrote it").click()
    expect(page.locator(".sample").first.locator(".raw .text")).to_have_text(
        written["text"], use_inner_text=False
    )
    page.locator(".sample summary").first.click()
    page.evaluate("scrollTo(0, 0)")
    picture(page, "verdict")

    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Note").fill("As I would have judged.")
    page.get_by_role("button", name="Add this review").click()
    expect(page.locator(".reviews")).to_contain_text("ann agrees")
    view(page, "Queue")
    expect(page.locator(f'a[href="#/verdicts/{verdict}"]')).to_have_count(0)
    page.goto(f"{embedded}/#/verdicts?reviewed=true")
    expect(page.locator(f'a[href="#/verdicts/{verdict}"]')).to_be_visible()


def test_what_attacks_the_judge_or_the_page_is_text(visit, embedded):
    page = visit(embedded)
    page.get_by_label("Example").select_option("A response that attacks the judge")
    page.get_by_label("Response A", exact=True).fill(MARKUP)
    judge(page, timeout_s=120)
    expect(page.locator(".votes .what").first).to_have_text(MARKUP)
    record(page)
    expect(page.locator(".responses .text").first).to_have_text(MARKUP)
    assert page.evaluate("window.ran") is None
    assert page.locator("main").locator("script, img").count() == 0


def test_the_queue_fills_with_what_is_worth_a_look(visit, embedded):
    """And the same pages on a phone and in the dark, for the documentation."""
    page = visit(embedded)
    for i in range(3):
        page.get_by_label("Example").select_option(index=1 + i)
        judge(page, timeout_s=120)
    view(page, "Queue")
    worth = [float(text) for text in page.locator("td[data-name=Worth]").all_inner_texts()]
    assert worth, "an untrained judge agrees with itself on everything"
    assert worth == sorted(worth, reverse=True)
    assert min(worth) > 0
    picture(page, "queue")
    href = page.locator("a.query").first.get_attribute("href")
    for name, options in {"phone": PHONE, "dark": {"color_scheme": "dark"}}.items():
        other = visit(embedded, href, **options)
        expect(other.get_by_role("heading", level=1)).to_contain_text("vd_")
        assert other.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if name == "phone":
            other.locator(".summary").evaluate("it => it.scrollIntoView()")
        picture(other, name)
