"""The explorer in a real browser, with a real server and the scripted engine."""

import json
import sqlite3
from contextlib import closing

import pytest
from playwright.sync_api import expect

from grm_service.serving.keys import add
from tests.faults.server import DRAFT, MARKUP
from tests.faults.test_faults import served
from tests.web.steps import fill, get, judge, load, record, view

VIEWS = ["playground", "improve", "verdicts", "queue", "oversight", "principles", "probes"]
HOSTILE = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'><b>bold</b>"


def test_example_matches_the_stored_verdict(visit, url):
    page = visit(url)
    page.get_by_label("Example").select_option("A conversation with a constitution")
    judge(page)
    assert page.locator(".sample").count() == 8
    assert page.locator(".votes .dot").count() == 3 * 8
    rewards = [float(text) for text in page.locator(".votes .reward strong").all_inner_texts()]
    stored = get(f"{url}/v1/verdicts/{record(page)}")
    assert rewards == pytest.approx(stored["verdict"]["rewards"], abs=0.0051)
    assert [turn["role"] for turn in stored["request"]["messages"]] == ["user", "assistant", "user"]
    assert stored["request"]["principles"]["set"] == "constitution"


def test_sample_card(visit, url):
    page = visit(url)
    judge(page)
    verdict = get(f"{url}/v1/verdicts/{record(page)}")["verdict"]
    sample, card = verdict["samples"][1], page.locator(".sample").nth(1)
    card.locator("summary").first.click()
    for principle in sample["principles"]:
        expect(card).to_contain_text(principle["text"])
    expect(card.locator(".weight").first).to_have_text("60 %")
    expect(card.locator("summary .order")).to_have_text(" ".join("AB"[i] for i in sample["order"]))
    expect(card.locator("summary .scores")).to_have_text(
        "".join(f"{x} {s:g}" for x, s in zip("AB", sample["scores"], strict=True))
    )
    # "Response 1" is a position in the prompt; the letter after it names the caller's response.
    assert card.locator(".response-letter").all_inner_texts() == ["AB"[i] for i in sample["order"]]
    card.get_by_text("Raw output").click()
    expect(card.locator(".raw .text")).to_have_text(sample["text"], use_inner_text=False)


def test_large_group(visit, url):
    page = visit(url)
    answers = [f"Answer {i}." for i in range(10)]
    query = page.get_by_label("Turn 1", exact=True)
    query.fill("A question?")
    while page.locator(".response textarea").count() < len(answers):
        page.get_by_role("button", name="Add a response").click()
    for box, text in zip(page.locator(".response textarea").all(), answers, strict=True):
        box.fill(text)
    page.get_by_label("Samples (k)").fill("5")
    judge(page)
    stored = get(f"{url}/v1/verdicts/{record(page)}")
    verdict = stored["verdict"]
    assert verdict["k"] == 5
    assert len(verdict["samples"]) > 5
    best, second = (chr(65 + verdict["ranking"].index(rank)) for rank in (1, 2))
    expect(page.locator(".summary .best strong")).to_have_text(best)
    expect(page.locator("p.lead")).to_contain_text(f"{best} leads {second} by ")
    expect(page.locator("p.lead")).to_contain_text(f"after {len(verdict['samples'])} samples")
    first = verdict["samples"][0]
    scores = page.locator("details.sample").first.locator("summary .scores strong")
    expect(scores).to_have_count(len(first["order"]))
    rewards = [float(text) for text in page.locator("ol.votes .reward strong").all_inner_texts()]
    assert rewards == pytest.approx(verdict["rewards"], abs=0.006)


def test_profile_decides_what_the_form_leaves_open(visit, url):
    page = visit(url)
    fill(page, "What is 2 + 2?", "4", "5")
    page.get_by_text("As a curl command").click()
    sent = json.loads(page.locator(".curl pre").inner_text().partition(" -d '")[2].rstrip("'"))
    assert not sent.keys() & {"score", "temperature", "max_tokens", "thinking_tokens", "profile"}


