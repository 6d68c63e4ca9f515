"""One client in several event loops, threads and processes."""

import asyncio
import gc
import multiprocessing
import threading
import weakref
from concurrent.futures import CancelledError

import psutil
import pytest

from grm_service.client import AsyncClient, Client
from tests.waiting import HANG_S

PAIR = ["eleven", "twelve"]


def connected(url):
    """Return the number of connections from this process to a server."""
    port = int(url.rpartition(":")[2])
    return sum(
        c.status == psutil.CONN_ESTABLISHED and bool(c.raddr) and c.raddr.port == port
        for c in psutil.Process().net_connections("tcp4")
    )


def test_client_outlives_event_loops(service):
    client = AsyncClient(service)
    for step in range(5):

        async def ask(step=step):
            results = await client.batch([{"query": f"{step} {i}", "responses": PAIR} for i in range(8)])
            assert connected(service) >= 1
            return results

        assert len(asyncio.run(ask())) == 8
        assert connected(service) == 0


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the loop is closed without cleaning up
def test_abandoned_loop_is_released(service):
    client = AsyncClient(service)
    abandoned = asyncio.new_event_loop()
    assert abandoned.run_until_complete(client.rewards("q", PAIR)).rewards
    abandoned.close()
    reference = weakref.ref(abandoned)
    del abandoned
    assert asyncio.run(client.rewards("q", PAIR)).rewards
    gc.collect()
    assert reference() is None
    assert connected(service) == 0


def test_threads_share_a_client(service):
    client = AsyncClient(service)
    rewards = {}

    def run(name):
        rewards[name] = asyncio.run(client.rewards("the same", PAIR)).rewards

    threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rewards) == 4
    assert len(set(rewards.values())) == 1


@pytest.mark.anyio
async def test_blocking_client_inside_a_loop(service):
    with Client(service) as client:
        assert client.rewards("q", PAIR).rewards


def test_closed_client_can_reopen(service):
    client = Client(service)
    for _ in range(2):
        assert client.rewards("q", PAIR).rewards
        client.close()
        assert connected(service) == 0
    client.close()


def test_close_cancels_requests_in_progress(service):
    client = Client(service)
    ended = threading.Event()

    def ask():
        try:
            client.rewards("please hang", PAIR)
        except BaseException:
            ended.set()

    thread = threading.Thread(target=ask)
    thread.start()
    while not connected(service):
        pass
    client.close()
    assert ended.wait(HANG_S)
    thread.join()


def test_request_during_close_is_cancelled(service, monkeypatch):
    client = Client(service)
    assert client.rewards("q", PAIR).rewards
    closing = threading.Thread(target=client.close)
    schedule = asyncio.run_coroutine_threadsafe

    def schedule_late(call, loop):
        closing.start()
        closing.join(0.3)
        return schedule(call, loop)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", schedule_late)
    with pytest.raises(CancelledError):
        client.rewards("please hang", PAIR)
    closing.join()


def _ask(client, answers):
    answers.put(client.rewards("q", PAIR).rewards)
    client.close()


def test_forked_process_opens_its_own_connections(service):
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    with Client(service) as client:
        mine = client.rewards("q", PAIR).rewards
        child = fork.Process(target=_ask, args=(client, answers))
        child.start()
        assert answers.get(timeout=HANG_S) == mine
        child.join(HANG_S)
        assert child.exitcode == 0
        assert client.rewards("q", PAIR).rewards == mine
    answers.close()
    answers.join_thread()
