"""User actions on the page, and requests to the server behind it."""

import json
import urllib.request

from playwright.sync_api import expect


def fill(page, query, *responses, k=None):
    """Fill in the playground form."""
    page.get_by_label("Turn 1", exact=True).fill(query)
    while page.locator(".response textarea").count() < len(responses):
        page.get_by_role("button", name="Add a response").click()
    for letter, text in zip("ABCDEFGH", responses, strict=False):
        page.get_by_label(f"Response {letter}", exact=True).fill(text)
    if k is not None:
        page.get_by_label("Samples (k)").fill(str(k))


def judge(page, timeout_s=20):
    """Click Judge and wait for the verdict."""
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(page.locator(".summary")).to_be_visible(timeout=timeout_s * 1000)


def record(page):
    """Open the record of the verdict and return its id."""
    page.get_by_role("link", name="Open the record").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("vd_")
    return page.get_by_role("heading", level=1).locator("code").inner_text()


def view(page, name):
    """Go to a view through the navigation."""
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def load(page, url, path):
    """Load a view by its address."""
    page.goto(f"{url}/#/{path}")
    page.reload()
    page.locator("main").get_by_role("heading", level=1).wait_for()


def get(url):
    with urllib.request.urlopen(url, timeout=60) as reply:
        return json.load(reply)
