import pytest
from matplotlib.figure import Figure
from records import make_record, make_stand_in, some_records

from experiments.comparison import figures
from experiments.comparison.figures import draw_times, plot
from experiments.comparison.groups import group_records


def test_the_figures_are_drawn(tmp_path):
    paths = plot(group_records(some_records()), tmp_path)
    assert [path.stem for path in paths] == [
        "test_accuracy",
        "time_and_accuracy",
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
        plot(group_records(records), tmp_path)
        return [figure.legends[0].get_title().get_text() for figure in found]

    return draw


def test_a_caption_says_what_stands_in_for_the_published_models(captions):
    for caption in captions(make_record(1), make_stand_in(16, "a" * 64)):
        assert caption.startswith("Stand-ins, no runs of the published models")
        assert caption.endswith("\ncheckpoint tiny.safetensors aaaaaaaa")
    assert captions(make_record(1)) == [""] * 4


def test_points_of_time_and_accuracy_have_a_mark_for_each_family():
    stand_ins = [make_stand_in(row, "a" * 64) for row in (1, 16)]
    baseline = make_record(None, name="baseline majority")
    figure = draw_times(group_records([make_record(1), make_record(16), *stand_ins, baseline]))
    marks = {line.get_label(): line.get_marker() for line in figure.axes[0].lines}
    assert list(marks) == [
        "published models", "checkpoint tiny.safetensors aaaaaaaa", "baselines"
    ]  # fmt: skip
    assert len(set(marks.values())) == 3
    assert sorted(text.get_text() for text in figure.axes[0].texts) == [
        "baseline majority", "row 01", "row 01", "row 16", "row 16"
    ]  # fmt: skip
