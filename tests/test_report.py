"""The report, as text and in a browser.

PYTHONPATH=. python tests/test_report.py RESULTS     # writes docs/report.png from these records
"""

import base64
import io
import os
import shutil
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from records import make_record, make_stand_in, some_records
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from compare_experiments import main
from experiments.comparison.groups import group_records
from experiments.comparison.pairs import QUESTIONS
from experiments.comparison.summaries import summarise
from experiments.runs.records import write_record

PROGRAMS = ("chromium", "chromedriver")
BROWSER = "SPAM_TEST_BROWSER"  # where it is set, a browser has to be there
HOSTILE = [
    "<script>document.title = 'taken over'</script>",
    "</script><img src=x onerror=\"document.title = 'taken over'\">",
    "</td></table><style>* { display: none }</style>",
    "&amp; & &lt;b&gt; \"double\" 'single' {{ 7 * 7 }} ]]> -->",
]


def make_report(folder, records, texts=None, *flags):
    """Writes records and their test messages, and returns the path of their report."""
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
    """A report of some records whose messages have long words."""
    texts = [f"Text {chr(97 + i)} {'w' * 300}" for i in range(12)]
    return make_report(tmp_path_factory.mktemp("plain"), some_records(), texts, "--margin", "2")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report whose every word of the user's own is markup."""
    name, words = '<b onclick="x()">.safetensors', "<script>alert(1)</script>"
    records = [
        make_stand_in(row, "a" * 64, name=name, wrong=wrong, classes=["<i>ham</i>", words])
        for row, wrong in ((1, [0, 1]), (16, [2, 3]))
    ]
    for record in records:
        record["environment"] = {"device": words, "device_type": "cpu", "python": HOSTILE[1]}
    texts = [*HOSTILE, *(f"message {i}" for i in range(4, 12))]
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


def test_the_answer_to_each_question_comes_first(plain):
    page = Elements(plain)
    summaries = summarise(group_records(some_records()), 0.02)
    said = [s.sentence for s in summaries if s.sentence]
    assert len(said) == 3
    for part in (QUESTIONS[4], QUESTIONS[16], *said):
        assert page.text.index(part) < page.text.index("Each heading sorts.")


def test_a_page_has_every_part_that_is_asked_for(plain):
    page = Elements(plain)
    anchors = {attributes.get("id") for _, attributes in page.found}
    assert anchors >= {
        "answers", "table", "test_accuracy", "curves", "calibration", "metrics",
        "time_and_accuracy", "memory_and_accuracy", "messages", "made",
    }  # fmt: skip
    assert sum(tag == "svg" for tag, _ in page.found) == 5
    assert "Text h" in page.text
    assert "python additional_experiments.py --row 16 --num_seeds 2" in page.text
    assert "--margin 2" in page.text


def test_a_page_asks_for_nothing_from_elsewhere(plain):
    page = Elements(plain)
    links = [
        value
        for _, attributes in page.found
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "srcset")
    ]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in page.text


def test_the_same_records_make_the_same_page(tmp_path):
    first = make_report(tmp_path, some_records()).read_bytes()
    assert make_report(tmp_path, some_records()).read_bytes() == first


def test_words_of_messages_and_records_are_text_whatever_they_hold(hostile):
    page = Elements(hostile)
    assert [tag for tag, _ in page.found if tag in ("script", "img", "b", "i")] == ["script"]
    assert not [name for _, attributes in page.found for name in attributes if name[:2] == "on"]
    assert all(text in page.text for text in HOSTILE)


def test_without_texts_messages_are_told_by_their_numbers(tmp_path):
    page = Elements(make_report(tmp_path, some_records()))
    assert "3 messages, seed 123" in page.text  # wrong: 1 and 2; 2, 7 and 8
    assert ("td", {"class": "text"}) not in page.found


def test_records_without_a_row_1_make_a_page_too(tmp_path):
    page = Elements(make_report(tmp_path, [make_record(16, losses=[], peak_memory_mib=None)]))
    assert "Nothing here can be held against row 1" in page.text
    assert sum(tag == "svg" for tag, _ in page.found) == 3


def test_a_report_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(SystemExit, match=r"Is a directory: .*report\.html"):
        make_report(tmp_path, [make_record(1)])


