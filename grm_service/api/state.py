"""What a request finds in its application."""

from __future__ import annotations

from fastapi import Request

from grm_service.service import Service


def service(request: Request) -> Service:
    """The service behind the application."""
    found: Service = request.app.state.service
    return found
