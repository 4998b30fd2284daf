"""The page that people read."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench import history, plots, verdicts, zb
from bench.parts import Findings
from bench.report import ratio, table
from bench.servers import REFERENCE, TOP, Server

PAGE = TOP / "docs" / "performance.md"
PLOT = TOP / "docs" / "performance.svg"
SIZES_PLOT = TOP / "docs" / "performance-sizes.svg"
_LEGEND = (
    "Median (least–most) of the rounds, then the rate; *ratio* is the CPU of distribution v3 divided by that "
    "of dockreg, from the medians. The last column compares dockreg's cost with the median of the earlier "
    "runs on this machine, which `bench/history.jsonl` keeps: ▲ is dearer by more than a tenth, ▼ cheaper."
)
_ZB = (
    "The rows that begin with *zb* are the workloads of zot's benchmark, done by the client of this one: "
    "images of 1, 10 and 100 MiB, {clients} clients. Two of the eighteen pull through another registry, "
    "which dockreg does not do."
)
_TITLE = f"CPU of {REFERENCE} as a multiple of dockreg's: longer is better"
#: What stands above it is written by hand and kept.
MARK = "<!-- what follows is written by make bench -->"


def machine() -> str:
    """Return what it was measured on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} × {cpu}, Linux {platform.release()}, Python {platform.python_version()}"


def commit() -> str:
    """Return what of dockreg was measured."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False).stdout.strip()


def write(found: Findings, beside: Sequence[Server], *, how: str, now: datetime) -> None:
    """Write page, plots and history."""
    above = PAGE.read_text(encoding="utf-8").partition(MARK)[0] if PAGE.exists() else ""
    before = history.earlier(history.load(history.HISTORY), found.rows, machine())
    versions = [f"- **{server.name}**: {server.version}" for server in beside]
    text = body(found, versions, before, first=f"Measured {now:%Y-%m-%d} on {machine()}; {how}.")
    PAGE.write_text(f"{above}{MARK}\n\n{text}\n", encoding="utf-8")
    PLOT.write_text(plots.bars(_TITLE, ratios(found)), encoding="utf-8")
    if found.grown:
        SIZES_PLOT.write_text(growth_plot(found), encoding="utf-8")
    head = history.head(now, commit=commit(), machine=machine(), how=how)
    entry = history.entry(found.rows, found.samples, found.verdicts, head=head)
    history.append(entry, history.HISTORY)


def body(found: Findings, versions: Sequence[str], earlier: dict[str, float], *, first: str) -> str:
    """Return the part of the page that is measured."""
    missed = sum(not verdict.is_met for verdict in found.verdicts)
    parts = [
        first,
        "\n".join(versions),
        "## What is promised",
        f"{len(found.verdicts) - missed} of {len(found.verdicts)} promises hold.",
        verdicts.table(found.verdicts),
        "## Server CPU per piece of work",
        _LEGEND,
        *([_ZB.format(clients=zb.CLIENTS)] if any(row.name.startswith("zb") for row in found.rows) else []),
        table(found.rows, found.samples, earlier),
        "![CPU per piece of work, as multiples of dockreg's](performance.svg)",
    ]
    for title, text in found.tables.items():
        parts += [f"## {title}", text] if text else []
    if found.grown:
        parts.append("![Cost against size](performance-sizes.svg)")
    return "\n\n".join(parts)


def ratios(found: Findings) -> list[tuple[str, float]]:
    """Return what the bars show."""
    both = [(row.name, ratio(row, found.samples.get(row.name, {}))) for row in found.rows]
    return [(name, times) for name, times in both if times is not None]


def growth_plot(found: Findings) -> str:
    """Return the plot of cost against size: pages in the middle, which every client that lists comes to."""
    lines: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for each in found.grown:
        for row, costs in each.costs.items():
            if "at the" not in row:
                line = lines.setdefault(each.server.name, {}).setdefault(row, [])
                line.append((each.size, median(costs)))
    return plots.growth("CPU of one request by the number of tags and repositories", lines)


def today() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)
