"""A meta RM without a model."""

import re

from grm_service.errors import EngineError


class ScriptedMetaRM:
    """Grades by the first score in the box: the lower, the better. `graded` has what it was asked."""

    name = "scripted"
    model = "scripted-meta-rm"
    control_tokens = ("<|secret|>",)
    ready = True

    def __init__(self, error=None):
        self.error = error
        self.graded = []

    async def start(self):
        pass

    async def grade(self, judgement):
        self.graded.append(judgement)
        if self.error is not None:
            raise EngineError(self.error)
        first = float(re.search(r"boxed\{([\d.]+)", judgement[-1].content)[1])
        return round(1 - first / 100, 2)

    async def close(self):
        pass


def guide(service, meta_rm):
    """Has a service of a profile without a meta RM choose with this one."""
    service.meta_rm = service._grm._meta_rm = meta_rm
    service.validator._grades = True
