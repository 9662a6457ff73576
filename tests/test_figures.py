import re
from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from records import make_record, make_stand_in, some_records

from experiments.comparison import figures
from experiments.comparison.costs import draw_times
from experiments.comparison.figures import as_svg, draw_all, plot
from experiments.comparison.groups import group_records
from experiments.comparison.summaries import summarise


def shown(records):
    """The groups of some records, and their summaries."""
    groups = group_records(records)
    return groups, summarise(groups)


def test_the_figures_are_drawn(tmp_path):
    paths = plot(*shown(some_records()), tmp_path)
    assert [path.stem for path in paths] == [
        "test_accuracy",
        "time_and_accuracy",
        "memory_and_accuracy",
        "calibration",
        "curves",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.fixture
def captions(monkeypatch, tmp_path):
    """Draws records and returns the captions of the figures."""

    def draw(*records):
        found = []
        monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: found.append(self))
        monkeypatch.setattr(figures, "write_whole", lambda *_: None)
        plot(*shown(records), tmp_path)
        return [figure.legends[0].get_title().get_text() for figure in found]

    return draw


def test_a_caption_says_what_stands_in_for_the_published_models(captions):
    for caption in captions(make_record(1), make_stand_in(16, "a" * 64)):
        assert caption.startswith("Stand-ins, no runs of the published models")
        assert caption.endswith("\ncheckpoint tiny.safetensors aaaaaaaa")
    assert captions(make_record(1)) == [""] * 5


def test_points_of_time_and_accuracy_have_a_mark_for_each_family():
    stand_ins = [make_stand_in(row, "a" * 64) for row in (1, 16)]
    baseline = make_record(None, name="baseline majority")
    records = [make_record(1), make_record(16), *stand_ins, baseline]
    figure = draw_times(*shown(records), heading="")
    marks = {line.get_label(): line.get_marker() for line in figure.axes[0].lines}
    assert list(marks) == [
        "published models", "checkpoint tiny.safetensors aaaaaaaa", "baselines"
    ]  # fmt: skip
    assert len(set(marks.values())) == 3
    assert sorted(text.get_text() for text in figure.axes[0].texts) == [
        "baseline majority", "row 01", "row 01", "row 16", "row 16"
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------- words


def many_records(count):
    """Groups that lie at a few places, with names from short to long."""
    kinds = [
        lambda row: make_record(row, precision="bfloat16"),
        lambda row: make_stand_in(row, "a" * 64, name=f"{'a_long_name_' * 4}.safetensors"),
        lambda row: make_stand_in(row, "b" * 64, data="c" * 64),
        make_record,
    ]  # fmt: skip
    for i in range(count):
        record = kinds[i % len(kinds)](1 + i // 2)
        record["seconds"] = {"prefix": 0.0, "train": 3.0 + i % 3 / 10}
        yield record


def words_drawn(figure, monkeypatch):
    """The words that a figure shows, and where."""
    found, draw = [], Text.draw

    def noted(self, renderer):
        if self.get_visible() and self.get_text():
            found.append((self.get_text(), Text.get_window_extent(self, renderer)))
        draw(self, renderer)

    with monkeypatch.context() as patched:
        patched.setattr(Text, "draw", noted)
        figure.draw_without_rendering()
    return found


@pytest.mark.parametrize("count", [1, 5, 14, pytest.param(38, marks=pytest.mark.slow)])
def test_no_words_of_a_figure_cover_others_or_leave_it(count, monkeypatch):
    groups, summaries = shown(many_records(count))
    assert len(groups) == count
    for name, figure in draw_all(groups, summaries).items():
        words = words_drawn(figure, monkeypatch)
        for (one, box), (other, second) in combinations(words, 2):
            assert not box.overlaps(second), f"{name}: {one!r} and {other!r}"
        for word, box in words:
            is_within = figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1)
            is_within &= figure.bbox.containsy(box.y0) and figure.bbox.containsy(box.y1)
            assert is_within, f"{name}: {word!r}"


# ------------------------------------------------------------------------------------------- svg


@pytest.fixture(scope="module")
def drawn_twice():
    """The SVG of the same figures, drawn twice."""
    return [
        {name: as_svg(f, name) for name, f in draw_all(*shown(some_records())).items()}
        for _ in range(2)
    ]


def test_the_same_figure_is_the_same_svg(drawn_twice):
    assert drawn_twice[0] == drawn_twice[1]


def test_a_figure_in_a_page_has_the_colour_of_its_text_and_identifiers_of_its_own(drawn_twice):
    found = []
    for svg in drawn_twice[0].values():
        assert svg.startswith('<svg fill="currentColor"')
        assert not re.findall("#000000|#ffffff|<metadata", svg)
        found += re.findall(' id="([^"]+)"', svg)
    assert found
    assert len(set(found)) == len(found)