def test_form_reaches_the_server(visit, url):
    page = visit(url)
    fill(page, "What is 2 + 2?", "4", "5", "", k=3)
    page.get_by_label("Mode", exact=True).select_option("fixed")
    page.get_by_label("Principle set").select_option("mathematics")
    page.get_by_role("button", name="Add a principle").click()
    page.get_by_label("Principle 1", exact=True).fill("The number is right.")
    page.get_by_label("Weight of principle 1").fill("0.5")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Stop early").select_option("exact")
    page.get_by_text("More options", exact=True).click()
    page.get_by_label("Scores").select_option("soft")
    page.get_by_label("Reference answer").fill("4")
    page.get_by_label("Temperature").fill("0.7")
    page.get_by_label("Max tokens per critique").fill("100")
    page.get_by_label("Max tokens of thinking").fill("200")
    judge(page)
    request = get(f"{url}/v1/verdicts/{record(page)}")["request"]
    assert request == {
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
        "responses": ["4", "5", ""],
        "principles": {
            "mode": "fixed",
            "set": "mathematics",
            "items": [{"text": "The number is right.", "weight": 0.5}],
        },
        "k": 3,
        "k_meta": None,
        "seed": 7,
        "stop": "exact",
        "score": "soft",
        "reference": "4",
        "temperature": 0.7,
        "max_tokens": 100,
        "thinking_tokens": 200,
    }
    # The round trip: the record opened in the playground gives the same request.
    page.get_by_role("link", name="Open in the playground").click()
    page.get_by_role("button", name="Judge", exact=True).wait_for()
    page.get_by_text("As a curl command").click()
    sent = json.loads(page.locator(".curl pre").inner_text().partition(" -d '")[2].rstrip("'"))
    assert sent.pop("query") == "What is 2 + 2?"
    assert request.items() >= sent.items()


def test_samples_arrive_in_waves(visit):
    with served("--delay", "0.3") as (url, _):
        page = visit(url)
        fill(page, "Name a prime.", "7", "8", k=12)
        page.get_by_label("Stop early").select_option("exact")
        page.evaluate("""() => {
            window.counts = [];
            new MutationObserver(() => window.counts.push(document.querySelectorAll(".sample").length))
                .observe(document.querySelector(".result"), {subtree: true, childList: true});
        }""")
        judge(page)
        counts = sorted(set(page.evaluate("window.counts")))
        assert len(counts) > 3, counts
        expect(page.get_by_role("status").filter(has_text="Done")).to_be_visible()


def test_cancel_then_judge_again(visit, faulty):
    page = visit(faulty)
    fill(page, "please hang", "7", "8")
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="0 of 8")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status").filter(has_text="Cancelled after 0 samples")).to_be_visible()
    fill(page, "Name a prime.", "7", "8")
    judge(page)


def test_lost_connection_gives_advice(visit):
    with served() as (url, process):
        page = visit(url)
        fill(page, "please hang", "7", "8")
        page.get_by_role("button", name="Judge", exact=True).click()
        expect(page.get_by_role("status").filter(has_text="0 of 8")).to_be_visible()
        process.kill()
        problem = page.get_by_role("alert").filter(has_text="connection_lost")
        expect(problem).to_contain_text("Check that the service is running")
        expect(problem.get_by_role("button", name="Try again")).to_be_visible()


def test_unreadable_samples_are_displayed(visit, faulty):
    page = visit(faulty)
    fill(page, "please garbage", "7", "8")
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="all_unreadable")).to_be_visible()
    assert page.locator(".sample").count() == 8
    page.locator(".sample summary").first.click()
    expect(page.locator(".sample").first).to_contain_text("Not counted")


def test_rejection_gives_code_and_advice(visit, url):
    page = visit(url)
    page.get_by_label("Response A", exact=True).evaluate("it => { it.value = 'x'.repeat(200001) }")
    page.get_by_role("button", name="Judge", exact=True).click()
    problem = page.get_by_role("alert").filter(has_text="text_too_long")
    expect(problem).to_contain_text("Shorten the field named above.")


def test_hostile_text_stays_text(visit, faulty):
    page = visit(faulty)
    fill(page, f"please markup {HOSTILE}", HOSTILE, HOSTILE)
    page.get_by_role("button", name="Add a principle").click()
    page.get_by_label("Principle 1", exact=True).fill(HOSTILE)
    judge(page)
    page.locator(".sample summary").first.click()
    expect(page.locator(".sample").first.locator(".principles")).to_contain_text(MARKUP)
    verdict = record(page)
    page.get_by_label("Your name").fill(HOSTILE)
    page.get_by_label("Note").fill(HOSTILE)
    page.get_by_label("A principle is unsound").check()
    page.get_by_label("Principle of this verdict").select_option(MARKUP)
    page.get_by_role("button", name="Add review").click()
    expect(page.locator(".reviews")).to_contain_text(HOSTILE)
    for name in [f"verdicts/{verdict}", *VIEWS]:
        load(page, faulty, name)
        assert page.locator("main").locator("script, img, b").count() == 0
        assert page.evaluate("window.ran") is None
    page.goto(f"{faulty}/#/verdicts?search=markup")
    expect(page.locator("a.query").first).to_contain_text(HOSTILE)


