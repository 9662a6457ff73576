"""The metrics by which designs are compared: where their values are, and how they are printed.

METRICS["accuracy"].format_mean(0.02)  # "+2.00 points"
METRICS["brier"].format_mean(0.02)     # "+0.020"
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from experiments.comparison.evidence import Difference
    from experiments.comparison.statistics import Interval


class Metric(NamedTuple):
    """A mean over the test examples."""

    name: str  # of --metric
    title: str
    values: str  # field of `Run` that has the value of each example
    column: str  # of CSV and JSON, with "_difference"
    is_loss: bool = False  # smaller is better; else a share, which is printed in percent

    @property
    def scale(self) -> int:
        """The factor with which it is printed."""
        return 1 if self.is_loss else 100

    @property
    def heading(self) -> str:
        """The heading of a column of its values."""
        return self.title if self.is_loss else f"{self.title}, %"

    def format_value(self, value: float) -> str:
        """Return a value without unit: `95.00`, `0.123`."""
        return f"{self.scale * value:.{self._digits}f}"

    def format_mean(self, mean: float) -> str:
        """Return a difference with its unit: `+2.00 points`, `-0.020`."""
        return f"{self.scale * mean:+.{self._digits}f}{'' if self.is_loss else ' points'}"

    def format_size(self, size: float) -> str:
        """Return the size of a difference with its unit: `2 points`, `0.02`."""
        if self.is_loss:
            return f"{size:.3g}"
        number = f"{100 * size:.1f}".removesuffix(".0")
        return f"{number} point{'' if number == '1' else 's'}"

    def format_interval(self, interval: "Interval", fewer: int = 0) -> str:
        """Return an interval of differences without unit, with some digits fewer than usual."""
        return " to ".join(f"{self.scale * x:+.{self._digits - fewer}f}" for x in interval)

    def format_difference(self, difference: "Difference", fewer: int = 0) -> str:
        """Return a difference with its 95 % interval, if there is one, without unit."""
        text = f"{self.scale * difference.mean:+.{self._digits - fewer}f}"
        if not difference.crossed:
            return text
        return f"{text} ({self.format_interval(difference.crossed.interval, fewer)})"

    @property
    def _digits(self) -> int:
        return 3 if self.is_loss else 2


ACCURACY = Metric("accuracy", "test accuracy", "is_correct", "accuracy")
METRICS = {
    metric.name: metric
    for metric in (
        ACCURACY,
        Metric("balanced_accuracy", "balanced test accuracy", "is_correct", "balanced_accuracy"),
        Metric("log_loss", "log loss", "log_losses", "log_loss", is_loss=True),
        Metric("brier", "Brier score", "brier_scores", "brier_score", is_loss=True),
    )
}
