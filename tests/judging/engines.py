"""Scripted engines for the tests of the judge."""

from grm_service.engines.scripted import ScriptedEngine


def writing(*texts):
    """Return an engine that writes one of `texts` per sample, in order, and never closes a critique."""
    remaining = iter(texts)
    return ScriptedEngine(lambda prompt, params: "?" if prompt.continuation else next(remaining))
