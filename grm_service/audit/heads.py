"""The last known head of each trail, in a sealed file beside the key: what the database cannot forget."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass

from grm_service.audit.entry import canonical_json
from grm_service.audit.seal import SealKey
from grm_service.errors import AuditBroken, AuditUnavailable
from grm_service.private_files import read_regular, write_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a trail, by the trail's id; seq 0 if the trail has none."""

    trail: str
    seq: int
    hash: str


class Heads:
    """The file of heads, `<key file>.heads`. Safe for several processes.

    A head is noted after its record is stored, so the file may lag behind a trail but is never ahead of it.
    `place` is the address of a database, without credentials.
    """

    def __init__(self, key: SealKey) -> None:
        self.path = key.path.with_name(f"{key.path.name}.heads")
        self._key = key
        self._noted: tuple[str, Head] | None = None
        self._warned = False

    def at(self, place: str) -> Head | None:
        """Return the head of the trail that was last at a place. Raises AuditUnavailable, AuditBroken."""
        return next((head for head, where in self._load().values() if where == place), None)

    def of(self, trail: str) -> Head | None:
        """Return the noted head of a trail. Raises AuditUnavailable, AuditBroken."""
        return self._load().get(trail, (None, ""))[0]

    def note(self, place: str, head: Head, restarted: bool = False) -> None:
        """Note the head of the trail at a place, unless a later one is noted; log once if that fails.

        After a restart, the new trail takes the place of the one that was there.
        """
        if self._noted == (place, head):
            return
        try:
            with self._key.lock():
                heads = self._load()
                others = [
                    trail for trail, known in heads.items() if known[1] == place and trail != head.trail
                ]
                if others and not restarted:
                    return  # the trail was restarted meanwhile: this process will notice when it writes
                for trail in others:
                    del heads[trail]
                known = heads.get(head.trail, (head, place))[0]
                heads[head.trail] = (head if head.seq >= known.seq else known), place
                self._store(heads)
            self._noted = place, head
        except OSError as failed:
            if not self._warned:
                logger.warning(
                    "the head of the audit trail cannot be noted beside its key (%s): a database that is "
                    "restored to an older state while no service runs stays undetected",
                    failed,
                )
            self._warned = True

    def _load(self) -> dict[str, tuple[Head, str]]:
        try:
            text = read_regular(self.path)
        except FileNotFoundError:
            return {}
        except OSError as failed:
            raise AuditUnavailable(f"the noted heads of the audit trail cannot be read: {failed}") from None
        try:
            value = json.loads(text)
            heads, seal = value["heads"], value["seal"]
            sealed = self._key.has_sealed(seal, "heads", canonical_json(heads))
            loaded = {
                head["trail"]: (Head(head["trail"], head["seq"], head["hash"]), head["place"])
                for head in heads
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            sealed = False
        if not sealed:
            raise AuditBroken(
                f"{self.path} is not sealed with the key beside it: restore the one that was there, or "
                "remove it, which forgets the last records of all trails of this key"
            )
        return loaded

    def _store(self, heads: dict[str, tuple[Head, str]]) -> None:
        rows = [asdict(head) | {"place": place} for head, place in heads.values()]
        seal = self._key.seal("heads", canonical_json(rows))
        write_atomically(self.path, json.dumps({"heads": rows, "seal": seal}, indent=1) + "\n")
