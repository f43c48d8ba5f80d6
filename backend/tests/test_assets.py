"""The service reads the assets of its pages once, and browsers cache an asset until it changes."""

import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path

import fastapi_offline
import httpx
import pytest

from tests.serving import serving
from tests.tasks import assert_problem

ASSET = "/assets/swagger-ui.css"


def assets_of(api: httpx.Client, page: str) -> list[str]:
    return re.findall(r'(?:src|href)="(/assets/[^"]+)"', api.get(page).text)


def test_the_disk_is_read_once(postgres: str, tmp_path: Path) -> None:
    with as_file(files(fastapi_offline)) as installed:
        package = shutil.copytree(installed, tmp_path / "path" / "fastapi_offline")
    path = str(package.parent)
    with (
        serving(tmp_path / "log", DATABASE_URL=postgres, PYTHONPATH=path) as server,
        server.client() as api,
    ):
        first = api.get(ASSET)
        shutil.rmtree(package / "static")

        assert api.get(ASSET).content == first.content
        assert_problem(api.get("/assets/unknown"), 404)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_names_the_version_of_its_assets_and_browsers_keep_them(
    api: httpx.Client, page: str
) -> None:
    assets = assets_of(api, page)

    assert assets
    for asset in assets:
        etag = api.get(asset).headers["etag"]
        assert asset.endswith("?v=" + etag.strip('"'))
        kept = api.get(asset).headers["cache-control"]
        assert kept == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("query", ["", "?v=", "?v=another", "?w=another"])
def test_an_asset_of_another_version_is_not_kept_for_long(api: httpx.Client, query: str) -> None:
    """While two versions of the service run, one may get requests from the other version's page."""
    response = api.get(ASSET + query)

    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=86400"


def test_an_asset_that_the_browser_has_is_not_sent_again(api: httpx.Client) -> None:
    etag = api.get(ASSET).headers["etag"]

    for known in [etag, f"W/{etag}", f'"another", {etag}', "*"]:
        response = api.get(ASSET, headers={"If-None-Match": known})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == etag
        assert response.headers["cache-control"] == "public, max-age=86400"


@pytest.mark.parametrize("known", ['"another"', "", "nonsense"])
def test_an_asset_that_the_browser_does_not_have_is_sent(api: httpx.Client, known: str) -> None:
    response = api.get(ASSET, headers={"If-None-Match": known})

    assert response.status_code == 200
    assert response.content == api.get(ASSET).content


def test_every_asset_has_an_etag_of_its_own(api: httpx.Client) -> None:
    assets = [*assets_of(api, "/docs"), *assets_of(api, "/redoc")]

    etags = {asset.split("?")[0]: api.get(asset).headers["etag"] for asset in assets}
    assert len(set(etags.values())) == len(etags) == 6
    assert not any(etag.startswith("W/") for etag in etags.values())
