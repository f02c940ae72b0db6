"""Opens reports in headless Chromium and does with them what a reader does; compares what it sees with the tables.

    target/browser/bin/python tests/browser/page.py FOLDER [CHECK...]

FOLDER is what `browser::pages` of the integration tests wrote. `make test-browser` runs it; with names, only these checks.
"""

import csv
import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect

from browser import at, check, run, violations, width

FOLDER = Path(sys.argv[1])
RUN = FOLDER / "run" / "exp"


@contextmanager
def opened(browser, path, address="", **options):
    """A page that said nothing on the console and asked for nothing but itself."""
    with at(browser, path.as_uri() + address, **options) as (page, asked):
        yield page
        assert [url.split("#")[0] for url in asked] == [path.as_uri()], asked


def whole(page):
    """Waits until everything that is chosen stands in the page."""
    page.wait_for_selector("html[data-ready=all]")


def rows(name):
    with open(RUN / name, newline="") as file:
        return list(csv.DictReader(file))


def number(text):
    return float(text.replace("\u2212", "-").replace("\u2013", "nan"))


def near(shown, value):
    """Whether what is shown has three digits of `value`."""
    assert abs(number(shown) - value) <= 0.006 * abs(value) + 1e-9, (shown, value)


def middle(locator):
    """Has it in the middle of the window, clear of the bar."""
    locator.evaluate("(element) => element.scrollIntoView({ block: 'center' })")


def slot(page, name):
    return page.locator(f"#slot-{name}")


@check
def what_is_chosen_is_shown_and_in_the_address(browser):
    with opened(browser, RUN / "report.html") as page:
        whole(page)
        figure = page.locator("section#similarity figure").first
        assert figure.get_attribute("data-model") == "demo" and figure.get_attribute("data-layer") == "2"
        page.select_option("#model", "small")
        page.select_option("#layer", "1")
        expect(page.locator('section#similarity figure[data-model="small"][data-layer="1"]').first).to_be_visible()
        page.select_option("#emotion", "sad")
        address = page.evaluate("location.hash")
        for part in ["model=small", "layer=1", "emotion=sad", "stories=passages"]:
            assert part in address, address
        page.locator("[data-step='1']").click()
        assert "layer=2" in page.evaluate("location.hash")
    # The same address shows the same, in another window.
    with opened(browser, RUN / "report.html", address) as page:
        whole(page)
        assert page.locator("section#similarity figure").first.get_attribute("data-layer") == "1"
        assert page.input_value("#model") == "small" and page.input_value("#emotion") == "sad"


@check
def a_heat_map_has_its_values_under_the_pointer_and_by_the_keyboard(browser):
    table = {(r["emotion_a"], r["emotion_b"]): float(r["cosine"]) for r in rows("tables/similarity.csv")
             if (r["model"], r["stories"], r["layer"]) == ("demo", "passages", "2")}
    with opened(browser, RUN / "report.html", "#similarity") as page:
        whole(page)
        drawing = page.locator("section#similarity .drawing:has(svg[data-values])").first
        middle(drawing)
        cells = drawing.locator(".cells")
        at = "(cells, [x, y]) => { const p = new DOMPoint(x, y).matrixTransform(cells.getScreenCTM()); return [p.x, p.y]; }"
        names = drawing.locator(".rows text").all_text_contents()
        columns = drawing.locator(".cols text").all_text_contents()
        for row, column in [(0, 3), (4, 1)]:
            page.mouse.move(*cells.evaluate(at, [column + 0.5, row + 0.5]))
            value = page.locator(".tip b").text_content()
            assert f"{names[row]} \u00d7 {columns[column]}" in page.locator(".tip").text_content()
            near(value, table.get((names[row], columns[column]), table.get((columns[column], names[row]))))
        page.mouse.move(5, 5)
        expect(page.locator(".tip")).to_be_hidden()
        drawing.focus()
        for key in ["ArrowDown", "ArrowRight", "ArrowRight", "ArrowDown"]:
            page.keyboard.press(key)
        # The first key goes to the first cell.
        near(page.locator(".tip b").text_content(), table.get((names[1], columns[2]), table.get((columns[2], names[1]))))
        assert names[1] in page.locator(".said-aloud").text_content()
        page.keyboard.press("Escape")
        expect(page.locator(".tip")).to_be_hidden()


