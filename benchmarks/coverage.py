"""Simulate designs with known true differences, and count how often the comparison is right.

    python benchmarks/coverage.py             # the tables of benchmarks/coverage.md: half an hour
    python benchmarks/coverage.py --runs 100  # fewer simulations: larger errors

A model classifies an example correctly if a sum is above 0: of a level, which sets the accuracy of
the design, and the effects of the example, of the design on this example, of the seed, and noise.
All are normal, so that the accuracy over all seeds and examples is known in closed form. The sum is
the logit of the correct class, so that losses are known too. All designs are compared with the
first one, on the same seeds and examples, with Holm's correction.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special, stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from experiments.comparison.power import Outlook
from experiments.comparison.statistics import (
    LEVEL,
    Crossed,
    cross,
    mcnemar,
    pool_seeds,
    reach_of,
    spread_of,
    sum_by_text,
    units_of,
)

PAGE = Path(__file__).with_suffix(".md")
START, END = "<!-- {}: made by python benchmarks/coverage.py -->\n", "<!-- end of {} -->"
MARGIN = 0.02  # of accuracy, within which two designs are equivalent
SIZES = (100, 150, 300)  # test examples
SEEDS = (3, 5, 10)
DESIGNS = (6, 17)  # that are compared with the first one


class World(NamedTuple):
    """Standard deviations of effects, relative to a noise of 1."""

    accuracy: float  # of the first design
    easy: float  # effect of an example
    design: float  # of a design on an example, with every seed
    seed: float  # of a seed on all examples
    copies: float = 1.0  # of each text, on average
    collapsing: float = 0.0  # share of the seeds whose model predicts one class of two


Value = Callable[[np.ndarray], np.ndarray]  # of logits of the correct class

WORLDS = {
    "seeds matter little": World(0.95, 2.0, 0.5, 0.05),
    "seeds matter": World(0.95, 2.0, 0.5, 0.2),
    "seeds matter most": World(0.9, 2.0, 0.3, 0.8),
    "designs differ by example": World(0.9, 2.0, 1.5, 0.1),
    "only noise": World(0.95, 1.0, 0.0, 0.0),
    "few errors": World(0.98, 2.0, 0.5, 0.2),
    "many errors": World(0.8, 1.5, 0.5, 0.2),
    "two copies of a text": World(0.95, 2.0, 0.5, 0.2, copies=2.0),
    "five copies of a text": World(0.9, 2.0, 0.5, 0.2, copies=5.0),
    "seeds collapse": World(0.95, 2.0, 0.5, 0.2, collapsing=0.1),
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


def true_difference(world: World, difference: float, value: Value) -> float:
    """Return the true difference of a value for designs with this difference of accuracies."""
    spread = math.hypot(1, world.easy, world.design, world.seed)
    places = stats.norm.ppf((np.arange(10**5) + 0.5) / 10**5)
    accuracies = world.accuracy, world.accuracy + difference
    first, second = (value(spread * (places + stats.norm.ppf(a))).mean() for a in accuracies)
    return float(second - first)


class Sample(NamedTuple):
    """Simulated differences of several designs and the first one."""

    units: list[np.ndarray]  # (S, C) of each design
    reach: float
    sums: list[np.ndarray]  # (C,) by text, at the first seed

    @property
    def crossed(self) -> list[Crossed]:
        """The comparison of each design, as `compare_all` makes it."""
        prior = pool_seeds(self.units)
        return [cross(units, prior, self.reach) for units in self.units]

    @property
    def p_values(self) -> np.ndarray:
        """The p-value of each design, (K,)."""
        if len(self.units[0]) == 1:
            counts = [(int((s < 0).sum()), int((s > 0).sum())) for s in self.sums]
            return np.array([mcnemar(*both) for both in counts])
        prior, found = pool_seeds(self.units), []
        for units in self.units:
            error = spread_of(units, prior, self.reach).error(*units.shape)
            found.append(2 * error.tail(abs(units.mean())))
        return np.array(found)


def simulate(
    world: World,
    levels: Sequence[float],
    seeds: int,
    examples: int,
    generator: np.random.Generator,
    value: Value = is_correct,
) -> Sample:
    """Return designs whose accuracies differ by so much from the first one's."""
    texts = generator.integers(max(1, round(examples / world.copies)), size=examples)
    if world.copies == 1:
        texts = np.arange(examples)
    D, C = 1 + len(levels), texts.max() + 1
    accuracies = world.accuracy + np.array([0.0, *levels])[:, None, None]
    logits = stats.norm.ppf(accuracies) * math.hypot(1, world.easy, world.design, world.seed)
    logits = logits + generator.normal(0, world.easy, C)
    logits = logits + generator.normal(0, world.design, (D, 1, C))
    logits = logits + generator.normal(0, world.seed, (D, seeds, 1))
    logits = logits + generator.normal(size=(D, seeds, C))  # (D, S, C)
    values = value(logits)
    is_collapsed = generator.random((D, seeds, 1)) < world.collapsing
    values = np.where(is_collapsed, generator.random(C) < 0.5, values)[:, :, texts]  # (D, S, N)
    differences = values[1:] - values[0]
    units = [units_of(one, texts) for one in differences]
    sums = [sum_by_text(one[:1], texts)[0].round(9) for one in differences]
    reach = reach_of(np.ones(examples), texts) if value is is_correct else 0.0
    return Sample(units, reach, sums)


