"""What the samples come to: medians, spreads and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from bench.rows import Row, Sample
from bench.servers import REFERENCE

#: By row, then by server.
Samples = dict[str, dict[str, list[Sample]]]
#: A change of cost that is more than the noise of most machines: it gets an arrow.
NOTABLE = 0.1
_UNITS = {"µs": 1e6, "ms": 1e3, "s": 1.0}


def is_wanted(row: Row, words: Sequence[str]) -> bool:
    """Tell whether a row was asked for."""
    return not words or any(word in row.name for word in words)


def costs(row: Row, samples: Sequence[Sample]) -> list[float]:
    """Return the CPU of one piece in each run, in the row's unit."""
    return [sample.cpu_seconds / max(sample.pieces, 1e-9) * _UNITS[row.unit] for sample in samples]


def rates(samples: Sequence[Sample]) -> list[float]:
    """Return the pieces a second of each run."""
    return [sample.pieces / sample.wall_seconds for sample in samples]


def line(row: Row, by_server: Mapping[str, Sequence[Sample]]) -> str:
    """Return the newest run of every server."""
    parts = [
        f"{name} {costs(row, samples)[-1]:.4g} {row.unit} {rates(samples)[-1]:.4g}{row.rate}"
        for name, samples in by_server.items()
        if samples
    ]
    return f"{row.name}: " + ", ".join(parts)


def ratio(row: Row, by_server: Mapping[str, Sequence[Sample]], other: str = REFERENCE) -> float | None:
    """Return how many times the CPU of ``dockreg`` another server takes, from the medians."""
    if not by_server.get(other) or not by_server.get("dockreg"):
        return None
    own = median(costs(row, by_server["dockreg"]))
    return median(costs(row, by_server[other])) / own if own else None


def table(
    every: Sequence[Row],
    samples: Mapping[str, Mapping[str, Sequence[Sample]]],
    earlier: Mapping[str, float] | None = None,
) -> str:
    """Return the table in Markdown: CPU per piece (spread), rate, the ratio to the reference, and the change.

    ``earlier`` has what a piece cost dockreg before, by row and in the row's unit.
    """
    names = list(dict.fromkeys(name for by_server in samples.values() for name in by_server))
    heads = ["work", *names, "ratio", "must", "since earlier runs"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in every:
        by_server = samples.get(row.name)
        if by_server is None:
            continue
        cells = [_cell(row, by_server[name]) if name in by_server else "–" for name in names]
        found = ratio(row, by_server)
        cells.append("–" if found is None else f"{found:.2f}×")
        cells.append(_must(row, found))
        cells.append(_change(row, by_server.get("dockreg", []), (earlier or {}).get(row.name)))
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _must(row: Row, found: float | None) -> str:
    if not row.must:
        return ""
    met = "" if found is None else ", met" if found >= row.must else ", **missed**"
    return f"{row.must:g}×{met}"


def _change(row: Row, own: Sequence[Sample], earlier_cost: float | None) -> str:
    if not own or not earlier_cost:
        return ""
    change = median(costs(row, own)) / earlier_cost - 1
    sign = "▲ " if change > NOTABLE else "▼ " if change < -NOTABLE else ""
    return f"{sign}{change:+.0%}"


def _cell(row: Row, samples: Sequence[Sample]) -> str:
    found = costs(row, samples)
    spread = f"({min(found):.4g}–{max(found):.4g})"
    return f"{median(found):.4g} {row.unit} {spread}, {median(rates(samples)):.4g}{row.rate}"