def test_thinking_is_folded_text(visit):
    with served("--delay", "0.1") as (url, _):
        page = visit(url)
        fill(page, "please think", "7", "8", k=2)
        judge(page)
        for place in ("the stream", "the record"):
            assert_thinking(page, place)
            if place == "the stream":
                record(page)


def assert_thinking(page, place):
    card = page.locator(".sample").first
    card.locator("summary").first.click()
    thinking = card.locator("details.thinking")
    expect(thinking.locator("summary")).to_have_text(f"Thinking ({len(DRAFT)} characters)")
    expect(thinking.locator(".text")).not_to_be_visible()
    thinking.locator("summary").click()
    expect(thinking.locator(".text")).to_have_text(DRAFT, use_inner_text=True)
    assert card.locator("script, img").count() == 0
    assert page.evaluate("window.ran") is None, place
    # Before the critique, and not in it.
    texts = card.locator(".body > p.text, .body > details.thinking").all_inner_texts()
    assert len(texts) == 2, place
    assert "draft" in texts[0]
    assert "draft" not in texts[1]
    expect(card.get_by_text("cut", exact=True)).to_have_count(0)


def test_cut_thinking_has_a_chip_and_a_reason(visit, faulty):
    page = visit(faulty)
    fill(page, "please ponder", "7", "8", k=2)
    judge(page)
    for leave in (record, None):
        card = page.locator(".sample").first
        expect(card.get_by_text("cut", exact=True)).to_be_visible()
        card.locator("summary").first.click()
        expect(card).to_contain_text(
            "Closed by the service: it was cut off while the model was still thinking cut_in_thinking"
        )
        if leave:
            leave(page)


def test_soft_errors_are_explained(visit, url):
    def without_soft_scores(route):
        answer = route.fetch()
        verdict = answer.json()
        verdict["verdict"]["samples"][0] |= {"soft_error": "no_score_tokens"}
        verdict["verdict"]["samples"][1] |= {"soft_error": "a_newer_code"}
        route.fulfill(response=answer, json=verdict)

    page = visit(url)
    judge(page)
    page.route("**/v1/verdicts/*", without_soft_scores)
    record(page)
    for at, words in enumerate(["the engine returned no probabilities for its scores", "a_newer_code"]):
        card = page.locator(".sample").nth(at)
        expect(card.get_by_text("no soft score", exact=True)).to_be_visible()
        card.locator("summary").first.click()
        expect(card).to_contain_text("No soft score, the written scores are voted:")
        expect(card).to_contain_text(words)


def test_review_leaves_the_queue(visit, url):
    page = visit(url)
    fill(page, "Which of the twins?", "the same", "the same")
    judge(page)
    verdict = record(page)
    link = page.locator(f'a[href="#/verdicts/{verdict}"]')
    view(page, "Queue")
    expect(link).to_be_visible()
    expect(page.locator("tr", has=link)).to_contain_text("tie")
    link.click()
    page.get_by_role("button", name="Review this verdict").click()
    page.keyboard.type("ann")
    page.get_by_label("Overrule").check()
    page.get_by_label("Response A", exact=True).fill("2")
    page.get_by_label("Response B", exact=True).fill("1")
    page.get_by_label("Note").fill("B came first.")
    page.get_by_role("button", name="Add review").click()
    expect(page.locator(".reviews")).to_contain_text("ann overrules")
    review = get(f"{url}/v1/verdicts/{verdict}")["reviews"][0]
    assert (review["reviewer"], review["decision"], review["ranking"]) == ("ann", "overrule", [2, 1])
    view(page, "Queue")
    expect(link).to_have_count(0)
    page.goto(f"{url}/#/verdicts?reviewed=true")
    expect(link).to_be_visible()
    view(page, "Oversight")
    expect(page.locator("table.list").first).to_contain_text("smollm2-judge")


def test_search_and_filters(visit, url):
    page = visit(url)
    for query in ("Where do zebras live?", "Where do quaggas live?"):
        fill(page, query, "in Africa", "in Asia")
        judge(page)
    view(page, "Verdicts")
    page.get_by_label("Text").fill("quagga")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("a.query")).to_have_count(1)
    expect(page.locator("a.query")).to_have_text("Where do quaggas live?")
    page.get_by_label("Reviews").select_option("reviewed")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No matching verdicts.")).to_be_visible()


