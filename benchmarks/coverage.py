"""Simulates runs whose true difference is known, and counts how often the comparison is right.

    python benchmarks/coverage.py           # writes the table of docs/statistics.md: half an hour
    python benchmarks/coverage.py --losses  # the one of log loss and Brier score

A run is right on a message if a sum is above 0: of a level, which sets the design's accuracy, how
easy the message is, what the design makes of this very message, what the seed makes of all of them,
and noise. All are normal, so that the accuracy over all seeds and messages is known in closed form.
The sum is the logit of the right class, so that losses are known too.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special, stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from experiments.comparison.crossed import (
    FEWEST_SEEDS,
    Components,
    Crossed,
    Drawn,
    components_of,
    cross,
    distribution_of,
    draw_anew,
    smallest_seen,
    units_of,
)
from experiments.comparison.statistics import LEVEL, Interval

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
START = "<!-- coverage: made by python benchmarks/coverage.py -->\n"
END = "<!-- end of coverage -->"
START_LOSSES = "<!-- losses: made by python benchmarks/coverage.py --losses -->\n"
END_LOSSES = "<!-- end of losses -->"
HEADING = (
    "| simulated | seeds | t holds | plain bootstrap holds | the one used holds "
    "| falsely better or worse | falsely equivalent | smallest difference found |"
)
HEADING_LOSSES = (
    "| simulated | seeds | log loss: holds | falsely better or worse | Brier score: holds "
    "| falsely better or worse |"
)
MARGIN = 0.01  # of accuracy, within which two designs are equivalent


class World(NamedTuple):
    """How far runs spread: standard deviations, against a noise of 1."""

    accuracy: float  # of the first design
    easy: float  # how easy messages are
    design: float  # what a design makes of a message, whatever the seed
    seed: float  # what a seed makes of all messages
    copies: int = 1  # of each message


Measure = Callable[[World, int, int, int], Iterable[float]]  # seeds, messages, runs to rates

WORLDS = {
    "seeds matter little": World(0.95, 2.0, 0.5, 0.05),
    "seeds matter": World(0.95, 2.0, 0.5, 0.2),
    "seeds matter most": World(0.95, 2.0, 0.5, 0.5),
    "designs differ by message": World(0.95, 2.0, 1.5, 0.1),
    "no part but noise": World(0.95, 1.0, 0.0, 0.0),
    "few errors": World(0.98, 2.0, 0.5, 0.2),
    "each message twice": World(0.95, 2.0, 0.5, 0.2, copies=2),
}


Value = Callable[[np.ndarray], np.ndarray]  # of logits of the right class


def is_right(logits: np.ndarray) -> np.ndarray:
    """Returns 1 for each message that is told right, else 0."""
    return (logits > 0).astype(float)


def log_loss(logits: np.ndarray) -> np.ndarray:
    """Returns the log loss of each message."""
    return np.logaddexp(0, -logits)


def brier_score(logits: np.ndarray) -> np.ndarray:
    """Returns the Brier score of each message."""
    return special.expit(-logits) ** 2


def spread_of(world: World) -> float:
    """Returns the standard deviation of logits over all seeds and messages."""
    return math.hypot(1, world.easy, world.design, world.seed)


def true_difference(world: World, difference: float, value: Value) -> float:
    """Returns by how much designs differ over all seeds and messages, in closed form but for a sum.

    Args:
        world: in which they are.
        difference: of their accuracies.
        value: in what they differ.
    """
    spread, places = spread_of(world), stats.norm.ppf((np.arange(10**5) + 0.5) / 10**5)
    accuracies = world.accuracy, world.accuracy + difference
    first, second = (value(spread * (places + stats.norm.ppf(a))).mean() for a in accuracies)
    return float(second - first)


def simulate(
    world: World,
    difference: float,
    seeds: int,
    messages: int,
    generator: np.random.Generator,
    value: Value = is_right,
) -> np.ndarray:
    """Returns the units of two simulated designs whose accuracies differ by so much."""
    distinct = messages // world.copies
    spread = spread_of(world)
    easy = generator.normal(0, world.easy, distinct)
    values = []
    for accuracy in (world.accuracy, world.accuracy + difference):
        level = stats.norm.ppf(accuracy) * spread
        of_message = easy + generator.normal(0, world.design, distinct)
        of_seed = generator.normal(0, world.seed, (seeds, 1))
        noise = generator.normal(size=(seeds, distinct))
        values.append(value(level + of_message + of_seed + noise))  # (S, distinct)
    differences = np.repeat(values[1] - values[0], world.copies, axis=1)
    return units_of(differences, np.repeat(np.arange(distinct), world.copies))


def plain_bootstrap(units: np.ndarray, generator: np.random.Generator) -> Interval:
    """Returns the 95 % interval of seeds and messages drawn anew, with no effect scaled."""
    S, C = units.shape
    means = (draw_anew(C, generator) @ units.T * draw_anew(S, generator)).sum(axis=1) / (S * C)
    return Drawn(means).interval(LEVEL)


def student(units: np.ndarray) -> Interval:
    """Returns the 95 % interval of Student's t with Satterthwaite's degrees of freedom."""
    components = components_of(units)
    half = stats.t.ppf(1 - LEVEL / 2, components.degrees(*units.shape))
    half *= components.error(*units.shape)
    return Interval(units.mean() - half, units.mean() + half)


class Rates(NamedTuple):
    """How often each came true, of so many simulated comparisons."""

    student: float  # 95 % intervals that hold the true difference, as the next two
    plain: float
    found: float
    false: float  # better or worse, where there is no difference
    equivalent: float  # within the margin, where the difference is as large as that
    power: float  # worse, by the smallest difference that could be seen


def measure(world: World, seeds: int, messages: int, runs: int) -> Rates:
    """Returns how often intervals and verdicts are right in a world."""
    generator = np.random.default_rng(seeds)

    def draw(difference: float) -> list[np.ndarray]:
        return [simulate(world, difference, seeds, messages, generator) for _ in range(runs)]

    smallest = 0.0
    for _ in range(3):  # how far runs spread depends on how different they are
        mean = np.mean([components_of(units) for units in draw(-smallest)[:200]], axis=0)
        smallest = smallest_seen(Components(*mean), seeds, messages // world.copies)
    at_margin = draw(MARGIN)
    crossed = [cross(units) for units in at_margin]
    return Rates(
        student=share(holds(student(units)) for units in at_margin),
        plain=share(holds(plain_bootstrap(units, generator)) for units in at_margin),
        found=share(holds(c.interval) for c in crossed),
        false=share(distribution_of(units).p_value < LEVEL for units in draw(0.0)),
        equivalent=share(is_equivalent(c) for c in crossed),
        power=share(is_worse(units) for units in draw(-smallest)),
    )


def measure_losses(world: World, seeds: int, messages: int, runs: int) -> list[float]:
    """Returns how often the interval used holds the truth, and excludes it where it is 0.

    First of log loss, then of Brier score.
    """
    generator, rates = np.random.default_rng(seeds), []
    for value in (log_loss, brier_score):
        for difference in (MARGIN, 0.0):
            truth = true_difference(world, difference, value)
            found = (
                distribution_of(simulate(world, difference, seeds, messages, generator, value))
                for _ in range(runs)
            )
            rates.append(share(holds(one.interval(LEVEL), truth) for one in found))
        rates[-1] = 1 - rates[-1]
    return rates


def holds(interval: Interval, truth: float = MARGIN) -> bool:
    """Says whether an interval holds the true difference."""
    return interval.low <= truth <= interval.high


def is_equivalent(crossed: Crossed) -> bool:
    """Says whether a difference is within the margin by two one-sided tests."""
    return max(map(abs, crossed.equivalence)) < MARGIN


def is_worse(units: np.ndarray) -> bool:
    """Says whether the second design is found to be the worse one."""
    return distribution_of(units).interval(LEVEL).high < 0


def share(outcomes: Iterable[bool]) -> float:
    """Returns the share of outcomes that are true."""
    return float(np.mean(list(outcomes)))


def table(heading: str, measured: Measure, messages: int, runs: int) -> str:
    """Returns the rates of all worlds as Markdown, and prints each as it is found."""
    lines = [heading, "| --- |" + " ---: |" * (heading.count("|") - 2)]
    for name, world in WORLDS.items():
        for seeds in (FEWEST_SEEDS, 5, 10):
            rates = measured(world, seeds, messages, runs)
            cells = " | ".join(f"{100 * rate:.1f}" for rate in rates)
            lines.append(f"| {name} | {seeds} | {cells} |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes a table into its page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--runs", type=int, default=800, help="simulated comparisons of each kind")
    add("--messages", type=int, default=300, help="test messages of each")
    add("--losses", action="store_true", help="of log loss and Brier score, in place of accuracy")
    arguments = parser.parse_args()
    start, end, heading, measured = START, END, HEADING, measure
    if arguments.losses:
        start, end, heading, measured = START_LOSSES, END_LOSSES, HEADING_LOSSES, measure_losses
    made = table(heading, measured, arguments.messages, arguments.runs)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(start)
    page = before + start + made + rest[rest.index(end) :]
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
