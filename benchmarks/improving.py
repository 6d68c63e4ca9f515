"""The gain of improving the answers to a file of prompts.

`python -m benchmarks.improving PROMPTS --out lineages.jsonl` uses the settings of `grm serve` (GRM_*),
resumes an interrupted run, and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from grm_service.api.lineage import ImproveReply
from grm_service.factory import open_policy, open_service
from grm_service.improving.lineage import ImproveTask
from grm_service.improving.loop import improve
from grm_service.improving.prompt_file import PromptItem, read_prompts
from grm_service.settings import Settings
from grm_service.types import JudgeOptions


async def lineages(prompts: list[PromptItem], out: Path, changed: dict[str, Any]) -> None:
    """Append a line for every prompt that has none yet."""
    done = {row["id"] for row in _rows(out)}
    settings = Settings()
    service = open_service(settings)
    policy = open_policy(settings, service)
    try:
        await service.start()
        with out.open("a", encoding="utf-8") as file:
            for each in prompts:
                if each.id in done:
                    continue
                whole = await improve(service, policy, ImproveTask(messages=each.messages, **changed))
                reply = ImproveReply.of(whole, "rewards").model_dump(mode="json")
                file.write(json.dumps({"id": each.id} | reply, ensure_ascii=False) + "\n")
                file.flush()
                print(f"{each.id}: {reply['stopped']}, {reply['gain']}, {reply['flags']}", file=sys.stderr)
    finally:
        await policy.close()
        await service.close()


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table with a row for each prompt, and a summary."""
    lines = [
        "| prompt | original | best | gain | second opinion | length | stopped | flags |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        verdict, second = row["rounds"][-1], row["second_opinion"]
        first, best = (_reward(verdict, row[which]) for which in ("original", "best"))
        opinion = "original stayed" if second is None else second["error"] or _gain(second["gain"])
        growth = "-" if row["length"]["growth"] is None else f"{row['length']['growth']:.2f}"
        cells = (first, best, _gain(row["gain"]), opinion, growth, row["stopped"], ", ".join(row["flags"]))
        lines.append(f"| {row['id']} | {' | '.join(cells)} |")
    better = [row for row in rows if row["best"] != row["original"]]
    opinions = [row["second_opinion"] for row in better if row["second_opinion"]["gain"]]
    lines += [
        "",
        f"{len(better)} of {len(rows)} better than the original by reward, "
        f"{sum('gain_unclear' not in row['flags'] for row in better)} clearly; the second opinion shares "
        f"{sum(bool(each['shared']) for each in opinions)}.",
        f"Mean gain: {_mean([row['gain']['mean'] if row['gain'] else 0.0 for row in rows])} by the judge; "
        f"where it saw one: {_mean([row['gain']['mean'] for row in better])}, by the second opinion "
        f"{_mean([each['gain']['mean'] for each in opinions])}.",
    ]
    return "\n".join(lines)


def _reward(judged: dict[str, Any], draft: int) -> str:
    at, verdict = judged["drafts"].index(draft), judged["verdict"]
    return f"{verdict['rewards'][at]:.2f} (std {verdict['std'][at]:.2f})"


def _gain(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "-"
    return f"{gain['mean']:+.2f}" + ("" if gain["error"] is None else f" ± {gain['error']:.2f}")


def _mean(values: list[float]) -> str:
    if not values:
        return "none"
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{fmean(values):+.2f} ± {error:.2f} (n = {len(values)})"


def _rows(out: Path) -> list[dict[str, Any]]:
    """Return the complete lines; a killed run may leave a truncated one at the end."""
    if not out.exists():
        return []
    *lines, torn = out.read_text(encoding="utf-8").split("\n")
    if torn:
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1800)
    args = parser.parse_args()
    prompts = read_prompts(args.prompts)[: args.limit]
    options = JudgeOptions(k=args.k)
    changed = {"max_tokens": args.max_tokens, "options": options, "seconds": args.seconds}
    asyncio.run(lineages(prompts, args.out, changed))
    print(table(_rows(args.out)))


if __name__ == "__main__":
    main()
