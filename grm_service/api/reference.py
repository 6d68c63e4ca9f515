"""The pages `/docs` and `/redoc`: every route and field, without internet access.

Their addresses are relative, and so is the server in the OpenAPI document: they also work behind a proxy that
strips a prefix from the path, and behind an API key in the path. Their content security policy allows nothing
from other origins.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

SERVERS = [{"url": "."}]
"""The servers of the OpenAPI document: where the document itself is."""
_STATIC = "static-offline-docs"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; worker-src blob:; object-src 'none'; frame-ancestors 'none'"
    )
}
# Redoc's footer loads it, and leaves it out if it is no image.
_LOGO, _NO_IMAGE = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,"

router = APIRouter(include_in_schema=False)


@router.get("/docs")
@router.get("/docs/")
async def docs(request: Request) -> HTMLResponse:
    """Return the page that can send requests."""
    base = _base(request)
    page = get_swagger_ui_html(
        openapi_url=f"{base}openapi.json",
        title="grm-service",
        swagger_js_url=f"{base}{_STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{base}{_STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{base}{_STATIC}/favicon.png",
    )
    page.headers.update(_HEADERS)
    return page


@router.get("/redoc")
@router.get("/redoc/")
async def redoc(request: Request) -> HTMLResponse:
    """Return the page to read."""
    base = _base(request)
    page = get_redoc_html(
        openapi_url=f"{base}openapi.json",
        title="grm-service",
        redoc_js_url=f"{base}redoc/script.js",
        redoc_favicon_url=f"{base}{_STATIC}/favicon.png",
        with_google_fonts=False,
    )
    page.headers.update(_HEADERS)
    return page


@router.get("/redoc/script.js")
async def redoc_script() -> Response:
    """Return Redoc without the logo that it loads from its vendor."""
    return Response(_redoc(), media_type="text/javascript", headers={"Cache-Control": "no-cache"})


@cache
def _redoc() -> bytes:
    script = Path(fastapi_offline.__file__).parent / "static/redoc.standalone.js"
    return script.read_bytes().replace(_LOGO, _NO_IMAGE)


def _base(request: Request) -> str:
    """Return the address of the service's root, relative to the page."""
    return "../" if request.url.path.endswith("/") else "./"