@check
def points_have_their_values_and_a_click_marks_their_emotion_everywhere(browser):
    scores = {(r["emotion"], r["component"]): float(r["score"]) for r in rows("tables/space.csv")
              if (r["model"], r["stories"], r["layer"]) == ("demo", "passages", "2")}
    with opened(browser, RUN / "report.html", "#space") as page:
        whole(page)
        drawing = page.locator("section#space .drawing", has=page.locator("circle[data-label]")).first
        middle(drawing)
        point = drawing.locator('circle[data-label="angry"]')
        box = point.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        told = page.locator(".tip").text_content()
        x, y = page.locator(".tip b").text_content().split(", ")
        assert "angry" in told
        near(x, scores["angry", "1"])
        near(y, scores["angry", "2"])
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert page.input_value("#emotion") == "angry"
        # In the plane, in tables, and as lines across heat maps.
        assert "chosen" in point.get_attribute("class")
        assert page.locator("section#space text.chosen", has_text="angry").count() >= 1
        assert page.locator("section#words tr.chosen").count() >= 1
        assert page.locator("section#similarity rect.line").count() >= 2
        # By the keyboard again: the first mark is reached, and Enter takes the mark away or sets another.
        drawing.focus()
        page.keyboard.press("End")
        last = page.locator(".said-aloud").text_content().split(":")[0]
        page.keyboard.press("Enter")
        assert page.input_value("#emotion") == ("" if last == "angry" else last)


@check
def a_claim_leads_to_its_figure_and_that_to_its_table_node_key_and_command(browser):
    run = json.loads((RUN / "run.json").read_text())
    plan = {name: keys for name, keys in run["plan"]}
    with opened(browser, RUN / "report.html") as page:
        whole(page)
        link = page.locator("section#findings td a", has_text=re.compile("^space: ")).first
        link.click()
        page.wait_for_selector("section#space .slot.found")
        assert "layer=2" in page.evaluate("location.hash") and page.evaluate("location.hash").startswith("#space")
        figure = page.locator("section#space .slot.found figure")
        expect(figure).to_be_in_viewport()
        figure.locator("details.origin summary").click()
        assert figure.locator("dd code").first.text_content() == "space/demo/passages"
        assert figure.locator(".keys code").first.text_content() in plan["space/demo/passages"]
        command = figure.locator("dd:has(button.copy) code").first.text_content()
        assert command.startswith("emoflow run ") and command.endswith("--only space/demo/passages"), command
        files = [a.get_attribute("href") for a in figure.locator(".files a").all()]
        assert "tables/space.csv" in files and "tables/space.parquet" in files, files
        for file in files:
            assert (RUN / file).is_file(), file
        # Every link of the page leads to something that is there.
        for address in page.eval_on_selector_all("main a", "links => links.map((a) => a.getAttribute('href'))"):
            if address.startswith("#"):
                assert page.locator(f"[id='{address[1:].split('?')[0]}']").count() == 1, address
            else:
                assert (RUN / address).exists(), address


