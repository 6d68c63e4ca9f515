"""The probe report over HTTP, on /readyz and in the metrics."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from grm_service.api.probes import probe_schedule
from grm_service.errors import BadSetting
from grm_service.serving.keys import APIKey, Keys
from grm_service.settings import Settings
from grm_service.types import JudgeOptions, PrincipleSpec
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_report_before_first_run(serve):
    async with serve(probe_alarm=0.8) as client:
        report = (await client.get("/v1/probes")).json()
        ready = (await client.get("/readyz")).json()
    assert report == {"ran": None, "profile": "smollm2-judge", "alarm": 0.8, "failed": [], "probes": []}
    assert ready["probes"] == {"ran": None, "failed": []}


async def test_scheduled_probes_are_reported(serve):
    async with serve(script="first", probe_every_s=0.05, probe_alarm=0.8) as client:
        await until(lambda: client.probes.report.ran)
        once = client.probes.report.ran
        await until(lambda: client.probes.report.ran > once)
        report = (await client.get("/v1/probes")).json()
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
    rates = {each["name"]: each["rate"] for each in report["probes"]}
    assert rates["position"] == rates["plain"] == 0
    assert rates["identical"] == 1
    assert report["failed"] == [name for name in rates if name != "identical"]
    assert ready.status_code == 200, "probes that fail do not make a server unready"
    assert ready.json()["probes"]["failed"] == report["failed"]
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert samples["grm_probe_rate", "identical"] == 1
    assert samples["grm_probe_rate", "position"] == samples["grm_probe_unreadable", "position"] == 0
    assert samples["grm_probes_ran_timestamp_seconds",] >= once.timestamp()


async def test_probes_need_a_key(serve):
    async with serve(keys=Keys((APIKey("ann", 64 * "0"),))) as client:
        assert (await client.get("/v1/probes")).status_code == 401


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", JudgeOptions()),
        ("k=4&score=soft", JudgeOptions(k=4, score="soft")),
        ("mode=fixed&principles=code", JudgeOptions(principles=PrincipleSpec("fixed", "code"))),
    ],
)
def test_probe_options_setting(text, options):
    assert probe_schedule(Settings(probe_options=text)).options == options


@pytest.mark.parametrize("text", ["k=many", "kk=4", "k=65", "k", "group=16"])
def test_invalid_probe_options_stop_the_start(text):
    with pytest.raises(BadSetting, match=f"GRM_PROBE_OPTIONS: {text.partition('=')[0]}: "):
        probe_schedule(Settings(probe_options=text))


async def test_scheduled_probes_use_the_options(serve):
    async with serve(probe_every_s=3600, probe_options="k=3&max_tokens=9") as client:
        await until(lambda: client.probes.report.ran)
        listed = (await client.get("/v1/verdicts?limit=1")).json()["verdicts"]
        stored = (await client.get(f"/v1/verdicts/{listed[0]['id']}")).json()
    assert (stored["route"], stored["request"]["k"], stored["request"]["max_tokens"]) == ("probe", 3, 9)
