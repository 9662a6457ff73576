import base64
import os
import re
import shlex
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from records import CUDA, make_baseline, make_record, make_run, some_records, some_runs
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from compare_experiments import main
from experiments.comparison.groups import group_runs
from experiments.comparison.pairs import QUESTIONS
from experiments.comparison.report import commands_of, environments_of
from experiments.comparison.summaries import summarise
from experiments.config.parsing import parse_args
from experiments.runs.records import write_record

PROGRAMS = ("chromium", "chromedriver")
BROWSER = "SPAM_TEST_BROWSER"  # if it is set, a browser is required
HOSTILE = [
    "<script>document.title = 'taken over'</script>",
    "</script><img src=x onerror=\"document.title = 'taken over'\">",
    "</td></table><style>* { display: none }</style>",
    "&amp; & &lt;b&gt; \"double\" 'single' {{ 7 * 7 }} ]]> -->",
]


def make_report(folder, records, texts=None, *flags):
    """Write records and their test examples, and return the path of their report."""
    for record in records:
        write_record(folder / "results", record)
    if texts:
        labels = records[0]["test"]["labels"]
        pd.DataFrame({"Label": labels, "Text": texts}).to_csv(folder / "test.csv")
    page = folder / "report.html"
    files = ["--html", str(page), "--test_csv", str(folder / "test.csv")]
    main(["--results", str(folder / "results"), *files, *flags])
    return page


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A report whose texts have long words."""
    texts = [f"Text {chr(97 + i)} {'w' * 300}" for i in range(12)]
    return make_report(tmp_path_factory.mktemp("plain"), some_records(), texts, "--margin", "2")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report in which words of records and texts are markup, or for a terminal."""
    words = "<script>alert(1)</script>"
    more = {
        "stands_in": True,
        "weights": "a" * 64,
        "model": 'checkpoint <b onclick="x()">.safetensors',
        "classes": ["<i>ham</i>", words],
        "environment": {"device": words, "device_type": "cpu", "python": HOSTILE[1]},
    }
    label = "$\\frac{1}$ \x1b[31m"
    records = [make_record(1, wrong=[0, 1], **more)]
    records.append(make_record(16, wrong=[2, 3], label=label, **more))
    texts = [*HOSTILE, *(f"text {i}" for i in range(4, 12))]
    return make_report(tmp_path_factory.mktemp("hostile"), records, texts)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_a_page_has_every_part_and_the_summary_comes_first(plain):
    page = Elements(plain)
    anchors = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(set(anchors)) == len(anchors)
    assert [anchor for anchor in anchors if "-" not in anchor] == [
        "summary", "differences", "table", "designs", "search", "figures", "test_accuracy",
        "curves", "calibration", "metrics", "costs", "time_and_accuracy", "memory_and_accuracy",
        "made",
    ]  # fmt: skip
    links = [attributes["href"] for tag, attributes in page.found if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= set(anchors)
    drawings = [attributes for tag, attributes in page.found if tag == "svg"]
    assert [drawing["fill"] for drawing in drawings] == ["currentColor"] * 7  # 2 of the differences
    assert not re.search("#000000|#ffffff|<metadata", plain.read_text().partition("<svg")[2])
    words = " ".join(page.text.split())
    assert "4 designs, 7 runs. Compared with row 1 by test accuracy: 3 inconclusive" in words
    sentences = [s.sentence for s in summarise(group_runs(some_runs()), 0.02) if s.sentence]
    for part in (QUESTIONS[4], QUESTIONS[16], *sentences):
        assert page.text.count(part) == 1
    for part in (
        "The runs were made 2026-01-01;", "8 texts of test examples are in this page.", "Text h",
        "python additional_experiments.py --row 16 --num_seeds 2", "--margin 2",
        "python compare_experiments.py --results", "device type",
        "All results are conditional on this train/test split.",
    ):  # fmt: skip
        assert page.text.count(part) == 1


def test_a_page_loads_nothing_and_is_reproducible(tmp_path):
    records = [*some_records(), make_record(18, seed=120), make_record(18, seed=124)]
    page = make_report(tmp_path, records)
    first = page.read_bytes()
    found = Elements(page)
    names = ("src", "href", "xlink:href", "action", "data", "srcset")
    links = [a[name] for _, a in found.found for name in names if name in a]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in found.text
    assert ("td", {"class": "text"}) not in found.found  # no texts are available
    assert "just one classifies correctly, with seed 124" in found.text  # the first shared one
    assert make_report(tmp_path, records).read_bytes() == first


def test_words_of_texts_and_records_are_escaped(hostile):
    page = Elements(hostile)
    assert [tag for tag, _ in page.found if tag in ("script", "img", "b", "i")] == ["script"]
    assert not [name for _, attributes in page.found for name in attributes if name[:2] == "on"]
    assert all(text in page.text for text in HOSTILE)
    assert page.text.count("$\\frac{1}$ \\x1b[31m") > 3  # a dollar is no formula
    assert "\x1b" not in page.text


@pytest.mark.parametrize(("flags", "count"), [([], 0), (["--texts"], 2)])
def test_texts_of_custom_data_need_a_flag(flags, count, tmp_path, monkeypatch):
    def found(runs, test_csv, *, custom):
        assert custom == bool(flags)
        return {"d" * 64: [f"secret {i}" for i in range(12)]} if custom else {}

    monkeypatch.setattr("experiments.comparison.pairs.find_texts", found)
    monkeypatch.setattr("experiments.comparison.report.draw_all", lambda *_: {})
    records = [make_record(row, wrong=[row // 16], data="d" * 64) for row in (1, 16)]
    page = Elements(make_report(tmp_path, records, None, *flags))
    assert page.text.count("secret") == count
    words = f"{count} texts" if count else "No texts"
    assert f"{words} of test examples are in this page" in page.text


def test_runs_without_a_row_1_make_a_page_too(tmp_path):
    page = Elements(make_report(tmp_path, [make_record(16, losses=[], peak_memory_mib=None)]))
    assert "No design can be compared with a reference." in page.text
    assert sum(tag == "svg" for tag, _ in page.found) == 3


# ---------------------------------------------------------------------------------------- commands


def flags_of(command):
    program, script, *flags = shlex.split(command)
    assert (program, script) == ("python", "additional_experiments.py")
    return flags


@pytest.mark.parametrize(
    "flags",
    ["--row 8", "--row 10 --model_size 'gpt2-tiny (7M)'", "--row 11 --no_shortcuts",
     "--row 14 --learning_rate 0.001 --class_weights --precision bfloat16",
     "--row 1 --data 'my file.csv' --split 80/10/10 --balance"],
)  # fmt: skip
def test_the_command_of_a_run_repeats_it(flags):
    words = shlex.split(flags)
    settings, more = parse_args(words), {}
    if settings.custom.data:
        split = {"of": "b" * 64, "seed": 123, "custom": settings.custom_values}
        more = {"data": "a" * 64, "split": split}
    environment = CUDA | {"shortcuts": not settings.runtime.no_shortcuts}
    run = make_run(int(words[1]), settings=settings.identity, environment=environment, **more)
    assert parse_args(flags_of(*commands_of([run]))) == settings


def test_consecutive_seeds_are_one_command():
    runs = [make_run(16, seed=seed, settings={"batch_size": 8}) for seed in (123, 124, 125, 7)]
    assert [flags_of(command) for command in commands_of(runs)] == [
        ["--row", "16", "--seed", "7"],
        ["--row", "16", "--num_seeds", "3"],
    ]
    baseline = make_baseline(settings={}, losses=[])
    assert flags_of(*commands_of([baseline])) == ["--baseline", "majority"]
    words = ["--data", "my file.csv", "--balance"]  # in the first records of custom data, or none
    for split, flags in (({"flags": words}, words), ({}, ["--data", "FILE", "--split_seed", "5"])):
        run = make_run(1, data="a" * 64, split={"of": "b" * 64, "seed": 5} | split)
        assert flags_of(*commands_of([run]))[2:] == flags


def test_environments_have_each_value_once():
    other = {"device": "cuda, H100", "device_type": "cpu"}
    found = environments_of([make_run(1), make_run(1, seed=124, environment=other)])
    assert found == {"device": ["cpu", "cuda, H100"], "device type": ["cpu"]}


# ------------------------------------------------------------------------------------ in a browser


def show(browser, page, width=1200, scheme="light", height=800):
    """Open a page as on such a screen."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    light = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", light)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium of Debian."""
    programs = [shutil.which(name) for name in PROGRAMS]
    if not all(programs) and BROWSER not in os.environ:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(programs[1]))
    yield driver
    assert driver.get_log("browser") == []  # no page had an error
    driver.quit()


def texts_of(browser, selector):
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, selector)]


@pytest.mark.process
def test_a_click_on_a_heading_sorts_and_another_one_reverses(browser, plain):
    show(browser, plain)
    browser.execute_script("document.querySelector('#table details').open = true")
    column = "#table details tbody tr > :nth-child({})"
    before = texts_of(browser, column.format(1))
    heading = browser.find_element(By.XPATH, "//section[@id='table']//button[text()='correct']")
    heading.click()
    at = 1 + browser.execute_script("return arguments[0].closest('th').cellIndex", heading)
    counts = [int(text.split()[0]) for text in texts_of(browser, column.format(at))]
    assert counts == [6, 9, 10, 12]  # as numbers
    heading.click()
    assert texts_of(browser, column.format(at))[0] == "12 of 12"
    assert sorted(texts_of(browser, column.format(1))) == sorted(before)


@pytest.mark.process
def test_a_word_finds_examples_and_a_link_opens_a_design(browser, plain):
    show(browser, plain)
    browser.find_element(By.ID, "search").send_keys("text H")
    rows = browser.find_elements(By.CSS_SELECTOR, ".examples tbody tr")
    assert [row.text.split()[-2] for row in rows if row.is_displayed()] == ["h"]
    assert texts_of(browser, "output") == ["1 found"]
    show(browser, plain)
    browser.find_element(By.CSS_SELECTOR, "#table a[href='#design-2']").click()
    (opened,) = texts_of(browser, ".design[open]")
    assert opened.startswith("row 4")


@pytest.mark.process
def test_a_browser_shows_markup_in_texts_as_text(browser, hostile):
    show(browser, hostile)
    browser.execute_script("document.querySelectorAll('.design')[1].open = true")
    assert texts_of(browser, "td.text") == HOSTILE
    assert browser.title == "Which differences are significant?"


@pytest.mark.process
def test_a_page_fits_its_window_has_a_light_and_a_dark_scheme_and_can_be_printed(browser, plain):
    ask = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    asked = [("body", "backgroundColor"), ("body", "color"), ("figure svg", "fill")]
    for width, scheme, is_light in (
        (390, "light", [True, False, False]),
        (1280, "dark", [False, True, True]),
    ):
        show(browser, plain, width, scheme)
        colours = [browser.execute_script(ask, *words) for words in asked]
        levels = [sum(map(int, c.strip("rgb()").split(","))) / 3 for c in colours]
        assert [level > 128 for level in levels] == is_light
        browser.execute_script("for (const d of document.querySelectorAll('details')) d.open = 1")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    pdf = base64.b64decode(browser.print_page())
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000
