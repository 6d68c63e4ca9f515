"""Usage of each caller since the server started."""

from __future__ import annotations

from dataclasses import dataclass, replace

from grm_service.audit.records import Record
from grm_service.types import Usage

_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class CallerUsage:
    """Verdicts returned to a caller, those judged for it, and the samples and tokens of these."""

    verdicts: int = 0
    judged: int = 0
    samples: int = 0
    usage: Usage = _NOTHING

    def add(self, record: Record, judged: bool) -> CallerUsage:
        """Return the usage with one more verdict; a shared or replayed one (not `judged`) cost nothing."""
        if not judged:
            return replace(self, verdicts=self.verdicts + 1)
        verdict = record.verdict
        return CallerUsage(
            self.verdicts + 1,
            self.judged + 1,
            self.samples + len(verdict.samples),
            self.usage + verdict.usage,
        )
