"""The explorer with an embedded model, the tiny judge.

With SCREENSHOTS=docs/images it saves the screenshots for the documentation there (`make screenshots`), of the
default judge.
"""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from grm_service.profiles.catalog import load_catalog
from tests.faults.server import MARKUP
from tests.web.steps import fill, get, judge, record, view

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
PROFILE = load_catalog().profile("qwen-judge" if os.environ.get("SCREENSHOTS") else "smollm2-judge")
CLOSE = [
    ("Name a fruit.", "An apple.", "A pear."),
    ("What is good in the morning, tea or coffee?", "Tea.", "Coffee."),
    ("Write a line about rain.", "Rain drums on the roof.", "Rain falls softly on the town."),
]
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}


@pytest.fixture(scope="module")
def embedded(start_server, smollm):
    """The service with a real model."""
    return start_server("--profile", PROFILE.name)


def screenshot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(400)  # for fade-in animations
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_judge_review_and_search(visit, embedded):
    page = visit(embedded)
    page.get_by_label("Example").select_option("A conversation with a constitution")
    # Stopping early samples in waves, so samples arrive one after another on any machine.
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
    screenshot(page, "playground")

    verdict = record(page)
    stored = get(f"{embedded}/v1/verdicts/{verdict}")
    assert stored["verdict"]["model"] == PROFILE.model
    page.locator(".sample summary").first.click()
    sample = stored["verdict"]["samples"][0]
    page.locator(".sample").first.get_by_text("Raw output").click()
    expect(page.locator(".sample").first.locator(".raw .text")).to_have_text(
        sample["text"], use_inner_text=False
    )
    page.locator(".sample summary").first.click()
    page.evaluate("scrollTo(0, 0)")
    screenshot(page, "verdict")

    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Note").fill("As I would have judged.")
    page.get_by_role("button", name="Add review").click()
    expect(page.locator(".reviews")).to_contain_text("ann agrees")
    view(page, "Queue")
    expect(page.locator(f'a[href="#/verdicts/{verdict}"]')).to_have_count(0)
    page.goto(f"{embedded}/#/verdicts?reviewed=true")
    expect(page.locator(f'a[href="#/verdicts/{verdict}"]')).to_be_visible()


def test_hostile_text_stays_text(visit, embedded):
    page = visit(embedded)
    page.get_by_label("Example").select_option("A response that attacks the judge")
    page.get_by_label("Response A", exact=True).fill(MARKUP)
    judge(page, timeout_s=120)
    expect(page.locator(".votes .excerpt").first).to_have_text(MARKUP)
    record(page)
    expect(page.locator(".responses .text").first).to_have_text(MARKUP)
    assert page.evaluate("window.ran") is None
    assert page.locator("main").locator("script, img").count() == 0


def test_queue_on_every_screen(visit, embedded):
    """Also on a phone and with the dark colour scheme, for the screenshots."""
    page = visit(embedded)
    page.get_by_text("More options", exact=True).click()
    page.get_by_label("Scores").select_option("hard")  # on which the samples disagree
    for query, *responses in CLOSE:
        fill(page, query, *responses, k=4)
        judge(page, timeout_s=120)
    view(page, "Queue")
    priorities = [float(text) for text in page.locator("td[data-name=Priority]").all_inner_texts()]
    assert priorities, "the judge was sure of everything"
    assert priorities == sorted(priorities, reverse=True)
    assert min(priorities) > 0
    screenshot(page, "queue")
    href = page.locator("a.query").first.get_attribute("href")
    for name, options in {"phone": PHONE, "dark": {"color_scheme": "dark"}}.items():
        other = visit(embedded, href, **options)
        expect(other.get_by_role("heading", level=1)).to_contain_text("vd_")
        assert other.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if name == "phone":
            other.locator(".summary").evaluate("it => it.scrollIntoView()")
        screenshot(other, name)
