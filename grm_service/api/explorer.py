"""The explorer: a web page at `/`, served from static files.

The content security policy allows scripts, styles and requests from this origin only, and no text can become
HTML (trusted types without a policy).
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

_WEB = Path(__file__).parent.parent / "web"
# Fixed here: the machine's own table of MIME types could stop the scripts, because of `nosniff`.
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Revalidated each time (304), so that a page never runs with the scripts of another version.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)
_files = StaticFiles(directory=_WEB)


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """Return the page."""
    return await asset(request, "index.html")


@router.api_route("/web/{path:path}", methods=["GET", "HEAD"])
async def asset(request: Request, path: str) -> Response:
    """Return one of the files of the page."""
    response = await _files.get_response(path, request.scope)
    response.headers.update(_HEADERS)
    if response.status_code == 200:
        response.headers["Content-Type"] = f"{_TYPES[Path(path).suffix]}; charset=utf-8"
    return response
