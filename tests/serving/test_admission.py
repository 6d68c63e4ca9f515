"""What is generated counts until it has ended, and what a request may ask for is bounded by its text."""

import asyncio
import threading
from dataclasses import replace
from itertools import cycle

import pytest

from grm_service.audit import entry
from grm_service.callers import Caller, Requester
from grm_service.concurrency import gather
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import ShareTaken, TooMuchText
from grm_service.improving.loop import improve
from grm_service.improving.policy import Policy
from grm_service.serving import service as module
from grm_service.serving.service import Service
from grm_service.types import JudgeOptions, Message, Params, Principle, PrincipleSpec, Prompt, Task
from tests.improving.world import engine_of, policy_of, task_of
from tests.waiting import settle, until

pytestmark = pytest.mark.anyio
QUERY = (Message("user", "q"),)
ONE = Requester(Caller("mallory", most=1))
LONG = "x" * 200_000


class Upstream(ScriptedEngine):
    """Counts the completions under way, which take a while to end when they are cancelled."""

    def __init__(self, script="content", hangs=False):
        super().__init__(script)
        self.now = self.most = self.calls = 0
        self.hangs = hangs

    async def complete(self, prompt, params):
        self.now, self.calls = self.now + 1, self.calls + 1
        self.most = max(self.most, self.now)
        try:
            await (asyncio.Event().wait() if self.hangs else settle())
            return await super().complete(prompt, params)
        finally:
            await settle()
            self.now -= 1


class CountedMetaRM:
    name, model, control_tokens, ready = "counted", "counted", (), True

    def __init__(self):
        self.now = self.most = 0

    async def start(self): ...

    async def close(self): ...

    async def grade(self, judgement):
        self.now += 1
        self.most = max(self.most, self.now)
        await settle()
        self.now -= 1
        return 0.5


def task(responses=2, query="q", **options):
    return Task(
        (Message("user", query),), tuple(f"{i}" for i in range(responses)), options=JudgeOptions(**options)
    )


WORK = {
    "samples": {"k": 8},
    "blocks": {"responses": 40, "k": 2},
    "soft scores": {"responses": 8, "k": 2, "score": "soft"},
    "stopping early": {"k": 16, "stop": "exact"},
    "principles": {"k": 4, "principles": PrincipleSpec("query")},
}


@pytest.mark.parametrize("options", WORK.values(), ids=WORK)
async def test_completions_under_way_are_bounded(open_service, options):
    upstream = Upstream()
    async with open_service(upstream, samples=2) as service:
        await gather(service.judge(task(query=f"{i}", **options)) for i in range(3))
    assert upstream.most == 2


async def test_closing_questions_are_bounded(open_service):
    upstream = Upstream(lambda prompt, params: "7, 7}" if params.regex else "no scores")
    async with open_service(upstream, samples=2) as service:
        await service.judge(task(k=8))
    assert (upstream.most, upstream.calls) == (2, 16)


async def test_grades_under_way_are_bounded(open_service):
    meta_rm = CountedMetaRM()
    async with open_service(Upstream(), meta_rm, samples=2) as service:
        await service.judge(task(k=8, k_meta=4))
    assert 1 <= meta_rm.most <= 2


async def test_drafts_of_another_server_are_bounded(open_service):
    """First drafts and revisions, of several improvements at once."""
    writer = Upstream(engine_of(policy_of(2, 4, 6, 8))._write)
    async with open_service(Upstream(engine_of(policy_of(1))._write), samples=2) as service:
        policy = Policy(service, writer)
        runs = await gather(improve(service, policy, task_of(n=8, seed=i)) for i in range(3))
    assert writer.most == 2
    assert writer.calls == sum(len(run.drafts) for run in runs)


@pytest.mark.parametrize("own_server", [False, True])
async def test_improvement_is_one_request_to_the_end(open_service, own_server):
    """A caller with one request at once cannot start another between the drafts and the verdict."""
    engine, writer = Upstream(engine_of(policy_of(1, 5))._write), Upstream(engine_of(policy_of(1, 5))._write)
    async with open_service(engine) as service:
        policy = Policy(service, writer if own_server else None)
        running = asyncio.create_task(improve(service, policy, task_of(), requester=ONE))
        others = cycle(
            (
                lambda: service.principles(QUERY, None, PrincipleSpec(), ONE),
                lambda: service.judge(task(), None, ONE),
                lambda: improve(service, policy, task_of(), requester=ONE),
            )
        )
        refused = 0
        await settle()
        while not running.done():
            try:
                await next(others)()
                assert running.done()
            except ShareTaken:
                refused += 1
            await settle()
        assert (await running).best > 0
    assert refused > 10


