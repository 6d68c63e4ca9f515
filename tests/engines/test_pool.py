"""A pool of real HTTP servers on loopback."""

import asyncio

import pytest

from grm_service import backoff
from grm_service.engines.base import Abilities, ThinkingBehavior
from grm_service.engines.remote import pool
from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.engines.remote.pool import PoolEngine
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import BadTask, EngineError, EngineUnreachable, ModelNotLoaded, UpstreamDenied
from grm_service.factory import open_service
from grm_service.settings import Settings
from grm_service.types import Message, Params, Prompt
from tests.engines.loopback import Loopback
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
ASK = (Message("user", "Hello"),)


def ask(group=""):
    return Prompt(ASK, group=group)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(backoff, "pause_s", lambda min_s, attempt: 0.01)


@pytest.fixture
async def servers():
    opened = [await Loopback(name).open() for name in "ABC"]
    yield opened
    for server in opened:
        await server.kill()


@pytest.fixture
async def pooled():
    """Return a function that creates pools, which are closed at the end."""
    pools = []

    def _pooled(*servers, model="m"):
        engines = {server.url: OpenAIEngine(server.url, model) for server in servers}
        pools.append(PoolEngine(engines, pause_s=0.05))
        return pools[-1]

    yield _pooled
    for each in pools:
        await each.close()


async def texts(engine, *groups):
    return [
        c.text for c in await asyncio.gather(*(engine.complete(ask(group), Params(1)) for group in groups))
    ]


async def test_group_stays_on_one_server(servers, pooled):
    engine = pooled(*servers)
    await engine.start()
    first = await texts(engine, *["g"] * 20)
    await texts(engine, "other", "another", "third")
    assert set(first) == set(await texts(engine, *["g"] * 20))
    assert len(set(first)) == 1


async def test_new_group_goes_to_idle_server(servers, pooled):
    engine = pooled(*servers)
    await engine.start()
    for server in servers:
        server.delay_s = 0.3
    busy = asyncio.create_task(texts(engine, *["g"] * 8))
    await asyncio.sleep(0.1)
    others = await texts(engine, "h", "h", "i", "j")
    home = (await busy)[0]
    assert home not in others
    assert others[0] == others[1]
    assert len({others[0], others[2]}) == 2


async def test_groups_spread_over_idle_servers(servers, pooled):
    engine = pooled(*servers)
    await engine.start()
    assert {(await texts(engine, str(i)))[0] for i in range(6)} == {"A", "B", "C"}


async def test_killed_server_is_replaced(servers, pooled, caplog):
    """Its requests go to another server; it rejoins the pool when it is back."""
    caplog.set_level("INFO", "grm_service")
    engine = pooled(*servers[:2])
    await engine.start()
    for server in servers:
        server.delay_s = 0.3
    before = sum(len(server.requests) for server in servers)
    running = asyncio.create_task(texts(engine, *(str(i) for i in range(10))))
    # Wait for all requests: a connection that is still being opened would survive the kill.
    await until(lambda: sum(len(server.requests) for server in servers) == before + 10)
    assert servers[0].in_flight
    assert servers[1].in_flight
    await servers[0].kill()
    assert set(await running) == {"B"}
    assert engine.ready
    assert f"{servers[0].url} is out" in caplog.text
    before_kill = len(servers[0].requests)
    assert set(await texts(engine, "x", "y", "z")) == {"B"}
    assert len(servers[0].requests) == before_kill

    servers[0].delay_s = servers[1].delay_s = 0.0
    await servers[0].open()
    await until(lambda: "is back" in caplog.text)
    assert set(await texts(engine, "new", "newer")) == {"A", "B"}
    assert set(await texts(engine, "x", "y", "z")) == {"B"}


