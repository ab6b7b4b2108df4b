"""The page in a real browser: nothing is requested, nothing runs that is not ours, and the tools work."""

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest

from decoders.report.stage import run

CHROMIUM = Path(os.environ.get("CORTICODE_CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no chromium at {CHROMIUM}: set CORTICODE_CHROMIUM"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(study, tools):
    job = tools.job_of(study, tools.settings())
    run(job)
    return job.outputs["page"].resolve().as_uri()


class Watched:
    """A page that remembers every request and every complaint."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on(
            "console",
            lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)

    def download(self, selector):
        with self.page.expect_download() as waiting:
            self.page.click(selector)
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()

    def column(self, key, number):
        return self.page.eval_on_selector_all(
            f"#tab-{key} tbody tr td:nth-child({number})", "cells => cells.map(c => c.textContent)"
        )


@pytest.fixture
def watched(browser, address):
    watched = Watched(browser, address, viewport={"width": 1400, "height": 900})
    yield watched
    assert watched.complaints == []
    # Downloads and PNG drawings are made in the page; nothing goes over the network.
    assert [url for url in watched.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in watched.requests if url.startswith("file:")]) == 1
    watched.context.close()


def test_nothing_is_requested_while_reading_to_the_end(watched):
    height = watched.page.evaluate("document.documentElement.scrollHeight")
    for place in range(0, height, 800):
        watched.page.evaluate(f"scrollTo({{top: {place}, behavior: 'instant'}})")
        watched.page.wait_for_timeout(15)


def test_tables_sort_both_ways_with_missing_values_last(watched):
    button = "#tab-recovery th:nth-child(1) button"
    watched.page.click(button)
    assert watched.column("recovery", 1) == ["combined map", "encoding map", "selection map"]
    watched.page.click(button)
    assert watched.column("recovery", 1) == ["selection map", "encoding map", "combined map"]
    assert watched.page.get_attribute("#tab-recovery th:nth-child(1)", "aria-sort") == "descending"
    watched.page.click('#tab-verdicts th[data-column="score"] button')
    scores = watched.column("verdicts", 2)
    assert scores[-2:] == ["–", "–"]
    numbers = [float(score.replace("\N{MINUS SIGN}", "-")) for score in scores[:-2]]
    assert numbers == sorted(numbers)


def test_a_table_sorts_with_the_keyboard(watched):
    watched.page.focus("#tab-recovery th:nth-child(1) button")
    watched.page.keyboard.press("Enter")
    assert watched.page.get_attribute("#tab-recovery th:nth-child(1)", "aria-sort") == "ascending"


def test_tables_filter_by_words_and_by_menus(watched):
    watched.page.fill("#tab-verdicts input", "rsa it")
    assert len(watched.column("verdicts", 1)) == 3
    watched.page.fill("#tab-verdicts input", "")
    watched.page.select_option("#tab-verdicts select >> nth=0", "=subject")
    assert len(watched.column("verdicts", 1)) == 2
    assert "2 of 2 rows (9 in all)" in watched.page.text_content("#tab-verdicts .state")


def test_long_tables_show_the_rest_on_demand(watched):
    assert len(watched.column("alignment-scores", 1)) == 12
    watched.page.click("#tab-alignment-scores .show-all")
    assert len(watched.column("alignment-scores", 1)) == 768


def test_tables_download_with_full_precision(watched, study):
    name, content = watched.download('#tab-verdicts [data-get="tsv"]')
    assert name == "verdicts.tsv"
    lines = content.decode().strip().split("\n")
    assert lines[0].split("\t")[:4] == ["analysis", "level", "subject", "score"]
    assert len(lines) == 10
    assert "0.2419" in content.decode()


@pytest.mark.parametrize("part", [0, 1])
def test_every_figure_downloads_as_svg_that_stands_alone(watched, part):
    keys = watched.page.eval_on_selector_all(".fig", "figures => figures.map(f => f.dataset.key)")
    assert len(keys) == len(set(keys)) >= 12
    # In two parts: chromium refuses more than ten downloads of a page in a row.
    for key in keys[part::2]:
        name, content = watched.download(f'#fig-{key} [data-get="svg"]')
        root = ElementTree.fromstring(content.decode())
        assert name == f"{key}.svg"
        assert not [e for e in root.iter() if e.get("class") or e.get("style")]
        assert b"var(" not in content


CUT = """
[...document.querySelectorAll('.fig svg.chart')].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const own = text.getBoundingClientRect();
    return own.width && (own.left < box.left - 1 || own.right > box.right + 1
      || own.top < box.top - 1 || own.bottom > box.bottom + 1);
  }).map(text => svg.closest('.fig').dataset.key + ': ' + text.textContent);
})
"""


def test_no_word_of_a_figure_is_cut_at_its_edge(watched):
    assert watched.page.evaluate(CUT) == []
    # bug: the margin was made for narrower letters
    watched.page.evaluate("document.querySelectorAll('.fig svg text').forEach(t => { t.style.letterSpacing = '4px'; })")
    assert watched.page.evaluate(CUT) != []


def test_figures_download_as_png_and_data(watched):
    name, content = watched.download('#fig-rules [data-get="png"]')
    assert name == "rules.png"
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000
    name, content = watched.download('#fig-rules [data-get="tsv"]')
    assert content.decode().startswith("region\tmodel\testimate")


def test_the_data_stand_beside_the_figure(watched):
    watched.page.click("#fig-differences summary")
    rows = watched.page.locator("#fig-differences .numbers tbody tr")
    # The browser tells of the opening when it has time to.
    rows.first.wait_for()
    assert rows.count() == 120


def test_variants_of_a_figure_change(watched):
    shown = "#fig-rules .drawing:not([hidden]) svg"
    before = watched.page.get_attribute(shown, "aria-label")
    watched.page.select_option("#fig-rules .variant", "3")
    assert watched.page.get_attribute(shown, "aria-label") != before


def test_a_cell_of_an_rdm_names_its_stimuli(watched):
    watched.page.locator("#fig-rdms svg").scroll_into_view_if_needed()
    box = watched.page.locator("#fig-rdms svg").bounding_box()
    watched.page.mouse.move(box["x"] + 40, box["y"] + 110)
    tip = watched.page.text_content("#tip")
    assert "EVC" in tip
    assert "×" in tip
    assert "dissimilarity" in tip


def test_slices_move(watched):
    watched.page.locator(".viewer").scroll_into_view_if_needed()
    watched.page.wait_for_selector(".viewer[data-ready]")
    before = watched.page.text_content(".readout")
    assert "nats per voxel" in before
    watched.page.focus(".viewer input[type=range] >> nth=0")
    watched.page.keyboard.press("ArrowLeft")
    assert watched.page.text_content(".readout") != before
    watched.page.select_option(".viewer .which", "1")
    watched.page.locator(".readout", has_text="encoding r").wait_for(timeout=5000)


def test_the_theme_changes_and_downloads_stay_light(watched):
    ground = "getComputedStyle(document.body).backgroundColor"
    before = watched.page.evaluate(ground)
    light = watched.download('#fig-windows [data-get="svg"]')
    watched.page.click("#theme")
    assert watched.page.evaluate(ground) != before
    assert watched.download('#fig-windows [data-get="svg"]') == light


@pytest.mark.parametrize("width", [360, 420, 800, 1400])
def test_no_width_scrolls_the_page_sideways(browser, address, width):
    watched = Watched(browser, address, viewport={"width": width, "height": 900})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    assert watched.complaints == []
    watched.context.close()


def test_without_scripts_everything_is_still_there(browser, address):
    watched = Watched(browser, address, java_script_enabled=False)
    assert watched.page.locator("#fig-rules svg").first.is_visible()
    assert watched.page.locator("#tab-verdicts tbody tr").count() == 9
    watched.context.close()


def test_hostile_words_do_not_run(browser, hostile, tools):
    job = tools.job_of(hostile, tools.settings(title=hostile.hostile))
    run(job)
    watched = Watched(browser, job.outputs["page"].resolve().as_uri())
    page = watched.page
    page.wait_for_selector("#theme:not([hidden])")
    page.evaluate("document.querySelectorAll('.show-all:not([hidden])').forEach(button => button.click())")
    page.evaluate("document.querySelectorAll('.numbers').forEach(details => { details.open = true; })")
    page.evaluate(
        "document.querySelectorAll('select').forEach(s => { s.selectedIndex = s.length - 1; s.dispatchEvent(new Event('change')); })"
    )
    page.wait_for_timeout(300)
    assert page.title().startswith("</script>")
    assert page.evaluate("document.querySelectorAll('img:not(.thumb)').length") == 0
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith(("file:", "data:"))] == []
    watched.context.close()


@pytest.fixture(scope="module")
def long_address(study, tools, tmp_path_factory):
    """A page whose verdicts are many: the short form comes first."""
    from decoders.report.read import read_results
    from decoders.store.tables import write_table

    folder = tmp_path_factory.mktemp("long")
    few = read_results(tools.job_of(study, tools.settings()).settings, {"verdicts": study.inputs["verdicts"]}).table(
        "verdicts"
    )
    row = few[few["analysis"].str.startswith("rsa EVC: backprop")].iloc[0].to_dict()
    rows = [{**row, "analysis": f"rsa EVC: backprop cnn3 conv{i} 32px", "score": i / 100} for i in range(1, 41)]
    write_table(folder / "verdicts.tsv", pd.concat([few, pd.DataFrame(rows)], ignore_index=True), "verdicts")
    job = tools.job_of(study, tools.settings(), {**study.inputs, "verdicts": [folder / "verdicts.tsv"]})
    job.outputs["page"] = folder / "index.html"
    job.outputs["provenance"] = folder / "provenance.json"
    run(job)
    return job.outputs["page"].resolve().as_uri()


def test_many_verdicts_are_counted_first_and_opened_with_the_keyboard(browser, long_address):
    watched = Watched(browser, long_address, viewport={"width": 1400, "height": 900})
    page = watched.page
    assert len(watched.column("verdict-groups", 1)) == 9
    assert "Every verdict, one by one: 49 rows" in page.text_content(".fold summary")
    assert not page.locator("#tab-verdicts tbody tr").first.is_visible()
    page.focus(".fold summary")
    page.keyboard.press("Enter")
    assert page.locator("#tab-verdicts tbody tr").first.is_visible()
    assert len(watched.column("verdicts", 1)) == 49
    menu = page.locator("#tab-verdicts select").last
    assert "above chance but explained by word rate" in menu.inner_text()
    assert watched.complaints == []
    watched.context.close()


def test_a_folded_table_is_printed_open_and_folds_again(browser, long_address):
    watched = Watched(browser, long_address)
    is_open = "document.querySelector('.fold').open"
    watched.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert watched.page.evaluate(is_open)
    watched.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not watched.page.evaluate(is_open)
    watched.context.close()


def test_rows_drawn_on_demand_carry_words_too(watched):
    watched.page.click("#tab-alignment-scores .show-all")
    rules = set(watched.column("alignment-scores", 3))
    assert "Direct feedback alignment" in rules
    assert not [rule for rule in rules if "_" in rule or "control:" in rule.replace("control: ", "")]


@pytest.fixture(scope="module")
def meg_address(tools, tmp_path_factory):
    from made_up_meg_results import MegResults

    study = tools.Study(tmp_path_factory.mktemp("meg"))
    study.manifest()
    job = tools.job_of(MegResults(study).write(), tools.settings())
    run(job)
    return job.outputs["page"].resolve().as_uri()


def test_the_page_of_meg_draws_chooses_and_downloads(browser, meg_address):
    watched = Watched(browser, meg_address, viewport={"width": 1400, "height": 900})
    page = watched.page
    shown = "#fig-time-curves .drawing:not([hidden]) svg"
    assert page.get_attribute(shown, "aria-label") == "Scores over time: fc1, 32 px"
    page.select_option("#fig-time-curves .variant", "2")
    assert page.get_attribute(shown, "aria-label") == "Scores over time: conv1, 32 px"
    for key in ("time-curves", "time-raster", "generalisation", "sensor-searchlight", "sensor-gate", "artefacts"):
        name, content = watched.download(f'#fig-{key} [data-get="svg"]')
        root = ElementTree.fromstring(content.decode())
        assert name == f"{key}.svg"
        assert not [e for e in root.iter() if e.get("class") or e.get("style")]
        assert b"var(" not in content
    # A sensor of a large map tells its name and its value.
    page.locator("#fig-sensor-gate .spot").first.hover()
    assert page.text_content("#tip").startswith("MEG0000: ")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    watched.context.close()


def test_a_moment_of_the_rdms_names_its_stimuli(browser, meg_address):
    watched = Watched(browser, meg_address, viewport={"width": 1400, "height": 900})
    watched.page.locator("#fig-time-rdms svg").scroll_into_view_if_needed()
    box = watched.page.locator("#fig-time-rdms svg").bounding_box()
    watched.page.mouse.move(box["x"] + 30, box["y"] + 100)
    tip = watched.page.text_content("#tip")
    assert "0 ms" in tip
    assert "dissimilarity" in tip
    watched.context.close()


def test_the_page_of_meg_is_narrow_on_a_telephone(browser, meg_address):
    watched = Watched(browser, meg_address, viewport={"width": 400, "height": 800})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 400
    watched.context.close()
