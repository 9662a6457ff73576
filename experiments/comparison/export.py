"""The summaries for other programs, as CSV and as JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.comparison.evidence import Difference, Evidence
from experiments.comparison.summaries import Summary
from experiments.system.files import write_file


def write_summaries(
    summaries: Sequence[Summary], csv_file: Path | None, json_file: Path | None
) -> None:
    """Writes the table for other programs; what is not known is empty, or null."""
    rows = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in flat(s).items()}
        for s in summaries
    ]
    if csv_file:
        table = io.StringIO()
        writer = csv.DictWriter(table, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(csv_file, table.getvalue())
    if json_file:
        write_file(json_file, json.dumps(rows, indent=1) + "\n")


def flat(s: Summary) -> dict[str, Any]:
    """Returns the columns of a summary; shares are fractions, differences too."""
    columns = {k: v for k, v in s._asdict().items() if k not in ("interval", "evidence")}
    return columns | {"low": s.interval.low, "high": s.interval.high} | flat_evidence(s.evidence)


def flat_evidence(evidence: Evidence | None) -> dict[str, Any]:
    """Returns the columns of the evidence against row 1, all None where there is none."""
    e, crossed = evidence, evidence and evidence.accuracy.crossed
    outlook, components = e and e.outlook, crossed and crossed.components
    return {
        "shared_seeds": e and len(e.seeds),
        "distinct_messages": e and e.distinct,
        "only_base": e and e.only_first,
        "only_this": e and e.only_second,
        **flat_difference("difference", e and e.accuracy),
        "equivalence_low": crossed and crossed.equivalence.low,
        "equivalence_high": crossed and crossed.equivalence.high,
        "margin": e and e.margin,
        "p_value": e and e.p_value,
        "corrected_p_value": e and e.corrected_p_value,
        "variance_seeds": components and components.seeds,
        "variance_messages": components and components.messages,
        "variance_rest": components and components.rest,
        "smallest_seen": outlook and outlook.smallest,
        "seeds_to_settle": outlook and outlook.seeds,
        "messages_to_settle": outlook and outlook.messages,
        **flat_difference("log_loss_difference", e and e.log_loss),
        **flat_difference("brier_score_difference", e and e.brier_score),
    }


def flat_difference(name: str, difference: Difference | None) -> dict[str, float | None]:
    """Returns the columns of a difference with its 95 % interval."""
    interval = difference and difference.crossed and difference.crossed.interval
    return {
        name: difference and difference.mean,
        f"{name}_low": interval and interval.low,
        f"{name}_high": interval and interval.high,
    }
