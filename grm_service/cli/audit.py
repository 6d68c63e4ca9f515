"""grm audit: list, verify, export, prune, replay and restart the audit trail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from grm_service.audit import chain
from grm_service.audit.compare import differences
from grm_service.audit.entry import canonical_json
from grm_service.audit.queries import Search
from grm_service.audit.records import Record
from grm_service.audit.restart import restart as restart_trail
from grm_service.audit.trail import Trail
from grm_service.callers import NOBODY
from grm_service.cli.console import Engine, exit_on_error, fail, put, put_json, say, settings
from grm_service.cli.terminal import letter
from grm_service.errors import GRMError
from grm_service.factory import open_service, open_trail
from grm_service.printable import printable_line
from grm_service.review.reviews import VerdictArchive
from grm_service.settings import Settings
from grm_service.types import Verdict

app = typer.Typer(help="Work with the audit trail in the database GRM_AUDIT_URL.", no_args_is_help=True)


@app.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option(help="SEQ:HASH as printed by an earlier run; the trail must still contain it."),
    ] = None,
) -> None:
    """Verify the whole trail, writing nothing. Name the first invalid record, if any, and exit with 1."""
    with exit_on_error(), _read_trail() as trail:
        check = chain.verify(trail.store, None if head is None else _parse_head(head))
    if check.fault is not None:
        fail(GRMError(check.fault))
    if check.before:
        say(f"{check.before} records before {check.first} are of an earlier chain, which was broken")
    say(f"all {check.records} records from {check.first} on are valid; the last one is")
    put(f"{check.head}:{check.hash}")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most verdicts to list.")] = 20,
    profile: Annotated[str | None, typer.Option(help="Only verdicts of this profile.")] = None,
    search: Annotated[str | None, typer.Option(help="Only records that contain this text.")] = None,
) -> None:
    """List verdicts, newest first: time, id, best response, rewards and the start of the query."""
    with exit_on_error(), _read_trail() as trail:
        found = VerdictArchive(trail).browse(NOBODY, Search(limit=limit, profile=profile, text=search))
    for verdict in found:
        each = verdict.summary
        rewards = " ".join(f"{letter(i)} {reward:.2f}" for i, reward in enumerate(each.rewards))
        best = "tie" if each.best is None else letter(each.best)
        created, query = f"{verdict.created:%Y-%m-%d %H:%M:%S}", printable_line(each.query[:80])
        put(f"{created}  {verdict.id}  {verdict.profile}  {best}  {rewards}  {query}")
    if not found:
        say("no verdicts")


@app.command()
def export() -> None:
    """Write every record to stdout as JSON Lines, with its seq and hash."""
    with exit_on_error(), _read_trail() as trail:
        for row in trail.store.all():
            line = {"seq": row.seq, "hash": row.hash, "body": json.loads(row.body)}
            put_json(canonical_json(line))


@app.command()
def preferences() -> None:
    """Write reviewed verdicts to stdout as preference data, in JSON Lines."""
    with exit_on_error(), _read_trail() as trail:
        archive = VerdictArchive(trail)
        for seqs in archive.last_reviews(NOBODY):
            if (item := archive.preference(*seqs)) is not None:
                put_json(json.dumps(item, ensure_ascii=False))


@app.command()
def prune(
    days: Annotated[float, typer.Option(min=0, max=36500, help="Remove records older than this.")],
) -> None:
    """Remove old records. The remaining trail still verifies, and a checkpoint records the removal."""
    with exit_on_error(), closing(open_trail(settings()).store) as store:
        store.open()
        removed = chain.prune(store, datetime.now(UTC) - timedelta(days))
    say(f"{removed} records were removed")


@app.command()
def replay(
    id: Annotated[str, typer.Argument(help="A verdict's id, vd_...")],
    engine: Engine = None,
) -> None:
    """Judge the task of a verdict again and print the differences; exit with 1 if there are any."""
    with exit_on_error():
        with _read_trail() as trail:
            stored, _ = VerdictArchive(trail).find(NOBODY, id)
        if not stored.has_text:
            raise GRMError(f"{id} was stored without texts (GRM_AUDIT_TEXT) and cannot be replayed")
        record = stored.record
        again = asyncio.run(_replay(settings(engine=engine, profile=record.verdict.profile), record))
        lines = list(differences(record.verdict, again))
    for line in lines or ["the same plan, texts and rewards"]:
        put(line)
    raise typer.Exit(1 if lines else 0)


@app.command()
def restart(
    reason: Annotated[str, typer.Option(help="Why, for the record that begins the new chain.")],
    intact: Annotated[bool, typer.Option(help="Restart a trail that is valid too.")] = False,
) -> None:
    """Begin a new chain after a broken trail was looked at. Old records stay readable, as evidence.

    Stop the services that write to the trail before, and start them after it.
    """
    with exit_on_error(), closing(open_trail(settings()).store) as store:
        seq = restart_trail(store, reason, intact)
    say(f"a new chain begins with record {seq}, which states the reason")


async def _replay(config: Settings, record: Record) -> Verdict:
    service = open_service(config)
    await service.load()
    try:
        return await service.replay(record)
    finally:
        await service.close()


@contextmanager
def _read_trail() -> Iterator[Trail]:
    """Open the trail to read it, without creating or changing anything."""
    trail = open_trail(settings())
    with closing(trail.store):
        trail.store.open_to_read()
        yield trail


def _parse_head(head: str) -> tuple[int, str]:
    seq, _, digest = head.partition(":")
    if not seq.isdigit() or not digest:
        raise GRMError(f"{head!r} is not SEQ:HASH as printed by `grm audit verify`")
    return int(seq), digest
