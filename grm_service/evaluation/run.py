"""The entry points: evaluate a judge, compare runs and check a report against a committed one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from grm_service.client import AsyncClient
from grm_service.concurrency import for_each
from grm_service.errors import BadTask
from grm_service.evaluation.baselines import (
    MAX_LOGPROB_K,
    baseline_judge,
    check_engine,
    check_options,
    prompt_fingerprint,
    score_scale,
)
from grm_service.evaluation.comparison import Check, Comparisons, check_reports, compare_runs
from grm_service.evaluation.dataset import Item, subset
from grm_service.evaluation.files import read_report, read_runs, write_comparisons, write_report
from grm_service.evaluation.judges import JudgeItem, check_reachable, local_judge, remote_judge
from grm_service.evaluation.loading import load
from grm_service.evaluation.report import EvalReport, measure
from grm_service.evaluation.run_folder import EvalSetup, ItemResult, JudgeKind, RunFolder
from grm_service.factory import open_catalog, open_service
from grm_service.profiles.catalog import fingerprint
from grm_service.profiles.profile import Scale
from grm_service.serving.service import Service
from grm_service.settings import EngineName, Settings, load_settings
from grm_service.types import JudgeOptions

OnStart = Callable[[int, int], None]
"""Called before the first item is judged, with the numbers of items already judged and of all items."""
_MAX_K = 64
_Result = tuple[EvalSetup, list[ItemResult], Scale | None]


def evaluate(
    data: str | Path,
    out: str | Path,
    *,
    profile: str | None = None,
    engine: EngineName | None = None,
    url: str | None = None,
    key: str | None = None,
    options: JudgeOptions = JudgeOptions(),
    ks: Sequence[int] = (1, 2, 4, 8),
    judge: JudgeKind = "grm",
    limit: int | None = None,
    format: str | None = None,
    concurrency: int = 8,
    on_load: Callable[[Service], None] = lambda service: None,
    on_start: OnStart = lambda done, total: None,
    on_judged: Callable[[ItemResult], None] = lambda result: None,
) -> EvalReport:
    """Judge the items of `data`, write a report to the folder `out` and return it.

    `data` is a file, a folder or OWNER/NAME[:SPLIT] of the Hub (see loading.load). Items are judged by a
    service in this process, configured by `profile`, `engine` and the `GRM_*` environment variables, or by
    the one at `url` with the API key `key`. Every item is judged once with `options.k` samples, by default
    the largest of `ks`; accuracy at smaller `ks` is computed from these samples. Finished items are stored in
    `out`: an interrupted run resumes if it is called again with the same arguments.

    `limit` takes a subset of the items, stratified by source; `concurrency` items are judged at once.
    `on_load` is called before the model is loaded, `on_start` before the first item, `on_judged` after every
    item. Runs its own event loop, so call it from synchronous code. Raises GRMError, and BadTask for unusable
    arguments.
    """
    check_options(judge, options, url)
    k, ks = _sample_counts(options, ks, judge)
    dataset = load(str(data), format)
    items = dataset.items if limit is None else subset(dataset.items, limit)
    run = _EvaluationRun(items, Path(out), concurrency, on_load, on_start, on_judged)
    setup = _setup(profile, options, k, judge)
    if url:
        judging = run.remote(setup, url, key)
    else:
        judging = run.local(setup, load_settings(engine=engine, profile=profile))
    setup, results, scale = asyncio.run(judging)
    report = measure(results, setup, ks, scale, Path(data).name, dataset.left_out, dataset.unread)
    write_report(report, Path(out))
    return report


def compare(runs: Sequence[str | Path], out: str | Path | None = None) -> Comparisons:
    """Compare runs over the same items with the first one, item by item.

    A run is the folder of `evaluate`, or FOLDER@VOTE with another vote over its samples (median, majority or
    meta). With `out`, writes compare.json, compare.md and a plot there. Raises BadTask.
    """
    if len(runs) < 2:
        raise BadTask("give two runs or more, such as: grm eval compare runs/a runs/b")
    comparisons = compare_runs(read_runs([str(run) for run in runs]))
    if out is not None:
        write_comparisons(comparisons, Path(out))
    return comparisons


def reproduce(report: str | Path, committed: str | Path) -> list[Check]:
    """Check the figures of a report.json against the intervals of a committed one. Raises BadTask."""
    return check_reports(read_report(Path(report)), read_report(Path(committed)))


async def judge_items(
    items: list[Item],
    folder: RunFolder,
    judge: JudgeItem,
    concurrency: int,
    on_judged: Callable[[ItemResult], None] = lambda result: None,
) -> list[ItemResult]:
    """Judge the items that the folder does not have yet and return the results of all, in order.

    Raises the first failure that is not one of the judge's; results up to then are stored.
    """

    async def judge_one(item: Item) -> None:
        result = await judge(item, folder.setup)
        folder.add(result)
        on_judged(result)

    await for_each(folder.remaining(items), judge_one, concurrency)
    return [folder.done[item.id] for item in items]


class _EvaluationRun:
    """The items to judge, the folder for the results, and the callbacks."""

    def __init__(
        self,
        items: list[Item],
        out: Path,
        concurrency: int,
        on_load: Callable[[Service], None],
        on_start: OnStart,
        on_judged: Callable[[ItemResult], None],
    ) -> None:
        self._items, self._out, self._concurrency = items, out, concurrency
        self._on_load, self._on_start, self._on_judged = on_load, on_start, on_judged

    async def local(self, setup: EvalSetup, settings: Settings) -> _Result:
        """Judge with a service in this process; it is not started if all items are judged already."""
        service = open_service(settings)
        profile, engine = service.profile, service.engine
        setup = replace(
            setup,
            profile=profile.name,
            engine=engine.name,
            score=setup.score or profile.sampling.score,
            fingerprint=prompt_fingerprint(profile, setup.judge),
        )
        if setup.principle_set:
            principles = service.catalog.principle_set(setup.principle_set).items()
            setup = replace(setup, principle_set_fingerprint=fingerprint(principles))
        with RunFolder(self._out, setup) as folder:
            try:
                # A finished run is reported again without loading the model.
                if folder.remaining(self._items):
                    self._on_load(service)
                    await service.start()
                    check_engine(engine, setup.judge)
                judge = local_judge(service) if setup.judge == "grm" else baseline_judge(engine, profile)
                results = await self._judge(folder, judge)
            finally:
                await service.close()
        return setup, results, score_scale(profile, setup.judge)

    async def remote(self, setup: EvalSetup, url: str, key: str | None) -> _Result:
        """Judge with the service at `url`."""
        await check_reachable(url)  # the client would retry a wrong address for every item
        async with AsyncClient(url, key, concurrency=self._concurrency) as client:
            with RunFolder(self._out, setup) as folder:
                results = await self._judge(folder, remote_judge(client))
        # Replies do not include the scale, so it is looked up in our catalog by the profile's fingerprint.
        scales = {fingerprint(each): each.scale for each in open_catalog(load_settings()).profiles.values()}
        served = next((result.fingerprint for result in results if result.fingerprint), "")
        return setup, results, scales.get(served)

    async def _judge(self, folder: RunFolder, judge: JudgeItem) -> list[ItemResult]:
        total = len(self._items)
        self._on_start(total - len(folder.remaining(self._items)), total)
        return await judge_items(self._items, folder, judge, self._concurrency, self._on_judged)


def _sample_counts(options: JudgeOptions, ks: Sequence[int], judge: JudgeKind) -> tuple[int, list[int]]:
    """Return the number of samples per item, and the values of k to report. Raises BadTask."""
    k = max(ks, default=0) if options.k is None else options.k
    if not all(1 <= each <= _MAX_K for each in (k, *ks)):
        raise BadTask(f"k must be from 1 to {_MAX_K}: {k}, {list(ks)}")
    if judge == "logprob":
        k = min(k, MAX_LOGPROB_K)
    return k, sorted({j for j in ks if j < k} | {k})


def _setup(profile: str | None, options: JudgeOptions, k: int, judge: JudgeKind) -> EvalSetup:
    if options.principles.items:
        raise BadTask("a run stores no principles of its own: put them into a principle set and name that")
    return EvalSetup(
        profile=profile or "",
        engine="service",
        k=k,
        score=options.score,
        principles=options.principles.mode,
        principle_set=options.principles.set_name,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        seed=options.seed,
        judge=judge,
        k_meta=options.k_meta,
        stop=options.stop,
        timeout_s=options.timeout_s,
        thinking_tokens=options.thinking_tokens,
    )