async def test_not_ready_while_all_are_down(servers, pooled):
    engine = pooled(*servers[:2])
    await engine.start()
    for server in servers[:2]:
        await server.kill()
    with pytest.raises(EngineUnreachable, match="none of"):
        await engine.complete(ask(), Params(1))
    assert not engine.ready
    with pytest.raises(EngineUnreachable):
        await engine.complete(ask(), Params(1))
    await servers[1].open()
    await until(lambda: engine.ready)
    assert await texts(engine, "") == ["B"]


async def test_one_server_is_enough_to_start(servers, pooled):
    await servers[0].kill()
    engine = pooled(*servers[:2])
    await engine.start()
    assert engine.ready
    assert set(await texts(engine, *"abcd")) == {"B"}
    await servers[0].open()
    await until(lambda: engine._servers[0].up)
    assert "A" in await texts(engine, *"efgh")


async def test_start_without_servers_raises(servers, pooled):
    for server in servers:
        await server.kill()
    with pytest.raises(EngineUnreachable, match="none of"):
        await pooled(*servers).start()


async def test_start_with_different_models_raises(servers, pooled):
    servers[1].model = "n"
    with pytest.raises(ModelNotLoaded, match=r"one model.* m .* n "):
        await pooled(*servers[:2], model=None).start()
    with pytest.raises(ModelNotLoaded, match=r"does not serve m"):
        await pooled(*servers[:2], model="m").start()


async def test_changed_model_stays_out(servers, pooled, caplog):
    caplog.set_level("INFO", "grm_service")
    engine = pooled(*servers[:2], model=None)
    await engine.start()
    await servers[0].kill()
    await texts(engine, *"abcd")
    servers[0].model = "n"
    await servers[0].open()
    await until(lambda: "does not serve m" in caplog.text)
    assert set(await texts(engine, *"efgh")) == {"B"}


async def test_cancelled_request_is_not_in_flight(servers, pooled):
    engine = pooled(*servers)
    await engine.start()
    for server in servers:
        server.delay_s = 10.0
    running = asyncio.create_task(texts(engine, "g"))
    await until(lambda: any(server.in_flight for server in servers))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [server.in_flight for server in engine._servers] == [0, 0, 0]
    await until(lambda: sum(server.disconnects for server in servers) == 1)


class Fake(ScriptedEngine):
    """An engine with fixed abilities and failures."""

    def __init__(self, lacking=(), failure=None):
        super().__init__("content")
        self.abilities = Abilities(**dict.fromkeys(lacking, False))
        self.failure = failure

    async def complete(self, prompt, params):
        if self.failure is not None:
            raise self.failure
        return await super().complete(prompt, params)


async def test_abilities_are_the_common_ones():
    engine = PoolEngine({"a": Fake(["constrains"]), "b": Fake(["alternatives"]), "c": Fake()})
    await engine.start()
    assert engine.abilities.lacking() == ["constrains", "alternatives"]
    assert engine.model == "scripted-content"
    await engine.close()


async def test_fewer_abilities_stay_out(caplog):
    caplog.set_level("INFO", "grm_service")
    less, other = Fake(), Fake()
    engine = PoolEngine({"a": less, "b": other}, pause_s=0.01)
    await engine.start()
    less.failure, less.abilities = EngineUnreachable("x"), Abilities(continues=False)
    await texts(engine, "g", "h")
    await until(lambda: "lacks features of the other servers: continues" in caplog.text)
    less.abilities = Abilities()
    await until(lambda: "a is back" in caplog.text)
    await engine.close()


@pytest.mark.parametrize(
    "odd", [RecursionError("deep"), OverflowError("large"), EngineError("odd"), KeyError("x")]
)
async def test_odd_reply_does_not_end_reconnecting(odd, caplog):
    caplog.set_level("INFO", "grm_service")
    lost, other = Fake(), Fake()
    engine = PoolEngine({"a": lost, "b": other}, pause_s=0.01)
    await engine.start()
    start, lost.failure = lost.start, EngineUnreachable("x")

    async def fails():
        raise odd

    lost.start = fails
    await texts(engine, "g", "h")
    await until(lambda: caplog.text.count("still out of the pool") > 1)
    lost.start, lost.failure = start, None
    await until(lambda: "a is back" in caplog.text)
    await engine.close()


