"""Simulate runs with a known true difference, and count how often the comparison is right.

    python benchmarks/coverage.py           # the table of docs/simulation.md: half an hour
    python benchmarks/coverage.py --losses  # the one of log loss and Brier score

A run classifies an example correctly if a sum is above 0: of a level, which sets the accuracy of
the design, and the effects of the example, of the design on this example, of the seed, and noise.
All are normal, so that the accuracy over all seeds and examples is known in closed form. The sum is
the logit of the correct class, so that losses are known too.
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
from experiments.comparison.statistics import (
    LEVEL,
    MIN_SEEDS,
    Bootstrap,
    Components,
    Crossed,
    Interval,
    Student,
    components_of,
    cross,
    detectable_difference,
    distribution_of,
    resample,
    units_of,
)

PAGE = Path(__file__).parents[1] / "docs" / "simulation.md"
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
    """Standard deviations of effects, relative to a noise of 1."""

    accuracy: float  # of the first design
    easy: float  # effect of an example
    design: float  # of a design on an example, with every seed
    seed: float  # of a seed on all examples
    copies: int = 1  # of each example


Measure = Callable[[World, int, int, int], Iterable[float]]  # seeds, examples, runs to rates
Value = Callable[[np.ndarray], np.ndarray]  # of logits of the correct class

WORLDS = {
    "seeds matter little": World(0.95, 2.0, 0.5, 0.05),
    "seeds matter": World(0.95, 2.0, 0.5, 0.2),
    "seeds matter most": World(0.95, 2.0, 0.5, 0.5),
    "designs differ by message": World(0.95, 2.0, 1.5, 0.1),
    "no part but noise": World(0.95, 1.0, 0.0, 0.0),
    "few errors": World(0.98, 2.0, 0.5, 0.2),
    "each message twice": World(0.95, 2.0, 0.5, 0.2, copies=2),
}


def is_correct(logits: np.ndarray) -> np.ndarray:
    """Return 1 for each example that is classified correctly, else 0."""
    return (logits > 0).astype(float)


def log_loss(logits: np.ndarray) -> np.ndarray:
    """Return the log loss of each example."""
    return np.logaddexp(0, -logits)


def brier_score(logits: np.ndarray) -> np.ndarray:
    """Return the Brier score of each example."""
    return special.expit(-logits) ** 2


def spread_of(world: World) -> float:
    """Return the standard deviation of logits over all seeds and examples."""
    return math.hypot(1, world.easy, world.design, world.seed)


def true_difference(world: World, difference: float, value: Value) -> float:
    """Return the true difference of a value for designs with this difference of accuracies."""
    spread, places = spread_of(world), stats.norm.ppf((np.arange(10**5) + 0.5) / 10**5)
    accuracies = world.accuracy, world.accuracy + difference
    first, second = (value(spread * (places + stats.norm.ppf(a))).mean() for a in accuracies)
    return float(second - first)


def simulate(
    world: World,
    difference: float,
    seeds: int,
    examples: int,
    generator: np.random.Generator,
    value: Value = is_correct,
) -> np.ndarray:
    """Return the units of two simulated designs with this difference of accuracies."""
    distinct = examples // world.copies
    spread = spread_of(world)
    easy = generator.normal(0, world.easy, distinct)
    values = []
    for accuracy in (world.accuracy, world.accuracy + difference):
        level = stats.norm.ppf(accuracy) * spread
        of_example = easy + generator.normal(0, world.design, distinct)
        of_seed = generator.normal(0, world.seed, (seeds, 1))
        noise = generator.normal(size=(seeds, distinct))
        values.append(value(level + of_example + of_seed + noise))  # (S, distinct)
    differences = np.repeat(values[1] - values[0], world.copies, axis=1)
    return units_of(differences, np.repeat(np.arange(distinct), world.copies))


def plain_bootstrap(units: np.ndarray, generator: np.random.Generator) -> Interval:
    """Return the 95 % interval of resampled seeds and examples, without scaled effects."""
    S, C = units.shape
    means = (resample(C, generator) @ units.T * resample(S, generator)).sum(axis=1) / (S * C)
    return Bootstrap(means).interval(LEVEL)


def student(units: np.ndarray) -> Interval:
    """Return the 95 % interval of Student's t with Satterthwaite's degrees of freedom."""
    components, shape = components_of(units), units.shape
    error, degrees = components.error(*shape), components.degrees(*shape)
    return Student(units.mean(), error, degrees).interval(LEVEL)


class Rates(NamedTuple):
    """How often each was the case in simulated comparisons."""

    student: float  # 95 % interval contains the true difference, as the next two
    plain: float
    found: float
    false: float  # better or worse without a difference
    equivalent: float  # with a difference as large as the margin
    power: float  # worse by the minimum detectable difference


def measure(world: World, seeds: int, examples: int, runs: int) -> Rates:
    """Return how often intervals and verdicts are right in a world."""
    generator = np.random.default_rng(seeds)

    def draw(difference: float) -> list[np.ndarray]:
        return [simulate(world, difference, seeds, examples, generator) for _ in range(runs)]

    smallest = 0.0
    for _ in range(3):  # the variance depends on the difference
        mean = np.mean([components_of(units) for units in draw(-smallest)[:200]], axis=0)
        smallest = detectable_difference(Components(*mean), seeds, examples // world.copies)
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


def measure_losses(world: World, seeds: int, examples: int, runs: int) -> list[float]:
    """Return how often the interval contains the truth, and excludes it where it is 0.

    First of log loss, then of Brier score.
    """
    generator, rates = np.random.default_rng(seeds), []
    for value in (log_loss, brier_score):
        for difference in (MARGIN, 0.0):
            truth = true_difference(world, difference, value)
            found = (
                distribution_of(simulate(world, difference, seeds, examples, generator, value))
                for _ in range(runs)
            )
            rates.append(share(holds(one.interval(LEVEL), truth) for one in found))
        rates[-1] = 1 - rates[-1]
    return rates


def holds(interval: Interval, truth: float = MARGIN) -> bool:
    """Return whether an interval contains the true difference."""
    return interval.low <= truth <= interval.high


def is_equivalent(crossed: Crossed) -> bool:
    """Return whether a difference is within the margin by two one-sided tests."""
    return max(map(abs, crossed.equivalence)) < MARGIN


def is_worse(units: np.ndarray) -> bool:
    """Return whether the second design is found to be the worse one."""
    return distribution_of(units).interval(LEVEL).high < 0


def share(outcomes: Iterable[bool]) -> float:
    """Return the share of outcomes that are true."""
    return float(np.mean(list(outcomes)))


def table(heading: str, measured: Measure, examples: int, runs: int) -> str:
    """Return the rates of all worlds as Markdown, and print each line when it is computed."""
    lines = [heading, "| --- |" + " ---: |" * (heading.count("|") - 2)]
    for name, world in WORLDS.items():
        for seeds in (MIN_SEEDS, 5, 10):
            rates = measured(world, seeds, examples, runs)
            cells = " | ".join(f"{100 * rate:.1f}" for rate in rates)
            lines.append(f"| {name} | {seeds} | {cells} |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write a table into its page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--runs", type=int, default=800, help="simulated comparisons of each kind")
    add("--examples", type=int, default=300, help="test examples of each")
    add("--losses", action="store_true", help="log loss and Brier score instead of accuracy")
    arguments = parser.parse_args()
    start, end, heading, measured = START, END, HEADING, measure
    if arguments.losses:
        start, end, heading, measured = START_LOSSES, END_LOSSES, HEADING_LOSSES, measure_losses
    made = table(heading, measured, arguments.examples, arguments.runs)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(start)
    page = before + start + made + rest[rest.index(end) :]
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
