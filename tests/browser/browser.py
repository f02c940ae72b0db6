"""What the checks of pages in headless Chromium share. Each is a function that takes the browser; `run` calls them."""

import os
import sys
import time
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

ALL = []
RULES = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


def check(function):
    ALL.append(function)
    return function


@contextmanager
def at(browser, url, refused=0, **options):
    """A page at `url`, and the addresses that it asked for; it must say nothing on the console but of so many requests that were
    refused."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page, asked
    assert len(said) == refused and all("400 (Bad Request)" in it for it in said), said
    context.close()


def violations(page):
    """What axe finds wrong in all of the page."""
    page.evaluate("document.querySelectorAll('details').forEach((it) => (it.open = true))")
    found = Axe().run(page, options=RULES).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0].get("failureSummary", "")[:300]) for v in found]


def width(page):
    return page.evaluate("document.documentElement.scrollWidth")


def run():
    """All checks, or those that the command line names."""
    wanted = sys.argv[2:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("EMOFLOW_CHROMIUM"), args=["--no-sandbox"]
        )
        for function in ALL:
            if wanted and function.__name__ not in wanted:
                continue
            begun = time.monotonic()
            function(browser)
            print(f"test-browser: {function.__name__.replace('_', ' ')}: {time.monotonic() - begun:.1f} s")
        browser.close()
