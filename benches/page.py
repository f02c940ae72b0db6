"""How long reports take to open: `make bench-page`, or this script with paths of reports.

For each page: its size, and the time from navigation until the selectors and the first figures are painted, as the median and range of
seven openings in headless Chromium, each in a fresh context, after one that is not counted. A page that makes another request or
logs an error fails. Needs what `make test-browser` installs; EMOFLOW_CHROMIUM is the browser.
"""

import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests/browser"))
from browser import at, sync_playwright

OPENINGS = 7
FIGURES = "JSON.parse(document.getElementById('index').textContent).slots.reduce((sum, slot) => sum + slot.figures.length, 0)"
PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"


def opening(browser, url):
    """Milliseconds, and how many sets of figures the page has."""
    with at(browser, url) as (page, asked):
        page.wait_for_selector("#bar")
        page.wait_for_selector("main figure")
        took = page.evaluate(PAINTED)
        if not page.locator("#index").count():
            sys.exit(f"{url}: not a report of this version of emoflow; `emoflow report` writes it again")
        figures = page.evaluate(FIGURES)
    assert asked == [url], asked
    return took, figures


def main(paths):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("EMOFLOW_CHROMIUM"), args=["--no-sandbox"])
        print(f"Chromium {browser.version}, {os.cpu_count()} cores")
        for path in paths:
            path = pathlib.Path(path).resolve()
            opened = [opening(browser, path.as_uri()) for _ in range(OPENINGS + 1)][1:]
            took = sorted(time for time, _ in opened)
            print(
                f"{path}: {path.stat().st_size / 1e6:.1f} MB, {opened[0][1]} figures, opens in "
                f"{statistics.median(took) / 1e3:.2f} s ({took[0] / 1e3:.2f} to {took[-1] / 1e3:.2f})"
            )
        browser.close()


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    main(sys.argv[1:])
