"""All dialects, and how each holds its clients."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastapi import FastAPI
from pydantic import ValidationError

from grm_service.api.dialects import chat, engines, nemo_gym, openrlhf, rerank, single, slime
from grm_service.api.dialects.adapter import DialectAdapter
from grm_service.api.dialects.query_options import USUAL, QueryOptions, usual
from grm_service.errors import BadSetting
from grm_service.serving.service import Service
from grm_service.settings import Settings

_ROUTERS = {
    "single": single.router,
    "openrlhf": openrlhf.router,
    "slime": slime.router,
    "engines": engines.router,
    "rerank": rerank.router,
    "nemo_gym": nemo_gym.router,
    "chat": chat.router,
}
_HOLD_S = {"openrlhf": openrlhf.HOLD_S, "slime": slime.HOLD_S, "nemo_gym": nemo_gym.HOLD_S}
_ROUTES = (*_HOLD_S, "single", "classify", "embeddings", "score", "chat")
# Whoever chats has no siblings, unless the wish tells their number or how long to wait for them.
_ALONE = {"chat"}


@dataclass(frozen=True, slots=True)
class DialectRegistry:
    """Which dialects are open, how long their responses wait for siblings, and what is wished unless told."""

    names: tuple[str, ...] = tuple(_ROUTERS)
    window_s: float = 5.0
    usual: QueryOptions = USUAL

    @classmethod
    def of(cls, settings: Settings) -> DialectRegistry:
        """Raises BadSetting."""
        names = tuple(name for name in re.findall(r"[^\s,]+", settings.dialects) if name != "none")
        if unknown := sorted(set(names) - set(_ROUTERS)):
            raise BadSetting(
                f"GRM_DIALECTS: unknown {', '.join(unknown)}; known: {', '.join(_ROUTERS)}, none"
            )
        try:
            return cls(names, settings.group_window_s, usual(settings.dialect_options))
        except ValidationError as wrong:
            said = "; ".join(f"{error['loc'][0]}: {error['msg']}" for error in wrong.errors())
            raise BadSetting(f"GRM_DIALECT_OPTIONS: {said}") from None

    def open(self, app: FastAPI, service: Service) -> None:
        """Adds their routes to the application."""
        app.state.adapters = {
            route: DialectAdapter(
                service, route, self.window_s, _HOLD_S.get(route), route in _ALONE, self.usual
            )
            for route in _ROUTES
        }
        for name in self.names:
            app.include_router(_ROUTERS[name])


OPEN = DialectRegistry()
"""All of them."""
