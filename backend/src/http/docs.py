"""`/docs` and `/redoc`, from this service alone: they work with no internet."""

import mimetypes
from importlib.resources import files
from typing import Annotated

import fastapi_offline
from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import HTMLResponse, RedirectResponse

from src.http.routing import DirectRoute

# The pages load nothing from elsewhere, whatever the libraries in them would like to.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src 'self' blob:"
)

router = APIRouter(include_in_schema=False, route_class=DirectRoute)

# ReDoc would fetch its own logo from elsewhere.
_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"


@router.get("/")
async def root(request: Request) -> RedirectResponse:
    return RedirectResponse(f"{request.scope['root_path']}/docs")


@router.get("/docs")
async def swagger_ui(request: Request) -> HTMLResponse:
    base = request.scope["root_path"]
    return _page(
        get_swagger_ui_html(
            openapi_url=f"{base}{request.app.openapi_url}",
            title=request.app.title,
            swagger_js_url=f"{base}/assets/swagger-ui-bundle.js",
            swagger_css_url=f"{base}/assets/swagger-ui.css",
            swagger_favicon_url=f"{base}/assets/favicon.png",
            swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
        )
    )


@router.get("/redoc")
async def redoc(request: Request) -> HTMLResponse:
    base = request.scope["root_path"]
    return _page(
        get_redoc_html(
            openapi_url=f"{base}{request.app.openapi_url}",
            title=request.app.title,
            redoc_js_url=f"{base}/assets/redoc.standalone.js",
            redoc_favicon_url=f"{base}/assets/favicon.png",
            with_google_fonts=False,
        )
    )


@router.get("/assets/{name}")
async def asset(name: Annotated[str, Path()]) -> Response:
    folder = files(fastapi_offline) / "static"
    if name not in {file.name for file in folder.iterdir()}:
        raise HTTPException(404)
    return Response(
        (folder / name).read_bytes().replace(_LOGO, b"data:,"),
        media_type=mimetypes.guess_type(name)[0],
        headers={"Cache-Control": "public, max-age=86400"},
    )


def _page(page: HTMLResponse) -> HTMLResponse:
    page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return page
