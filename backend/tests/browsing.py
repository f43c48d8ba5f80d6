"""A browser, and a site of another program than the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from playwright.sync_api import Browser, expect, sync_playwright

from tests.serving import Server

expect.set_options(timeout=30_000)  # in ms: on a busy machine a page is slow

# On localhost some pages skip their calls to other hosts, and a service without tokens accepts only
# loopback names.
HOSTS = {"open": "tasks.localhost", "jwt": "tasks.example"}

WITHOUT = [
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),  # half of the cost of a new context
    # Playwright's own list also has these features. Our list replaces Playwright's list.
    *("HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "PaintHolding", "OptimizationHints"),
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "MediaRouter"),
]
"""The features that the browser does without."""


def at(server: Server, path: str) -> str:
    host = HOSTS["jwt" if server.auth else "open"]
    return f"http://{host}:{urlsplit(server.url).port}{path}"


@contextmanager
def browsing(chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--disable-features={','.join(WITHOUT)}",
                f"--host-resolver-rules=MAP {HOSTS['jwt']} 127.0.0.1",
            ],
        )
        yield browser
        browser.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def published(site: Path) -> Iterator[str]:
    """Serve the files of a folder, with an empty page beside them, and give their origin."""
    (site / "index.html").write_text("<!doctype html><title>Frontend</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as httpd:
        thread = Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://localhost:{httpd.server_port}"
        httpd.shutdown()
        thread.join()
