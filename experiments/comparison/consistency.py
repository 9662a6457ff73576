"""Runs that contradict other runs of the same data, which a comparison leaves out."""

from collections import Counter
from collections.abc import Sequence

from experiments.comparison.names import test_set_of
from experiments.runs.records import FINISHED, Run


def inconsistent_runs(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Return the finished runs that contradict others, and why.

    Of the runs with the same data, those whose test examples most runs share are right.
    """
    finished = [run for run in runs if run.status == FINISHED]
    seeds: dict[str, set[int]] = {}
    by_data: dict[str, list[Run]] = {}
    by_test_set: dict[str, list[Run]] = {}
    for run in finished:
        seeds.setdefault(run.digest, set()).add(run.seed)
        by_data.setdefault(run.data, []).append(run)
        by_test_set.setdefault(test_set_of(run), []).append(run)
    found = [
        (run, f"has the digest of the seeds {', '.join(map(str, sorted(seeds[run.digest])))}")
        for run in finished
        if len(seeds[run.digest]) > 1
    ]
    for same in by_test_set.values():
        for fields in (("classes",), ("labels",), ("same_text",)):
            found += _deviating(same, fields)
    wrong = {id(run) for run, _ in found}
    for same in by_data.values():
        found += _deviating([run for run in same if id(run) not in wrong], ("in_training",))
    return found


def _deviating(runs: Sequence[Run], fields: tuple[str, ...]) -> list[tuple[Run, str]]:
    """Return the runs that differ in these fields from most; all of them if none is in most."""
    values = {id(run): [run.test.get(f, getattr(run, f, None)) for f in fields] for run in runs}
    known = [run for run in runs if None not in values[id(run)]]
    keys = {id(run): repr(values[id(run)]) for run in known}
    counts = Counter(keys.values()).most_common(2)
    if len(counts) < 2:
        return []
    right = counts[0][0] if counts[0][1] > counts[1][1] else None
    names = " or ".join(fields)
    why = f"has other {names} of test examples than {counts[0][1]} records with the same data"
    return [(run, why) for run in known if keys[id(run)] != right]