# ------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium as Debian has it."""
    if not all(map(shutil.which, PROGRAMS)) and BROWSER not in os.environ:
        pytest.skip("there are no chromium and chromedriver")
    driver = start_browser()
    yield driver
    driver.quit()


def start_browser():
    programs = [shutil.which(name) for name in PROGRAMS]
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, Service(programs[1]))


def show(browser, page, width=1200, scheme="light", height=800):
    """Opens a page as on such a screen."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    light = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", light)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


@pytest.fixture
def opened(browser):
    """Opens a report, and sees at the end that nothing was complained about."""

    def open_report(page, width=1200, scheme="light"):
        show(browser, page, width, scheme)
        return browser

    yield open_report
    assert browser.get_log("browser") == []


def column(browser, table, number):
    cells = browser.find_elements(By.CSS_SELECTOR, f"{table} tbody tr > :nth-child({number})")
    return [cell.text for cell in cells]


def test_a_click_on_a_heading_sorts_and_another_one_turns_it_round(opened, plain):
    browser = opened(plain)
    before = column(browser, "#table", 1)
    heading = browser.find_element(By.XPATH, "//section[@id='table']//button[text()='right']")
    heading.click()
    at = 1 + browser.execute_script("return arguments[0].closest('th').cellIndex", heading)
    counts = [int(text.split()[0]) for text in column(browser, "#table", at)]
    assert counts == [6, 9, 10, 12]  # 9 before 10: as numbers
    heading.click()
    assert column(browser, "#table", at)[0] == "12 of 12"
    assert sorted(column(browser, "#table", 1)) == sorted(before)


def test_a_word_finds_the_messages_that_hold_it(opened, plain):
    browser = opened(plain)
    browser.find_element(By.ID, "search").send_keys("text H")
    rows = browser.find_elements(By.CSS_SELECTOR, "#messages tbody tr")
    assert [row.text.split()[-2] for row in rows if row.is_displayed()] == ["h"]
    assert browser.find_element(By.CSS_SELECTOR, "output").text == "1 found"


def test_a_browser_shows_markup_in_messages_as_text(opened, hostile):
    browser = opened(hostile)
    browser.execute_script("document.querySelector('details').open = true")
    shown = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "td.text")]
    assert shown == HOSTILE
    assert browser.title == "Which differences are real?"


@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_is_no_wider_than_its_window(opened, plain, width):
    browser = opened(plain, width=width)
    browser.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_dark_page_has_light_words_and_figures(opened, plain):
    ask = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    asked = [("body", "backgroundColor"), ("body", "color"), ("figure svg", "fill")]
    for scheme, is_light in (("light", [True, False, False]), ("dark", [False, True, True])):
        browser = opened(plain, scheme=scheme)
        colours = [browser.execute_script(ask, *words) for words in asked]
        levels = [sum(map(int, c.strip("rgb()").split(","))) / 3 for c in colours]
        assert [level > 128 for level in levels] == is_light


def test_a_page_prints(opened, plain):
    browser = opened(plain, scheme="dark")
    pdf = base64.b64decode(browser.print_page())
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000


# ------------------------------------------------------------------------------------ its picture


def take_picture(browser, page, file):
    """Writes how a page begins in the light, and beside it its figures in the dark."""
    halves = []
    for scheme, place in (("light", "body"), ("dark", "#figures figure")):
        show(browser, page, 860, scheme, 1080)
        browser.execute_script("document.querySelector(arguments[0]).scrollIntoView()", place)
        halves.append(Image.open(io.BytesIO(browser.get_screenshot_as_png())))
    picture = Image.new("RGB", (2 * halves[0].width, halves[0].height))
    for i, half in enumerate(halves):
        picture.paste(half, (i * half.width, 0))
    picture.quantize(64).save(file, optimize=True)


def test_the_picture_shows_the_page_in_the_light_and_in_the_dark(browser, plain, tmp_path):
    take_picture(browser, plain, tmp_path / "report.png")
    picture = Image.open(tmp_path / "report.png").convert("L")
    assert picture.size == (1720, 1080)
    assert picture.getpixel((2, 2)) > 200
    assert picture.getpixel((1717, 2)) < 60


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.html"
        main(["--results", sys.argv[1], "--html", str(report)])
        driver = start_browser()
        take_picture(driver, report, Path(__file__).parents[1] / "docs" / "report.png")
        driver.quit()