@check
def texts_are_searched_filtered_and_sorted(browser):
    stories = rows("stories/passages.csv") + rows("stories/said.csv")
    with opened(browser, RUN / "report.html", "#reading") as page:
        whole(page)
        reading = page.locator("section#reading .samples")
        output = reading.locator("output")
        assert output.text_content() == f"{len(stories)} of {len(stories)}"
        reading.locator("input[type=search]").fill("RAINED on")
        wanted = sum("rained on" in s["text"].lower() for s in stories)
        assert wanted > 0 and output.text_content().startswith(f"{wanted} of "), output.text_content()
        assert reading.locator("article mark").first.text_content().lower() == "rained on"
        reading.locator("label", has_text="emotion").locator("select").first.select_option(label="angry")
        wanted = sum("rained on" in s["text"].lower() and s["emotion"] == "angry" for s in stories)
        assert output.text_content().startswith(f"{wanted} of "), output.text_content()
        reading.locator("input[type=search]").fill("")
        sort = reading.locator("label", has_text="Sort by").locator("select")
        sort.select_option(label="projection (demo), highest first")
        shown = reading.locator("article .id").all_text_contents()
        values = [number(re.search(r"projection \(demo\) (\S+)", text).group(1)) for text in shown]
        assert len(values) > 3 and values == sorted(values, reverse=True), values
        # All of them can be reached.
        while reading.locator("button.more").is_visible():
            reading.locator("button.more").click()
        assert reading.locator("article").count() == int(output.text_content().split(" of ")[0])


@check
def samples_of_a_scenario_are_filtered_and_their_tokens_are_coloured(browser):
    table = rows("tables/door.scenario_samples.csv")
    tokens = rows("tables/door.scenario_tokens.csv")
    with opened(browser, RUN / "report.html", "#door") as page:
        whole(page)
        samples = page.locator("section#door .slot:has(.samples) figure").first
        here = {key: samples.get_attribute(f"data-{key}") for key in ["model", "stories", "layer"]}
        mine = lambda rows: [r for r in rows if all(r[key] == value for key, value in here.items())]
        own = mine(table)
        chosen = lambda name: samples.locator("label", has_text=name).locator("select")
        output = samples.locator("output")
        assert output.text_content() == f"{len(own)} of {len(own)}"
        chosen("outcome").select_option(label="says was")
        acts = [r for r in own if r["outcome"] == "says was"]
        assert acts and output.text_content() == f"{len(acts)} of {len(own)}"
        # What a text was told by is marked in it.
        for mark in samples.locator("article .said mark").all():
            assert mark.text_content() == "was"
        chosen("outcome").select_option(label="all")
        chosen("steered").select_option(label="angry")
        chosen("case").select_option(index=2)
        assert output.text_content() == f"4 of {len(own)}"
        # The search goes on within what is chosen.
        text = next(r["text"] for r in own if r["steered"] == "angry" and r["case"] == chosen("case").evaluate("(it) => it.selectedOptions[0].label"))
        samples.locator("input[type=search]").fill(text)
        assert output.text_content().split(" of ")[0] in ["1", "2", "3", "4"] and samples.locator("article mark").first.text_content() == text
        # Token by token: the values of the table, of the emotion that is chosen.
        figure = page.locator("section#door figure:has(.texts)").first
        article = figure.locator("article").first
        id = article.locator("h4").text_content().split(" ")[-1]
        for emotion in ["angry", "sad"]:
            page.select_option("#emotion", emotion)
            assert figure.locator("select").input_value() == emotion
            values = [float(r["z"]) for r in mine(tokens) if (r["sample_id"], r["emotion"]) == (id, emotion)]
            shown = article.locator(".tokens span")
            assert shown.count() == len(values) > 4
            middle(shown.nth(3))
            shown.nth(3).hover()
            assert abs(number(page.locator(".tip b").text_content()) - values[3]) < 0.02, (values[3], page.locator(".tip b").text_content())


@check
def tables_sort_and_the_file_stands_as_it_ran(browser):
    with opened(browser, RUN / "report.html", "#provenance") as page:
        whole(page)
        file = page.locator("section#provenance .code").first
        assert file.text_content().strip().startswith("description = \"Six emotions") and "[analysis.causes.steering]" in file.text_content()
        table = page.locator("section#provenance table").first
        names = table.locator("tbody td:first-child").all_text_contents()
        assert "vectors/demo/passages" in names
        table.locator("thead button").first.click()
        assert table.locator("tbody td:first-child").all_text_contents() == sorted(names, key=str.lower)
        table.locator("thead button").first.press("Enter")
        assert table.locator("thead th").first.get_attribute("aria-sort") == "descending"