async def test_odd_reply_does_not_end_the_start(caplog):
    lost, other = Fake(), Fake()
    start = lost.start

    async def fails():
        raise EngineError("odd")

    lost.start = fails
    engine = PoolEngine({"a": lost, "b": other}, pause_s=0.01)
    await engine.start()
    assert "a is out of the pool: odd" in caplog.text
    lost.start = start
    await until(lambda: "a is back" in caplog.text)
    await engine.close()
    other.start = fails
    lost.start = fails
    with pytest.raises(EngineError, match="odd"):
        await PoolEngine({"a": lost, "b": other}).start()


async def test_denying_server_is_replaced(caplog):
    lost, other = Fake(), Fake()
    engine = PoolEngine({"a": lost, "b": other}, pause_s=0.01)
    await engine.start()
    lost.failure = UpstreamDenied("its key is no longer accepted")
    assert len(await texts(engine, *"abcd")) == 4
    assert "a is out of the pool: its key" in caplog.text
    other.failure = lost.failure
    with pytest.raises(UpstreamDenied, match="its key"):
        await texts(engine, "e")
    await engine.close()


async def test_different_thinking_is_refused():
    opened = Fake()
    opened.thinking = ThinkingBehavior("inline", opened=True)
    engine = PoolEngine({"a": opened, "b": Fake()})
    with pytest.raises(ModelNotLoaded, match="think alike"):
        await engine.start()
    await engine.close()


async def test_common_thinking_is_announced():
    behaviors = [ThinkingBehavior("field", can_disable=True), ThinkingBehavior(), ThinkingBehavior("inline")]
    servers = {str(i): Fake() for i in range(3)}
    for server, behavior in zip(servers.values(), behaviors, strict=True):
        server.thinking = behavior
    servers["1"].dropped_fields, servers["2"].dropped_fields = ("seed",), ("seed", "top_p")
    engine = PoolEngine(servers)
    await engine.start()
    assert engine.thinking == ThinkingBehavior("inline")
    assert engine.dropped_fields == ("seed", "top_p")
    await engine.close()


async def test_bad_task_removes_no_server():
    engine = PoolEngine({"a": Fake(failure=BadTask("x")), "b": Fake(failure=BadTask("x"))})
    await engine.start()
    with pytest.raises(BadTask):
        await engine.complete(ask(), Params(1))
    assert all(server.up for server in engine._servers)
    await engine.close()


async def test_group_table_is_bounded(monkeypatch):
    monkeypatch.setattr(pool, "_MAX_GROUPS", 3)
    engine = PoolEngine({"a": Fake(), "b": Fake()})
    await engine.start()
    await texts(engine, *"abcdef")
    await texts(engine, "d", "", "g")
    assert list(engine._group_servers) == ["f", "d", "g"]
    await engine.close()


def test_several_addresses_make_a_pool():
    def engine(urls):
        return open_service(Settings(engine="openai", openai_base_url=urls)).engine

    assert isinstance(engine("http://a.test/v1"), OpenAIEngine)
    assert isinstance(engine("http://a.test/v1, http://b.test/v1,"), PoolEngine)
    with pytest.raises(ModelNotLoaded, match="GRM_OPENAI_BASE_URL"):
        engine(" , ")


async def test_busy_server_stays_in_the_pool(servers, pooled, caplog):
    """Its request goes to another server."""
    engine = pooled(*servers[:2])
    await engine.start()
    home, other = sorted(servers[:2], key=lambda server: server.name != "A")
    assert await texts(engine, "g") == ["A"]
    home.status = 429
    assert await texts(engine, "g") == ["B"]
    other.status = 429
    with pytest.raises(EngineUnreachable, match="429"):
        await texts(engine, "g")
    assert engine.ready
    assert "is out" not in caplog.text
    home.status = other.status = 200
    assert await texts(engine, "g") == ["A"]  # the server of the last request
