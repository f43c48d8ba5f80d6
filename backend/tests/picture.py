"""Write the picture of /docs that the README shows: `make picture`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import expect, sync_playwright

from src.framework.sql.embedded import embedded_server
from tests.conftest import tool
from tests.serving import BACKEND, serving

PICTURE = BACKEND.parent / "specs/001-backend-api-database/docs.png"


def main() -> None:
    chromium = tool("chromium", "chromium-browser", "google-chrome")
    with (
        TemporaryDirectory() as folder,
        embedded_server(Path(folder) / "data") as url,
        serving(Path(folder) / "log", DATABASE_URL=url) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{server.url}/docs")
        expect(page.locator(".opblock")).to_have_count(11)
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
