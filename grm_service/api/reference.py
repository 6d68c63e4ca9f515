"""The pages `/docs` and `/redoc`: every route and field, without internet access.

Their addresses are relative, and so is the server in the OpenAPI document: they also work behind a proxy that
strips a prefix from the path, and behind an API key in the path.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse

SERVERS = [{"url": "."}]
"""The servers of the OpenAPI document: where the document itself is."""
_STATIC = "static-offline-docs"

router = APIRouter(include_in_schema=False)


@router.get("/docs")
@router.get("/docs/")
async def docs(request: Request) -> HTMLResponse:
    """Return the page that can send requests."""
    base = _base(request)
    return get_swagger_ui_html(
        openapi_url=f"{base}openapi.json",
        title="grm-service",
        swagger_js_url=f"{base}{_STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{base}{_STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{base}{_STATIC}/favicon.png",
    )


@router.get("/redoc")
@router.get("/redoc/")
async def redoc(request: Request) -> HTMLResponse:
    """Return the page to read."""
    base = _base(request)
    return get_redoc_html(
        openapi_url=f"{base}openapi.json",
        title="grm-service",
        redoc_js_url=f"{base}{_STATIC}/redoc.standalone.js",
        redoc_favicon_url=f"{base}{_STATIC}/favicon.png",
        with_google_fonts=False,
    )


def _base(request: Request) -> str:
    """Return the address of the service's root, relative to the page."""
    return "../" if request.url.path.endswith("/") else "./"
