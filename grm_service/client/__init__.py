"""Python client of the service, for training code.

    from grm_service.client import Client

    with Client("http://127.0.0.1:8000") as grm:
        verdict = grm.rewards("What is 3 + 4?", ["7", "8"], k=8)
        verdict.rewards  # (9.1, 1.4)

It runs inside trainers, so httpx is its only dependency.
"""

from grm_service.client.asynchronous import AsyncClient
from grm_service.client.blocking import Client
from grm_service.client.failure import NoVerdict
from grm_service.client.verdict import Sample, Shaped, Single, Verdict, WrittenPrinciples

__all__ = ["AsyncClient", "Client", "NoVerdict", "Sample", "Shaped", "Single", "Verdict", "WrittenPrinciples"]
