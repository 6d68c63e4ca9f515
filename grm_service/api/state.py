"""What a request finds in its application."""

from __future__ import annotations

from fastapi import Request

from grm_service.improving.policy import Policy
from grm_service.probes.runner import ProbeRunner
from grm_service.serving.service import Service


def policy(request: Request) -> Policy:
    """Who writes drafts."""
    found: Policy = request.app.state.policy
    return found


def service(request: Request) -> Service:
    """The service behind the application."""
    found: Service = request.app.state.service
    return found


def probe_runner(request: Request) -> ProbeRunner:
    """Return the runner that probes the service."""
    found: ProbeRunner = request.app.state.probe_runner
    return found
