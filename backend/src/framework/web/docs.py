"""`/docs` and `/redoc`, which work offline: the service has all assets of both."""

import mimetypes
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Annotated, NamedTuple

import fastapi_offline
from fastapi import APIRouter, Header, HTTPException, Path, Request, Response
from fastapi.openapi.docs import get_redoc_html
from starlette.responses import HTMLResponse, RedirectResponse
from xxhash import xxh3_128_hexdigest

from src.framework.web.responses import conditional
from src.framework.web.routing import StrictRoute

# Keeps the pages' libraries from loading anything from other hosts.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False, route_class=StrictRoute)

_SWAGGER_UI = Template((files(__package__) / "docs.html").read_text())

# ReDoc would fetch its logo from this address.
_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"


@router.get("/")
async def root(request: Request) -> RedirectResponse:
    return RedirectResponse(f"{request.scope['root_path']}/docs")


@router.get("/docs")
async def swagger_ui(request: Request) -> HTMLResponse:
    base = request.scope["root_path"]
    return _page(
        HTMLResponse(
            _SWAGGER_UI.substitute(
                title=request.app.title,
                contract=f"{base}{request.app.openapi_url}",
                user_claim=escape(request.app.user_claim),
                swagger_bundle=_url(base, "swagger-ui-bundle.js"),
                swagger_css=_url(base, "swagger-ui.css"),
                script=_url(base, "docs.js"),
                css=_url(base, "docs.css"),
                favicon=_url(base, "favicon.png"),
            )
        )
    )


@router.get("/redoc")
async def redoc(request: Request) -> HTMLResponse:
    base = request.scope["root_path"]
    return _page(
        get_redoc_html(
            openapi_url=f"{base}{request.app.openapi_url}",
            title=request.app.title,
            redoc_js_url=_url(base, "redoc.standalone.js"),
            redoc_favicon_url=_url(base, "favicon.png"),
            with_google_fonts=False,
        )
    )


@router.get("/assets/{name}")
async def asset(
    request: Request,
    name: Annotated[str, Path()],
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    found = _assets().get(name)
    if found is None:
        raise HTTPException(404)
    is_this_version = request.scope["query_string"] == f"v={found.version}".encode()
    max_age = "max-age=31536000, immutable" if is_this_version else "max-age=86400"
    response = Response(
        found.content,
        media_type=mimetypes.guess_type(name)[0],
        headers={"Cache-Control": f"public, {max_age}", "ETag": f'"{found.version}"'},
    )
    return conditional(response, if_none_match)


class _Asset(NamedTuple):
    content: bytes
    version: str


@cache
def _assets() -> dict[str, _Asset]:
    """Read the assets at the first request: a worker that serves no docs saves 3 MB."""
    folder = files(__package__)
    contents = {
        file.name: file.read_bytes().replace(_LOGO, b"data:,")
        for file in (
            *(files(fastapi_offline) / "static").iterdir(),
            folder / "docs.css",
            folder / "docs.js",
        )
    }
    return {
        name: _Asset(content, xxh3_128_hexdigest(content)) for name, content in contents.items()
    }


def _url(base: str, name: str) -> str:
    return f"{base}/assets/{name}?v={_assets()[name].version}"


def _page(page: HTMLResponse) -> HTMLResponse:
    page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return page
