"""grm serve, judge, profiles."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from grm_service.callers import Requester
from grm_service.cli.console import (
    Engine,
    ProfileName,
    SafeConsole,
    err,
    exit_on_error,
    put_json,
    read_request,
    say,
    say_loading,
    settings,
)
from grm_service.cli.judge_options import Given, judge_options, to_fields
from grm_service.factory import open_catalog, open_policy, open_service

logger = logging.getLogger(__name__)

Host = Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (8000).")]


def serve(host: Host = None, port: Port = None, engine: Engine = None, profile: ProfileName = None) -> None:
    """Serve rewards over HTTP. Every setting is also an environment variable: --host is GRM_HOST."""
    from grm_service.api.server import serve as run
    from grm_service.api.telemetry import log_json

    config = settings(host=host, port=port, engine=engine, profile=profile)
    with exit_on_error():
        service = open_service(config)
        policy = open_policy(config, service)
        if config.log_format == "json":
            log_json()
            run(config, service, lambda address: logger.info("serving on %s", address), policy)
        else:
            run(config, service, _announce, policy, say_loading)


@judge_options()
def judge(
    file: Annotated[Path | None, typer.Argument(help="A JSON request; stdin if omitted or -.")] = None,
    engine: Engine = None,
    profile: ProfileName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply of /v1/rewards as JSON.")] = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="Show the critique of every sample, not only the most representative."),
    ] = False,
    *,
    given: Given,
) -> None:
    """Judge one request, in the format of POST /v1/rewards, and show critique, votes and rewards.

    The judge options override the request's fields.
    """
    from grm_service.api.replies import RewardReply
    from grm_service.api.schemas import RewardRequest
    from grm_service.audit.records import Record
    from grm_service.cli.terminal import sampling_bar, show
    from grm_service.profiles.profile import Scale

    config = settings(engine=engine, profile=profile)
    with exit_on_error():
        request = read_request(RewardRequest, file, to_fields(given))

    async def run() -> tuple[Record, Scale]:
        service = open_service(config)
        say_loading(service)
        await service.start()
        try:
            with sampling_bar(err) as on_event:
                record = await service.judge(request.to_task(), on_event, Requester(route="cli"))
                return record, service.scale(record)
        finally:
            await service.close()

    with exit_on_error():
        record, scale = asyncio.run(run())
    if as_json:
        put_json(RewardReply.answer(record, request, scale).model_dump_json(indent=2))
    else:
        show(SafeConsole(), request.to_task(), record, every)


def profiles() -> None:
    """List the known profiles."""
    with exit_on_error():
        catalog = open_catalog(settings())
    table = Table(
        Column("name", no_wrap=True),
        Column("model", no_wrap=True),
        "k",
        Column("description", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    for profile in catalog.profiles.values():
        table.add_row(profile.name, profile.model or "any", str(profile.sampling.k), profile.description)
    SafeConsole().print(table)


def _announce(address: str) -> None:
    from grm_service.api.examples import REWARDS

    body = shlex.quote(json.dumps(REWARDS["pair"]["value"]))
    say(f"serving on {address} (open it in a browser for the explorer), docs on {address}/docs; try:")
    # Not through the console, which would wrap a line that is meant to be pasted.
    sys.stderr.write(f"\n  curl -s {address}/v1/rewards -H 'Content-Type: application/json' -d {body}\n\n")
    sys.stderr.flush()
