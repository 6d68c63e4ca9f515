"""grm audit: is the trail whole, what does it hold, does a verdict come out again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from grm_service.audit import chain
from grm_service.audit.compare import differences
from grm_service.audit.entry import canonical, keeps_text, to_record
from grm_service.audit.records import Record
from grm_service.audit.store import Store
from grm_service.cli.console import Engine, fail, failing, say, settings
from grm_service.errors import GRMError, UnknownVerdict
from grm_service.factory import open_service, open_trail
from grm_service.review.reviews import preferences
from grm_service.settings import Settings
from grm_service.types import NOBODY, Verdict

app = typer.Typer(help="The audit trail, in the database that GRM_AUDIT_URL names.", no_args_is_help=True)


@app.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="SEQ:HASH as printed by an earlier run; it must still be there.")
    ] = None,
) -> None:
    """Read the whole trail; name the first record that is not as it was written, and exit with 1."""
    with failing(), _store() as store:
        checked = chain.verify(store, None if head is None else _noted(head))
    if checked.bad is not None:
        fail(GRMError(f"record {checked.bad} ({checked.id or 'none there'}): {checked.why}"))
    say(f"{checked.records} records from {checked.first} on are as they were written; the last is")
    print(f"{checked.head}:{checked.hash}")  # noqa: T201


@app.command()
def export() -> None:
    """Write every record to stdout as JSON Lines, with its place and its hash in the chain."""
    with failing(), _store() as store:
        for row in store.all():
            line = {"seq": row.seq, "hash": row.hash, "body": json.loads(row.body)}
            sys.stdout.write(canonical(line) + "\n")


@app.command("preferences")
def preferences_() -> None:
    """Write what reviewers decided to stdout as preference data, JSON Lines."""
    with failing(), _store() as store:
        for item in preferences(store, NOBODY):
            sys.stdout.write(json.dumps(item, ensure_ascii=False) + "\n")


@app.command()
def prune(
    days: Annotated[float, typer.Option(min=0, max=36500, help="Records older than this are removed.")],
) -> None:
    """Remove old records. What is left still verifies, and a checkpoint in it says what was removed."""
    with failing(), _store() as store:
        removed = chain.prune(store, datetime.now(UTC) - timedelta(days))
    say(f"{removed} records were removed")


@app.command()
def replay(
    id: Annotated[str, typer.Argument(help="A verdict's id, vd_...")],
    engine: Engine = None,
) -> None:
    """Judge again what a verdict judged and show the difference; exit with 1 where there is one."""
    with failing():
        with _store() as store:
            row = store.find(id)
        if row is None or row.kind != "verdict":
            raise UnknownVerdict(id)
        if not keeps_text(row.body):
            raise GRMError(f"{id} was kept without texts (GRM_AUDIT_TEXT): it cannot be judged again")
        record = to_record(row.body)
        found = asyncio.run(_replayed(settings(engine=engine, profile=record.verdict.profile), record))
        lines = list(differences(record.verdict, found))
    for line in lines or ["the same plan, texts and rewards"]:
        print(line)  # noqa: T201
    raise typer.Exit(1 if lines else 0)


async def _replayed(found: Settings, record: Record) -> Verdict:
    service = open_service(found)
    await service.start()
    try:
        return await service.replay(record)
    finally:
        await service.close()


@contextmanager
def _store() -> Iterator[Store]:
    store = open_trail(settings()).store
    store.open()
    try:
        yield store
    finally:
        store.close()


def _noted(head: str) -> tuple[int, str]:
    seq, _, noted = head.partition(":")
    if not seq.isdigit() or not noted:
        raise GRMError(f"{head!r} is not SEQ:HASH as `grm audit verify` prints it")
    return int(seq), noted