# ------------------------------------------------------------------------------------------- rates


class Rates(NamedTuple):
    """How often each was the case, in percent; None if it has no meaning in a world."""

    false_6: float  # any of 6 equal designs is called better or worse
    false_17: float
    covered: float | None  # 95 % intervals that contain a difference of the margin
    equivalent: float | None  # designs that differ by the margin and are called equivalent
    worse: float | None  # designs worse by the minimum detectable difference, and called worse
    better: float | None


def family_wise_error(
    world: World, designs: int, seeds: int, examples: int, runs: int, value: Value = is_correct
) -> float:
    """Return how often Holm's method rejects any of so many equal designs."""
    generator = np.random.default_rng([designs, seeds, examples])
    draws = (
        simulate(world, [0.0] * designs, seeds, examples, generator, value) for _ in range(runs)
    )
    return float(np.mean([draw.p_values.min() < LEVEL / designs for draw in draws]))


def at_margin(
    world: World, seeds: int, examples: int, runs: int, value: Value = is_correct
) -> tuple[float, float]:
    """Return how often intervals contain the truth, and designs are falsely equivalent.

    Of one design that is worse by the margin, compared alone.
    """
    generator, found = np.random.default_rng([seeds, examples]), []
    truth = true_difference(world, -MARGIN, value)
    for _ in range(runs):
        (one,) = simulate(world, [-MARGIN], seeds, examples, generator, value).crossed
        is_inside = one.interval.low <= truth <= one.interval.high
        found.append((is_inside, max(map(abs, one.equivalence)) < abs(truth)))
    covered, equivalent = np.mean(found, axis=0)
    return float(covered), float(equivalent)


def found_at_detectable(
    world: World, sign: int, seeds: int, examples: int, runs: int, designs: int = 6
) -> float | None:
    """Return how often a design is found that differs by the minimum detectable difference.

    The other designs are equal to the first one.
    """
    generator, level = np.random.default_rng([seeds, examples, 1]), LEVEL / designs
    detectable = []
    for _ in range(max(20, runs // 10)):
        sample = simulate(world, [0.0] * designs, seeds, examples, generator)
        units, accuracies = sample.units[0], (world.accuracy, world.accuracy)
        spread = spread_of(units, pool_seeds(sample.units), sample.reach)
        outlook = Outlook(spread, level, *units.shape, sample.reach, accuracies)
        detectable.append(outlook.detectable(sign))
    if None in detectable:
        return None
    differences = [sign * float(np.mean(detectable)), *[0.0] * (designs - 1)]
    if not 0.5 < world.accuracy + differences[0] < 1:
        return None
    found = []
    for _ in range(runs):
        sample = simulate(world, differences, seeds, examples, generator)
        is_same_sign = sample.units[0].mean() * sign > 0
        found.append(is_same_sign and sample.p_values[0] < level)
    return float(np.mean(found))


def measure(world: World, seeds: int, examples: int, runs: int) -> Rates:
    """Return the rates of correctness in a world."""
    if seeds == 1:  # about two models, so that they have no seeds' effect
        world = world._replace(seed=0.0, collapsing=0.0)
    false = [family_wise_error(world, K, seeds, examples, runs) for K in DESIGNS]
    if seeds == 1 or world.collapsing:
        return Rates(*false, None, None, None, None)
    powers = [found_at_detectable(world, sign, seeds, examples, runs) for sign in (-1, 1)]
    return Rates(*false, *at_margin(world, seeds, examples, 2 * runs), *powers)


def measure_losses(world: World, seeds: int, examples: int, runs: int) -> list[float | None]:
    """Return family-wise error of 6 designs, coverage and false equivalence of both losses."""
    if seeds == 1 or world.collapsing:
        return [None] * 6
    rates: list[float | None] = []
    for value in (log_loss, brier_score):
        false = family_wise_error(world, 6, seeds, examples, runs, value)
        rates += [false, *at_margin(world, seeds, examples, 2 * runs, value)]
    return rates


HEADINGS = {
    "accuracy": "| simulated | examples | seeds | false, 6 designs | false, 17 designs "
    "| interval holds | falsely equivalent | found, worse | found, better |",
    "losses": "| simulated | examples | seeds | log loss: false, 6 designs | interval holds "
    "| falsely equivalent | Brier score: false, 6 designs | interval holds | falsely equivalent |",
}


def table(heading: str, measured: Callable[..., Sequence[float | None]], runs: int) -> str:
    """Return the rates of all worlds as Markdown, and print each line when it is computed."""
    lines = [heading, "| --- |" + " ---: |" * (heading.count("|") - 2)]
    for name, world in WORLDS.items():
        for examples in SIZES:
            for seeds in (1, *SEEDS):
                rates = measured(world, seeds, examples, runs)
                if any(rate is not None for rate in rates):
                    cells = " | ".join("" if r is None else f"{100 * r:.1f}" for r in rates)
                    lines.append(f"| {name} | {examples} | {seeds} | {cells} |")
                    print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the tables into their page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000, help="simulated tables of each kind")
    runs = parser.parse_args().runs
    page = PAGE.read_text(encoding="utf-8")
    for name, measured in (("accuracy", measure), ("losses", measure_losses)):
        before, start, rest = page.partition(START.format(name))
        made = table(HEADINGS[name], measured, runs if name == "accuracy" else runs // 2)
        page = before + start + made + rest[rest.index(END.format(name)) :]
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
