"""What is promised, what was found, and whether it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.report import Samples, costs, rates, ratio
from bench.rows import Row, Sample
from bench.servers import REFERENCE

OWN, FILES = "dockreg", "nginx"
#: Beside the processor time that a row itself promises: which rows, what of them, and how much.
RATES = {r" pushed by (PUT|PATCH)": 1.1, r" pushed to a real disk": 1.5}
#: Of what nginx takes.
FILE_COSTS = {r"^blob of .* GET, ": 1.15}
#: Rows whose typical piece must not take longer than the reference's.
MEDIANS = (r"^small image pushed, ",)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One promise."""

    work: str
    measure: str
    found: str
    must: str
    is_met: bool


def of_rows(every: Sequence[Row], samples: Samples) -> list[Verdict]:
    """Return what the rows promise, of those that were measured beside what they are compared with."""
    return [found for row in every if row.name in samples for found in _of_row(row, samples[row.name])]


def _of_row(row: Row, by_server: Mapping[str, Sequence[Sample]]) -> list[Verdict]:
    found: list[Verdict] = []
    times = ratio(row, by_server)
    if row.must and times is not None:
        found.append(at_least(row.name, f"CPU, {REFERENCE} ÷ {OWN}", times, row.must))
    own, other = by_server.get(OWN), by_server.get(REFERENCE)
    if own and other:
        for least in _promised(RATES, row.name):
            times = median(rates(own)) / median(rates(other))
            found.append(at_least(row.name, f"rate, {OWN} ÷ {REFERENCE}", times, least))
        own_ms, other_ms = (1e3 * median(each.median_seconds for each in all_) for all_ in (own, other))
        if own_ms and any(re.search(pattern, row.name) for pattern in MEDIANS):
            limit = f"≤ {other_ms:.3g} ms, that of {REFERENCE}"
            found.append(Verdict(row.name, "p50", f"{own_ms:.3g} ms", limit, own_ms <= other_ms))
    files = by_server.get(FILES)
    if own and files:
        for most in _promised(FILE_COSTS, row.name):
            times = median(costs(row, own)) / max(median(costs(row, files)), 1e-9)
            found.append(at_most(row.name, f"CPU, {OWN} ÷ {FILES}", times, most))
    return found


def _promised(promises: Mapping[str, float], name: str) -> list[float]:
    return [number for pattern, number in promises.items() if re.search(pattern, name)]


def at_least(work: str, measure: str, found: float, least: float, unit: str = "×") -> Verdict:
    """Return the verdict on what must not be less."""
    return Verdict(work, measure, f"{found:.3g}{unit}", f"≥ {least:g}{unit}", found >= least)


def at_most(work: str, measure: str, found: float, most: float, unit: str = "×") -> Verdict:
    """Return the verdict on what must not be more."""
    return Verdict(work, measure, f"{found:.3g}{unit}", f"≤ {most:g}{unit}", found <= most)


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the table in Markdown, what is missed first."""
    lines = ["| | work | measure | found | must |", "|---|---|---|---|---|"]
    for each in sorted(verdicts, key=lambda each: each.is_met):
        sign = "met" if each.is_met else "**missed**"
        lines.append(f"| {sign} | {each.work} | {each.measure} | {each.found} | {each.must} |")
    return "\n".join(lines)
