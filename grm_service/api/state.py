"""What a request finds in its application."""

from __future__ import annotations

from fastapi import Request

from grm_service.api.dialects.surface import Surface
from grm_service.improving.policy import Policy
from grm_service.service import Service


def surface(request: Request, route: str) -> Surface:
    """The door of a dialect."""
    found: Surface = request.app.state.surfaces[route]
    return found


def policy(request: Request) -> Policy:
    """Who writes drafts."""
    found: Policy = request.app.state.policy
    return found


def service(request: Request) -> Service:
    """The service behind the application."""
    found: Service = request.app.state.service
    return found
