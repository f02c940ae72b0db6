"""Opens the pages of `emoflow serve` in headless Chromium and does with them what a user does: looks, searches, steers, stops, copies.

    EMOFLOW_PROGRAM=target/debug/emoflow target/browser/bin/python tests/browser/serve.py FOLDER [CHECK...]

FOLDER is what `browser::pages` of the integration tests wrote. `make test-browser` runs it; with names, only these checks.
"""

import csv
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect

from browser import at, check, run, violations, width

FOLDER = Path(sys.argv[1])
RUN = FOLDER / "run" / "exp"
WHERE = ["--cache", str(FOLDER / "cache"), "--results", str(FOLDER / "run"), "--device", "cpu"]


def emoflow(command, file, *more):
    """The program with a file of the experiment's folder."""
    return [os.environ["EMOFLOW_PROGRAM"], command, str(FOLDER / file), *WHERE, *more]


server = subprocess.Popen(emoflow("serve", "exp.toml", "--port", "0"), stdout=subprocess.PIPE, text=True)
URL = server.stdout.readline().strip()


def texts(page):
    """What stands in the three columns, without what the model read before."""
    return [it.text_content() for it in page.locator("#columns .body > .tokens").all()]


def written(page, **fields):
    """The three texts that these settings give."""
    for name, value in fields.items():
        page.fill(f"#{name}", str(value))
    page.click("#write")
    expect(page.locator("#state")).to_have_text("done", timeout=60_000)
    return texts(page)


@contextmanager
def playground(browser, mode="plain", refused=0):
    with at(browser, URL + "playground", refused) as (page, _):
        page.wait_for_selector("#emotion option", state="attached")
        page.check(f"#mode-{mode}")
        yield page


@check
def the_run_and_its_files_are_shown(browser):
    with at(browser, URL) as (page, _):
        expect(page.locator("#state")).to_contain_text("finished")
        done, units = map(int, re.search(r"(\d+) of (\d+) units", page.locator("#state").text_content()).groups())
        assert done == units == sum(int(it.split()[-1]) for it in page.locator("#nodes td.num").all_text_contents())
        link = page.locator("#files a", has_text="tables/space.csv")
        said = page.evaluate("(url) => fetch(url).then((it) => it.text())", link.get_attribute("href"))
        assert said.replace("\r", "") == (RUN / "tables/space.csv").read_text().replace("\r", "")
        page.click("a:text-is('Report')")
        page.wait_for_selector("html[data-ready=all]")


@check
def only_who_has_the_address_is_answered(browser):
    other = re.sub(r"/[0-9a-f]{32}/", f"/{'0' * 32}/", URL)
    assert other != URL
    for url, host in [(other, None), (URL, "somewhere.else")]:
        request = urllib.request.Request(url, headers={"Host": host} if host else {})
        try:
            urllib.request.urlopen(request)
            raise AssertionError(f"{url} for {host} was answered")
        except urllib.error.HTTPError as error:
            assert error.code in (403, 404, 421), error.code


