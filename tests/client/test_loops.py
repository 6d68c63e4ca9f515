"""Event loops come and go; threads and processes share a client."""

import asyncio
import gc
import multiprocessing
import threading
import weakref
from concurrent.futures import CancelledError

import psutil
import pytest

from grm_service.client import AsyncClient, Client

PAIR = ["eleven", "twelve"]


def connected(url):
    """Connections of this process to that server."""
    port = int(url.rpartition(":")[2])
    return sum(
        c.status == psutil.CONN_ESTABLISHED and bool(c.raddr) and c.raddr.port == port
        for c in psutil.Process().net_connections("tcp4")
    )


def test_a_client_is_kept_from_one_event_loop_to_the_next(service):
    client = AsyncClient(service)
    for step in range(5):

        async def ask(step=step):
            results = await client.batch([{"query": f"{step} {i}", "responses": PAIR} for i in range(8)])
            assert connected(service) >= 1
            return results

        assert len(asyncio.run(ask())) == 8
        assert connected(service) == 0


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the loop is left without a word
def test_what_a_loop_left_behind_is_dropped_with_the_next(service):
    client = AsyncClient(service)
    left = asyncio.new_event_loop()
    assert left.run_until_complete(client.rewards("q", PAIR)).rewards
    left.close()
    known = weakref.ref(left)
    del left
    assert asyncio.run(client.rewards("q", PAIR)).rewards
    gc.collect()
    assert known() is None
    assert connected(service) == 0


def test_loops_in_several_threads_share_a_client(service):
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
async def test_code_that_blocks_can_ask_from_within_a_loop(service):
    with Client(service) as client:
        assert client.rewards("q", PAIR).rewards


def test_a_closed_client_opens_again(service):
    client = Client(service)
    for _ in range(2):
        assert client.rewards("q", PAIR).rewards
        client.close()
        assert connected(service) == 0
    client.close()


def test_closing_ends_the_questions_under_way(service):
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
    assert ended.wait(5)
    thread.join()


def test_a_question_that_meets_a_closing_client_ends(service, monkeypatch):
    client = Client(service)
    assert client.rewards("q", PAIR).rewards
    closing = threading.Thread(target=client.close)
    begin = asyncio.run_coroutine_threadsafe

    def begin_late(question, loop):
        closing.start()
        closing.join(0.3)
        return begin(question, loop)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", begin_late)
    with pytest.raises(CancelledError):
        client.rewards("please hang", PAIR)
    closing.join()


def _ask(client, answers):
    answers.put(client.rewards("q", PAIR).rewards)
    client.close()


def test_a_forked_process_asks_with_connections_of_its_own(service):
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    with Client(service) as client:
        mine = client.rewards("q", PAIR).rewards
        child = fork.Process(target=_ask, args=(client, answers))
        child.start()
        assert answers.get(timeout=20) == mine
        child.join(20)
        assert child.exitcode == 0
        assert client.rewards("q", PAIR).rewards == mine
    answers.close()
    answers.join_thread()