@check
def every_kind_of_figure_has_values_for_every_mark(browser):
    with opened(browser, FOLDER / "kinds" / "report.html") as page:
        whole(page)
        # Not a text of a stranger became markup.
        assert page.locator("main img, header img").count() == 0
        drawings = page.locator(".drawing")
        assert drawings.count() == 7
        for at in range(drawings.count()):
            drawing = drawings.nth(at)
            middle(drawing)
            drawing.focus()
            page.keyboard.press("Home")
            first = page.locator(".said-aloud").text_content()
            page.keyboard.press("ArrowRight")
            second = page.locator(".said-aloud").text_content()
            assert first != second and re.search(r"\d", first) and re.search(r"\d", second), (first, second)
            page.keyboard.press("End")
            assert re.search(r"\d", page.locator(".said-aloud").text_content())
        # A curve of eighty points has no markers, but values: the last point of the second curve, under the pointer.
        lines = slot(page, "lines").locator(".drawing")
        middle(lines)
        last = lines.locator("path.unseen").nth(80 + 79)
        box = last.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + 2)
        told = page.locator(".tip").text_content()
        assert "79" in told and "emotion2: null" in told, told
        # Tokens, by the keyboard.
        text = slot(page, "texts").locator("article").first
        text.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert "word1" in page.locator(".said-aloud").text_content()
        # The chosen emotion colours them.
        page.select_option("#emotion", "emotion3")
        assert slot(page, "texts").locator("select").input_value() == "emotion3"
        assert page.locator(".samples output").text_content() == "100 of the 100 in this page (1000 in total)"


@check
def the_keyboard_reaches_everything(browser):
    with opened(browser, RUN / "report.html") as page:
        whole(page)
        reached = set()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        for _ in range(3000):
            page.keyboard.press("Tab")
            at = page.evaluate("document.activeElement.className || document.activeElement.id || document.activeElement.tagName")
            reached.add(at)
            if at == "code":
                break
        for wanted in ["model", "stories", "layer", "emotion", "drawing", "table", "list", "more", "SUMMARY", "code"]:
            assert wanted in reached, (wanted, reached)


@check
def contrast_and_names_pass_axe_in_both_schemes_and_widths(browser):
    # The largest page once: axe takes seconds for it.
    kinds = FOLDER / "kinds" / "report.html"
    for path, schemes, wide in [(RUN / "report.html", ["light"], 400), (kinds, ["light", "dark"], 1280)]:
        for scheme in schemes:
            with opened(browser, path, color_scheme=scheme, viewport={"width": wide, "height": 900}, bypass_csp=True) as page:
                whole(page)
                told = violations(page)
                assert not told, (path, scheme, wide, told)


@check
def nothing_is_wider_than_the_window(browser):
    for window in [400, 700, 1280, 2000]:
        for path in [RUN / "report.html", FOLDER / "kinds" / "report.html"]:
            with opened(browser, path, viewport={"width": window, "height": 900}) as page:
                whole(page)
                assert width(page) <= window, (path, window, width(page))


@check
def on_paper_the_figures_stand_without_the_controls(browser):
    with opened(browser, RUN / "report.html") as page:
        whole(page)
        page.emulate_media(media="print", color_scheme="dark")
        assert page.locator("#bar").is_hidden() and page.locator("section#space svg").first.is_visible()
        # Black on white, whatever the screen is.
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert len(page.pdf()) > 50_000


@check
def a_large_report_opens_and_shows_any_layer(browser):
    path = FOLDER / "large.html"
    with opened(browser, path) as page:
        page.wait_for_selector("section#space figure")
        start = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        whole(page)
        page.select_option("#model", "model-7")
        page.select_option("#layer", "39")
        page.wait_for_selector("#fig-space_model-7_own_layer-39")
        size = path.stat().st_size / 1e6
        print(f"  eight models of forty layers: {size:.1f} MB, loaded after {start:.0f} ms")


run()
