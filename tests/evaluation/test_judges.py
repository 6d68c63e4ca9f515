"""Judging items: failures of the engine, and the options that reach a judge."""

import pytest

from grm_service.client.failure import NoVerdict
from grm_service.errors import DeadlineExceeded, EngineError, EngineUnreachable
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.judges import local_judge, remote_judge
from grm_service.evaluation.run_folder import EvalSetup
from grm_service.factory import open_service
from grm_service.settings import Settings
from grm_service.types import JudgeOptions, Message, PrincipleSpec

pytestmark = pytest.mark.anyio
ITEM = Item("0", "s", (Message("user", "Name a prime."),), ("11", "12"), (0,))
SETUP = EvalSetup(profile="smollm2-judge", engine="scripted", k=4)


@pytest.mark.parametrize("script", ["content", "unreadable"])
async def test_engine_failure_ends_the_run(script, tmp_path):
    trail = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    service = open_service(Settings(engine="scripted", script=script, **trail))
    complete, calls = service.engine.complete, iter(range(100))

    async def away_once(prompt, params):
        if next(calls) == 0:
            raise EngineUnreachable("http://x is away")
        return await complete(prompt, params)

    service.engine.complete = away_once
    await service.start()
    try:
        with pytest.raises(EngineError, match="engine_unreachable"):
            await local_judge(service)(ITEM, SETUP)
        again = await local_judge(service)(
            Item("1", *[getattr(ITEM, n) for n in ("source", "messages")], ("1", "2"), (0,)), SETUP
        )
    finally:
        await service.close()
    assert again.error == (None if script == "content" else "all_unreadable")


FULL = EvalSetup(
    "p", "e", 4, "soft", "fixed", "helpfulness", 0.7, 300, 3, k_meta=2, stop="none", timeout_s=9.0
)


def test_every_option_reaches_the_judge():
    spec = PrincipleSpec("fixed", "helpfulness")
    assert FULL.item_options(ITEM) == JudgeOptions(
        k=4,
        k_meta=2,
        seed=ITEM.seed(3),
        temperature=0.7,
        max_tokens=300,
        score="soft",
        stop="none",
        timeout_s=9.0,
        principles=spec,
    )


class Refusing:
    """A client of a service that refuses every request, with the requests."""

    def __init__(self, code="bad_request"):
        self.code, self.requests = code, []

    async def rewards(self, query, responses, **options):
        self.requests.append(options)
        raise NoVerdict(self.code, "refused")


async def test_every_option_reaches_the_service():
    client = Refusing()
    with pytest.raises(NoVerdict):
        await remote_judge(client)(ITEM, FULL)
    assert client.requests == [
        {
            "priority": "eval",
            "profile": "p",
            "k": 4,
            "k_meta": 2,
            "seed": ITEM.seed(3),
            "temperature": 0.7,
            "max_tokens": 300,
            "score": "soft",
            "stop": "none",
            "timeout_s": 9.0,
            "principles": {"mode": "fixed", "set": "helpfulness"},
        }
    ]


async def test_deadline_fails_item_only_if_set():
    judge = remote_judge(Refusing(DeadlineExceeded.code))
    assert (await judge(ITEM, FULL)).error == "deadline_exceeded"
    with pytest.raises(NoVerdict):
        await judge(ITEM, SETUP)
