from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.text import Text
from records import make_baseline, make_run, make_substitute, some_runs

from experiments.comparison.figures import draw_all
from experiments.comparison.groups import group_runs
from experiments.comparison.summaries import summarise


def drawn(runs):
    return draw_all(summarise(group_runs(runs), 0.01))


@pytest.fixture(scope="module")
def some_figures():
    return drawn(some_runs())


def test_figures_without_data_are_left_out():
    names = drawn([make_run(1, losses=[], accuracies=[], peak_memory_mib=None)])
    assert list(names) == ["test_accuracy", "time_and_accuracy", "calibration"]
    drawn([make_run(1, accuracies=[], peak_memory_mib=0, seconds={"train": 0})])


def test_legends_name_substitutes_and_families_have_marks_and_points_names(some_figures):
    substitutes = [make_substitute(row, "a" * 64) for row in (1, 16)]
    figures = drawn([make_run(1), make_run(16), *substitutes, make_baseline()])
    del figures["differences"]
    for figure in figures.values():
        caption = figure.legends[0].get_title().get_text()
        assert caption.startswith("Substitutes for the published models")
        assert caption.endswith("\ncheckpoint tiny.safetensors")
    assert {f.legends[0].get_title().get_text() for f in some_figures.values()} == {""}
    axes = figures["time_and_accuracy"].axes[0]
    marks = {line.get_label(): line.get_marker() for line in axes.lines}
    assert list(marks) == ["published models", "checkpoint tiny.safetensors", "baselines"]
    assert len(set(marks.values())) == 3
    names = sorted(text.get_text() for text in axes.texts)
    assert names == ["baseline majority", "row 1", "row 1", "row 16", "row 16"]


def test_points_are_at_the_values_of_the_runs(some_figures):
    seconds, accuracies = some_figures["time_and_accuracy"].axes[0].lines[0].get_data()
    assert list(seconds) == [4, 7, 19]
    assert list(accuracies) == pytest.approx([100 * n / 24 for n in (21, 23, 20)])
    marks = {text.get_text() for text in some_figures["test_accuracy"].legends[0].get_texts()}
    expected = {"first seed, 95 % interval", "other seeds", "published, 95 % interval"}
    assert marks == expected
    (calibration,) = some_figures["calibration"].axes[0].collections
    assert calibration.get_offsets().tolist() == [[pytest.approx(0.9), pytest.approx(10 / 12)]]
    losses, _, train, validation = some_figures["curves"].axes[0].lines
    assert losses.get_xydata().tolist() == [[0, 2], [50, 1]]
    assert train.get_xydata().tolist() == [[10 / 8, 0.8]]  # batches of an epoch
    assert validation.get_xydata().tolist() == [[10 / 8, 0.7]]


# ---------------------------------------------------------------------------------------- words


def many_runs(count):
    """Groups at a few places, with names from short to long."""
    kinds = [
        lambda row: make_run(row, precision="bfloat16"),
        lambda row: make_substitute(row, "a" * 64, name=f"{'a_long_name_' * 4}.safetensors"),
        lambda row: make_substitute(row, "b" * 64, data="c" * 64),
        make_run,
    ]  # fmt: skip
    for i in range(count):
        run = kinds[i % len(kinds)](1 + i // 2)
        yield replace(run, seconds={"prefix": 0.0, "train": 3.0 + i % 3 / 10})


@pytest.mark.parametrize("count", [1, 9, pytest.param(38, marks=pytest.mark.slow)])
def test_no_words_of_a_figure_overlap_or_leave_it(count, monkeypatch):
    figures, words, draw = drawn(list(many_runs(count))), [], Text.draw

    def noted(self, renderer):
        if self.get_visible() and self.get_text():
            words.append((self.get_text(), Text.get_window_extent(self, renderer)))
        draw(self, renderer)

    monkeypatch.setattr(Text, "draw", noted)
    for name, figure in figures.items():
        words.clear()
        figure.draw_without_rendering()
        for (one, box), (other, second) in combinations(words, 2):
            assert not box.overlaps(second), f"{name}: {one!r} and {other!r}"
        for word, box in words:
            corners = figure.bbox.contains(*box.min), figure.bbox.contains(*box.max)
            assert all(corners), f"{name}: {word!r}"
