"""What a user does on the page, and what the server says beside it."""

import json
import urllib.request

from playwright.sync_api import expect


def fill(page, query, *responses, k=None):
    """Writes a request into the playground."""
    page.get_by_label("Turn 1", exact=True).fill(query)
    while page.locator(".response textarea").count() < len(responses):
        page.get_by_role("button", name="Add a response").click()
    for letter, text in zip("ABCDEFGH", responses, strict=False):
        page.get_by_label(f"Response {letter}", exact=True).fill(text)
    if k is not None:
        page.get_by_label("Samples (k)").fill(str(k))


def judge(page, timeout_s=20):
    """Presses the button and waits for the verdict."""
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(page.locator(".summary")).to_be_visible(timeout=timeout_s * 1000)


def record(page):
    """Opens the verdict's record; its id."""
    page.get_by_role("link", name="Open the record").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("vd_")
    return page.get_by_role("heading", level=1).locator("code").inner_text()


def view(page, name):
    """Goes to a view by the navigation."""
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def at(page, url, path):
    """Opens a view by its address, anew."""
    page.goto(f"{url}/#/{path}")
    page.reload()
    page.locator("main").get_by_role("heading", level=1).wait_for()


def get(url):
    with urllib.request.urlopen(url, timeout=20) as reply:
        return json.load(reply)
