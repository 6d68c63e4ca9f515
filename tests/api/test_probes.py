"""What people and machines are told of the probes."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from grm_service.serving.keys import APIKey, Keys
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_before_the_first_run_nothing_is_claimed(serve):
    async with serve(probe_alarm=0.8) as client:
        found = (await client.get("/v1/probes")).json()
        ready = (await client.get("/readyz")).json()
    assert found == {"ran": None, "profile": "smollm2-judge", "alarm": 0.8, "failed": [], "probes": []}
    assert ready["probes"] == {"ran": None, "failed": []}


async def test_a_schedule_runs_the_probes_and_tells_what_they_showed_everywhere(serve):
    async with serve(script="first", probe_every_s=0.05, probe_alarm=0.8) as client:
        await until(lambda: client.probes.report.ran)
        once = client.probes.report.ran
        await until(lambda: client.probes.report.ran > once)
        found = (await client.get("/v1/probes")).json()
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
    rates = {each["name"]: each["rate"] for each in found["probes"]}
    assert rates["position"] == rates["plain"] == 0
    assert rates["identical"] == 1
    assert found["failed"] == [name for name in rates if name != "identical"]
    assert ready.status_code == 200, "probes that fail do not make a server unready"
    assert ready.json()["probes"]["failed"] == found["failed"]
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert told["grm_probe_rate", "identical"] == 1
    assert told["grm_probe_rate", "position"] == told["grm_probe_unreadable", "position"] == 0
    assert told["grm_probes_ran_timestamp_seconds",] >= once.timestamp()


async def test_probes_are_told_to_those_with_a_key(serve):
    async with serve(keys=Keys((APIKey("ann", 64 * "0"),))) as client:
        assert (await client.get("/v1/probes")).status_code == 401
