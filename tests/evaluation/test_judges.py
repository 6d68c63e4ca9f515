"""What is asked of a judge that is measured, and what is no finding about it."""

import pytest

from grm_service.errors import EngineError, EngineUnreachable
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.judges import in_process
from grm_service.evaluation.run_folder import EvalSetup
from grm_service.factory import open_service
from grm_service.settings import Settings
from grm_service.types import Message

pytestmark = pytest.mark.anyio
ITEM = Item("0", "s", (Message("user", "Name a prime."),), ("11", "12"), (0,))
SETUP = EvalSetup(profile="smollm2-judge", engine="scripted", k=4)


@pytest.mark.parametrize("script", ["content", "unreadable"])
async def test_an_engine_that_fails_for_a_sample_is_no_finding_about_the_judge(script, tmp_path):
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
            await in_process(service)(ITEM, SETUP)
        again = await in_process(service)(
            Item("1", *[getattr(ITEM, n) for n in ("source", "messages")], ("1", "2"), (0,)), SETUP
        )
    finally:
        await service.close()
    assert again.error == (None if script == "content" else "all_unreadable")
