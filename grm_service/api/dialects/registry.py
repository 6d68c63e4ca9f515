"""The dialects by name, and their adapters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastapi import FastAPI

from grm_service.api.dialects import chat, engines, nemo_gym, openrlhf, rerank, single, slime
from grm_service.api.dialects.adapter import DialectAdapter
from grm_service.api.dialects.query_options import DEFAULTS, QueryOptions
from grm_service.api.judge_options import parse_query_string
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
# Chat completions are not part of a group, unless the options set its size or a window.
_ALONE_BY_DEFAULT = {"chat"}


@dataclass(frozen=True, slots=True)
class DialectRegistry:
    """The enabled dialects, with the grouping window in seconds and the default options."""

    names: tuple[str, ...] = tuple(_ROUTERS)
    window_s: float = 5.0
    defaults: QueryOptions = DEFAULTS

    @classmethod
    def from_settings(cls, settings: Settings) -> DialectRegistry:
        """Return the dialects that GRM_DIALECTS enables. Raises BadSetting."""
        names = tuple(name for name in re.findall(r"[^\s,]+", settings.dialects) if name != "none")
        if unknown := sorted(set(names) - set(_ROUTERS)):
            raise BadSetting(
                f"GRM_DIALECTS: unknown {', '.join(unknown)}; known: {', '.join(_ROUTERS)}, none"
            )
        defaults = parse_query_string(QueryOptions, "GRM_DIALECT_OPTIONS", settings.dialect_options)
        return cls(names, settings.group_window_s, defaults)

    def install(self, app: FastAPI, service: Service) -> None:
        """Add the routes of the enabled dialects to an application."""
        app.state.adapters = {
            route: DialectAdapter(
                service,
                route,
                self.window_s,
                _HOLD_S.get(route),
                route in _ALONE_BY_DEFAULT,
                self.defaults,
            )
            for route in _ROUTES
        }
        for name in self.names:
            app.include_router(_ROUTERS[name])


ALL_DIALECTS = DialectRegistry()
