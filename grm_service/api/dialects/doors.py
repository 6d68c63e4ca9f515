"""All dialects, and how each holds its clients."""

from __future__ import annotations

from grm_service.api.dialects import chat, engines, nemo_gym, openrlhf, rerank, slime
from grm_service.api.dialects.surface import Surface
from grm_service.service import Service

ALL = (openrlhf, slime, engines, rerank, nemo_gym, chat)
_HOLD_S = {"openrlhf": openrlhf.HOLD_S, "slime": slime.HOLD_S, "nemo_gym": nemo_gym.HOLD_S}
_ROUTES = (*_HOLD_S, "classify", "embeddings", "score", "chat")


def surfaces(service: Service, window_s: float) -> dict[str, Surface]:
    """A door for each dialect, by name."""
    return {route: Surface(service, route, window_s, _HOLD_S.get(route)) for route in _ROUTES}