ROUTES = {
    "principles": lambda service, i: service.principles(
        (Message("user", f"{i}"),), None, PrincipleSpec(), ONE
    ),
    "rewards": lambda service, i: service.judge(task(query=f"{i}", k=2), None, ONE),
    "principles of a judgement": lambda service, i: service.judge(
        task(query=f"{i}", principles=PrincipleSpec("query")), None, ONE
    ),
    "drafts": lambda service, i: improve(service, Policy(service), task_of(seed=i), requester=ONE),
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
async def test_place_is_held_until_the_work_has_ended(open_service, route):
    """A client that leaves cancels its work, and cannot have more than its share by leaving early."""
    upstream = Upstream(hangs=True)
    async with open_service(upstream, samples=2) as service:
        for i in range(10):
            request = asyncio.create_task(route(service, i))
            await until(lambda: upstream.now)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            assert upstream.now == 0
            assert service.queue.in_flight == 0
    assert upstream.most <= 2


async def test_other_priority_is_not_held_back(open_service):
    """A request does not wait, with the priority of another one, for the same verdict."""
    upstream = Upstream()
    async with open_service(upstream) as service:
        await gather(service.judge(task(k=1), None, Requester(priority=each)) for each in ("eval", "train"))
    assert upstream.calls == 2


TOO_MUCH = {
    "responses": Task(QUERY, (LONG,) * 40, options=JudgeOptions(k=64)),
    "conversation": Task((Message("user", LONG),) * 40, ("a",), options=JudgeOptions(k=64)),
    "conversation in every block": Task(
        (Message("user", LONG),) * 3, ("a",) * 64, options=JudgeOptions(k=16)
    ),
    "reference": Task(QUERY, ("a",) * 9, reference=LONG, options=JudgeOptions(k=64)),
    "principles": Task(
        QUERY,
        ("a",) * 64,
        options=JudgeOptions(k=64, principles=PrincipleSpec(items=(Principle("p" * 4000),) * 64)),
    ),
}


@pytest.mark.parametrize("asked", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_text_of_all_prompts_is_bounded(open_service, asked):
    engine = ScriptedEngine()
    async with open_service(engine) as service:
        with pytest.raises(TooMuchText, match=r"k=\d+ times .*GRM_MAX_PROMPT_CHARS\): lower k"):
            service.check(asked)
        with pytest.raises(TooMuchText):
            await service.judge(asked)
    assert engine.prompts == []


@pytest.mark.parametrize(
    ("responses", "k"), [((LONG,) * 2, 64), (("x" * 32_000,) * 64, 8), (("x" * 8_000,) * 16, 64)]
)
async def test_ordinary_groups_are_admitted(open_service, responses, k):
    async with open_service(ScriptedEngine()) as service:
        service.check(Task((Message("user", "x" * 8_000),), responses, options=JudgeOptions(k=k)))


async def test_bound_covers_the_prompts(open_service):
    """What is counted before any work is what the prompts have, without the template."""
    engine = ScriptedEngine()
    asked = task(40, query="query " * 1000, k=3)
    async with open_service(engine) as service:
        chars = service.validator.prompt_chars(asked, service.profile, ())
        await service.judge(asked)
        template = len(service.profile.prompt.judge) + 200
    sent = sum(prompt.chars - template for prompt in engine.prompts)
    assert 0.5 * chars < sent < chars + 3 * 40 * 60


async def test_text_of_drafts_is_bounded(open_service):
    engine = Upstream(engine_of(policy_of(1))._write)
    async with open_service(engine, prompt_chars=100_000) as service:
        long = task_of(messages=(Message("user", "x" * 10_000),), n=16, k=1)
        with pytest.raises(TooMuchText):
            await improve(service, Policy(service, engine), long)
        with pytest.raises(TooMuchText):
            await service.principles((Message("user", "x" * 100_001),), None, PrincipleSpec())
    assert engine.calls == 0


async def test_long_requests_run_one_after_another(open_service):
    most = 0

    def write(prompt, params):
        nonlocal most
        most = max(most, service.queue.chars_in_flight)
        return engine._write(prompt, params)

    engine = ScriptedEngine()
    async with open_service(ScriptedEngine(write), prompt_chars=50_000) as service:
        await gather(service.judge(task(query=f"{i}" + "x" * 20_000, k=1)) for i in range(6))
        assert service.queue.chars_in_flight == 0
    assert 20_000 < most <= 50_000


async def test_long_texts_are_handled_off_the_loop(open_service, monkeypatch):
    """The hash of a task, its record and the entry of the trail."""
    threads = {}

    def traced(owner, name):
        work = getattr(owner, name)

        def wrapper(*args):
            threads[name] = threading.get_ident()
            return work(*args)

        monkeypatch.setattr(owner, name, wrapper)

    for owner, name in ((module, "_digest_task"), (Service, "_record"), (entry, "from_record")):
        traced(owner, name)
    async with open_service(ScriptedEngine()) as service:
        await service.judge(task(query=LONG, k=1))
    assert len(threads) == 3
    assert threading.get_ident() not in threads.values()


async def test_hash_of_a_task_covers_every_text():
    base = Task(QUERY, ("a", "b"), "p", "r", JudgeOptions(k=1))
    others = (
        replace(base, messages=(Message("system", "q"),)),
        replace(base, messages=(Message("user", "Q"),)),
        replace(base, responses=("b", "a")),
        replace(base, reference=None),
        replace(base, profile=None),
        base.with_options(k=2),
        base.with_options(timeout_s=3),
    )
    assert len({module._digest_task(each) for each in (base, *others)}) == 1 + len(others)
    assert module._digest_task(base) == module._digest_task(replace(base, responses=("a", "b")))


async def test_scripted_engine_remembers_little():
    engine = ScriptedEngine()
    async with asyncio.TaskGroup() as group:
        for i in range(30):
            prompt = Prompt((Message("user", f"{i} {LONG}"),))
            group.create_task(engine.complete(prompt, Params(8)))
    assert sum(prompt.chars for prompt in engine.prompts) <= 2**20
    assert engine.prompts[-1].messages[0].content.startswith("29 ")
