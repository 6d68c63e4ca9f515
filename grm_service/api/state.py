"""Accessors for the objects that a request needs from its application."""

from __future__ import annotations

from fastapi import Request

from grm_service.improving.policy import Policy
from grm_service.probes.runner import ProbeRunner
from grm_service.serving.service import Service


def policy(request: Request) -> Policy:
    """Return the policy that writes drafts."""
    policy: Policy = request.app.state.policy
    return policy


def service(request: Request) -> Service:
    """Return the service behind the application."""
    service: Service = request.app.state.service
    return service


def probe_runner(request: Request) -> ProbeRunner:
    """Return the runner that probes the service."""
    runner: ProbeRunner = request.app.state.probe_runner
    return runner