@check
def rows_are_searched_filtered_and_sorted_and_the_address_keeps_that(browser):
    with open(RUN / "stories" / "passages.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    sad = [row for row in rows if row["emotion"] == "sad"]
    with at(browser, URL + "tables") as (page, _):
        page.select_option("#file", label="stories/passages")
        expect(page.locator("#found")).to_contain_text(f"of {len(rows)} rows")
        assert page.locator("#filters label").all_text_contents() != [], "nothing to choose from"
        page.locator("#filters label", has_text="emotion").locator("select").select_option("sad")
        expect(page.locator("#found")).to_contain_text(f"of {len(sad)} rows, of {len(rows)}")
        word = sad[0]["text"].split()[3]
        page.fill("#q", word)
        found = [row for row in sad if any(word.lower() in str(value).lower() for value in row.values())]
        expect(page.locator("#found")).to_contain_text(f"of {len(found)} rows, of {len(rows)}")
        page.locator("#rows th button", has_text="text").click()
        expect(page.locator("#rows th[aria-sort=ascending]")).to_have_count(1)
        place = [cell.text_content() for cell in page.locator("#rows th").all()].index("text")
        shown = [row.locator("td").nth(place).text_content() for row in page.locator("#rows tbody tr").all()]
        assert shown == sorted(row["text"] for row in found), shown
        address = page.url
    with at(browser, address) as (page, _):
        expect(page.locator("#found")).to_contain_text(f"of {len(found)} rows, of {len(rows)}")


@check
def texts_are_steered_as_they_come_and_again_with_the_next_seed(browser):
    with playground(browser) as page:
        page.select_option("#emotion", "sad")
        page.evaluate("""() => {
            window.lengths = [];
            new MutationObserver(() => lengths.push(document.querySelector('#columns .body > .tokens')?.textContent.length ?? 0))
                .observe(document.getElementById('columns'), { childList: true, subtree: true });
        }""")
        plain, sad, random = written(page, prompt="He feels", strength="0.3", tokens="24", temperature="0")
        assert len({plain, sad, random}) == 3 and all([plain, sad, random]), (plain, sad, random)
        seen = page.evaluate("lengths")
        assert len(set(seen)) > 2 and seen == sorted(seen), f"the text came at once: {seen}"
        # The same again, whatever was steered before.
        assert written(page) == [plain, sad, random]
        assert written(page, strength="0")[1] == plain
        # Every token of a column says its reading, to the pointer and to the keys.
        column = page.locator("#columns .body > .tokens").nth(1)
        column.locator("span").nth(2).hover()
        expect(page.locator("#tip")).to_contain_text(re.compile(r"\d"))
        column.focus()
        page.keyboard.press("ArrowRight")
        first = page.locator("#tip").text_content()
        page.keyboard.press("ArrowRight")
        assert first != page.locator("#tip").text_content() and column.locator(".here").count() == 1
        drawn = written(page, strength="0.2", temperature="1", seed="7")
        page.click("#again")
        expect(page.locator("#seed")).to_have_value("8")
        expect(page.locator("#state")).to_have_text("done", timeout=60_000)
        other = texts(page)
        assert other != drawn and written(page, seed="7") == drawn and written(page, seed="8") == other


@check
def writing_is_stopped_and_the_next_begins_at_once(browser):
    with playground(browser, refused=1) as page:
        page.fill("#prompt", "He feels")
        page.fill("#tokens", "2000")
        page.fill("#temperature", "2")
        # Stopped by the page itself: on a busy machine the text may have ended before a click from here arrives.
        page.evaluate("""() => {
            const observer = new MutationObserver(() => {
                if (document.querySelectorAll('#columns .body > .tokens span').length > 3) {
                    observer.disconnect();
                    document.getElementById('stop').click();
                }
            });
            observer.observe(document.getElementById('columns'), { childList: true, subtree: true });
        }""")
        page.click("#write")
        expect(page.locator("#state")).to_have_text("stopped", timeout=60_000)
        few = written(page, tokens="3")
        assert all(few), few
        page.fill("#layers", "77")
        page.click("#write")
        expect(page.locator("#wrong")).to_contain_text("77")


@check
def what_is_copied_runs_and_writes_the_same(browser):
    with playground(browser, mode="chat") as page:
        page.select_option("#emotion", "calm")
        answers = written(page, prompt="How is your day going?", strength="0.2", tokens="12", temperature="0.8", seed="3")
        page.click("#copy")
        expect(page.locator("#copied")).to_be_visible()
        file = page.locator("#copied-file").text_content()
        (FOLDER / file).write_text(page.locator("#copied-text").input_value())
        page.click("#copied-close")
    subprocess.run(emoflow("run", file, "--quiet"), check=True, stdout=subprocess.DEVNULL)
    samples = [path for path in (FOLDER / "run").glob("*/tables/*.csv") if "sample" in path.name and "exp/" not in str(path)]
    with open(samples[0], newline="") as rows:
        told = {row["text"].strip() for row in csv.DictReader(rows)}
    assert {answer.strip() for answer in answers} <= told, (answers, told)


@check
def every_page_passes_axe_and_fits_the_window(browser):
    for name in ["", "playground", "tables"]:
        for scheme, wide in [("light", 400), ("dark", 1280)]:
            options = {"color_scheme": scheme, "viewport": {"width": wide, "height": 900}, "bypass_csp": True}
            with at(browser, URL + name, **options) as (page, _):
                page.wait_for_load_state("networkidle") if name else page.wait_for_selector("#nodes td")
                if name == "playground":
                    page.check("#mode-plain")
                    written(page, prompt="He feels", tokens="5")
                told = violations(page)
                assert not told, (name, scheme, wide, told)
                assert width(page) <= wide, (name, wide, width(page))


try:
    run()
finally:
    server.terminate()
    server.wait()