def test_compare_two_samples(visit, url):
    page = visit(url)
    judge(page)
    record(page)
    page.get_by_label("Left", exact=True).select_option("Sample 2")
    page.get_by_label("Right", exact=True).select_option("Sample 5")
    expect(page.get_by_role("region", name="Sample 2").locator("h3")).to_have_text("Sample 2")
    expect(page.get_by_role("region", name="Sample 5").locator(".principles")).to_be_visible()


def test_record_download_is_exact(visit, url, tmp_path):
    page = visit(url)
    judge(page)
    verdict = record(page)
    expect(page.get_by_text(f"grm audit replay {verdict}")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    download.value.save_as(tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text()) == get(f"{url}/v1/verdicts/{verdict}")


def test_key_stays_in_the_tab(visit, start_server, tmp_path):
    key = add(tmp_path / "keys.yaml", "ann")
    url = start_server("--engine", "scripted", GRM_KEYS_FILE=str(tmp_path / "keys.yaml"))
    page = visit(url)
    dialog = page.get_by_role("dialog", name="API key")
    dialog.get_by_label("Key").fill("grm_wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("does not accept this key")
    dialog.get_by_label("Key").fill(key)
    dialog.get_by_role("button", name="Use this key").click()
    judge(page)
    assert page.evaluate("[Object.keys(sessionStorage), localStorage.length, document.cookie]") == [
        ["grm-key"],
        0,
        "",
    ]
    assert key not in page.url
    page.reload()
    page.get_by_role("button", name="Judge", exact=True).wait_for()
    expect(dialog).to_be_hidden()


def test_missing_key_gives_advice(visit, start_server, tmp_path):
    add(tmp_path / "keys.yaml", "ann")
    page = visit(start_server("--engine", "scripted", GRM_KEYS_FILE=str(tmp_path / "keys.yaml")))
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert").filter(has_text="unauthorized")).to_contain_text("grm keys add")


def test_broken_trail_is_an_alarm(visit, start_server, tmp_path):
    url = start_server("--engine", "scripted", GRM_AUDIT_URL=f"sqlite:///{tmp_path}/audit.db")
    page = visit(url)
    judge(page)
    with closing(sqlite3.connect(tmp_path / "audit.db")) as connection, connection:
        connection.execute("UPDATE anchors SET seal = 'forged' WHERE name = 'head'")
    fill(page, "another", "7", "8")
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="audit_broken")).to_contain_text("grm audit verify")
    page.reload()
    expect(page.locator(".server.alarm")).to_have_text("the audit trail is broken")


@pytest.mark.parametrize("name", ["verdicts", "queue", "oversight", "principles", "probes"])
def test_missing_route(visit, url, name):
    page = visit(url)
    # Simulates an older server without these routes.
    for route in ("verdicts", "reviews", "principles", "probes"):
        page.route(f"**/v1/{route}*", lambda it: it.continue_(url=f"{url}/v1/nothing"))
        page.route(f"**/v1/{route}/*", lambda it: it.continue_(url=f"{url}/v1/nothing"))
    page.goto(f"{url}/#/{name}")
    expect(page.locator("main")).to_contain_text("not available on this server")


def test_probe_results(visit, start_server):
    url = start_server("--engine", "scripted", GRM_PROBE_EVERY_S="3600", GRM_PROBE_ALARM="0.9")
    page = visit(url)
    while page.locator("tbody tr").count() == 0:
        load(page, url, "probes")
    report = get(f"{url}/v1/probes")
    rows = page.locator("tbody tr")
    assert rows.count() == len(report["probes"])
    for row, probe in zip(rows.all(), report["probes"], strict=True):
        expect(row).to_contain_text(probe["what"])
        expect(row).to_contain_text(f"{probe['passed']} of {probe['cases']}")
        assert row.locator(".chip").count() == (probe["name"] in report["failed"])
    assert report["failed"], "the scripted judge scores by chance and must fail some probes"


def test_observed_principles_and_flags(visit, url):
    page = visit(url)
    judge(page)
    view(page, "Principles")
    page.get_by_label("Verdicts").select_option("last 100")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(f"{url}/#/principles?verdicts=100&profile=")
    row = page.locator("tbody tr", has_text="It is clear.")
    expect(row).to_contain_text("subjective")
    observed = get(f"{url}/v1/principles/observed?verdicts=100")["principles"]
    assert page.locator("tbody tr").count() == len(observed)
    clear = next(each for each in observed if each["text"] == "It is clear.")
    expect(row).to_contain_text(str(clear["count"]))
    expect(row).to_contain_text(f"{clear['weight']:.2f}")
