"""What was measured before, kept in the repository so that it shows when something got slower."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Samples, costs, rates
from bench.rows import Row
from bench.servers import TOP
from bench.verdicts import OWN, Verdict

HISTORY = TOP / "bench" / "history.jsonl"


def entry(
    every: Sequence[Row], samples: Samples, verdicts: Sequence[Verdict], *, head: Mapping[str, str]
) -> dict[str, Any]:
    """Return one run as it is kept: by row and server the median cost, its unit, and the rate."""
    kept = {
        row.name: {
            name: [_short(median(costs(row, found))), row.unit, _short(median(rates(found)))]
            for name, found in samples[row.name].items()
            if found
        }
        for row in every
        if samples.get(row.name)
    }
    return {**head, "rows": kept, "verdicts": [asdict(verdict) for verdict in verdicts]}


def load(file: Path) -> list[dict[str, Any]]:
    """Return all runs, oldest first."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def append(found: Mapping[str, Any], file: Path) -> None:
    """Keep one more run."""
    with file.open("a", encoding="utf-8") as history:
        history.write(json.dumps(found, ensure_ascii=False) + "\n")


def earlier(runs: Sequence[Mapping[str, Any]], every: Sequence[Row], machine: str) -> dict[str, float]:
    """Return what each row cost dockreg on the same machine: the median of the runs that have it."""
    found: dict[str, float] = {}
    for row in every:
        own = [run["rows"].get(row.name, {}).get(OWN) for run in runs if run["machine"] == machine]
        known = [cost for cost, unit, _rate in filter(None, own) if unit == row.unit]
        if known:
            found[row.name] = median(known)
    return found


def head(now: datetime, *, commit: str, machine: str, how: str) -> dict[str, str]:
    """Return what tells one run from others."""
    return {"at": now.isoformat(timespec="seconds"), "commit": commit, "machine": machine, "how": how}


def _short(number: float) -> float:
    return float(f"{number:.4g}")
