"""The page that people read, its plots, and the history that shows when something got slower."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

from bench.report import Samples, costs, rates, ratio, table
from bench.rows import Row
from bench.servers import REFERENCE, TOP, Server

PAGE = TOP / "docs" / "performance.md"
PLOT = TOP / "docs" / "performance.svg"
HISTORY = TOP / "bench" / "history.jsonl"
_LEGEND = (
    "Median (least–most) of the rounds, then the rate; *ratio* is the CPU of distribution v3 divided by that "
    "of dockreg, from the medians."
)
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


def write(
    every: Sequence[Row],
    samples: Samples,
    found: Sequence[Server],
    tables: Mapping[str, str],
    *,
    how: str,
    now: datetime,
) -> None:
    """Write page, plot and history."""
    versions = "\n".join(f"- **{server.name}**: {server.version}" for server in found)
    parts = [
        f"Measured {now:%Y-%m-%d} on {machine()}; {how}.",
        versions,
        "## Server CPU per piece of work",
        _LEGEND,
        table(every, samples),
        "![CPU per piece of work, as multiples of dockreg's](performance.svg)",
        *(f"## {title}\n\n{text}" for title, text in tables.items() if text),
    ]
    above = PAGE.read_text(encoding="utf-8").partition(MARK)[0] if PAGE.exists() else ""
    PAGE.write_text(above + MARK + "\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")
    PLOT.write_text(plot(every, samples), encoding="utf-8")
    _remember(every, samples, how=how, now=now)


def _remember(every: Sequence[Row], samples: Samples, *, how: str, now: datetime) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=TOP, capture_output=True, text=True, check=False
    ).stdout.strip()
    entry = {
        "at": now.isoformat(timespec="seconds"),
        "commit": commit,
        "machine": machine(),
        "how": how,
        "rows": {
            row.name: {
                name: [
                    float(f"{median(costs(row, found)):.4g}"),
                    row.unit,
                    float(f"{median(rates(found)):.4g}"),
                ]
                for name, found in samples[row.name].items()
                if found
            }
            for row in every
            if samples.get(row.name)
        },
    }
    with HISTORY.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def size_table(found: Mapping[str, Sequence[str]], head: Sequence[str]) -> str:
    """Return a table of texts by row."""
    if not found:
        return ""
    lines = ["| | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in found.items()]
    return "\n".join(lines)


def plot(every: Sequence[Row], samples: Samples) -> str:
    """Return bars: how many times the CPU of dockreg the reference takes, on a scale of doublings."""
    bars = [
        (row.name, found) for row in every if (found := ratio(row, samples.get(row.name, {}))) is not None
    ]
    height = 24 * len(bars) + 40
    form = f'width="760" height="{height}" font-family="sans-serif" font-size="12"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {form}>',
        f"<text x='10' y='18'>CPU of {REFERENCE} as a multiple of dockreg's: longer is better</text>",
    ]
    most = max([found for _, found in bars] + [1.0])
    for number, (name, found) in enumerate(bars):
        y = 30 + 24 * number
        width = max(1.0, 380 * found / most)
        color = "#3a7d44" if found >= 1 else "#b3402e"
        lines += [
            f'<text x="270" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="280" y="{y}" width="{width:.1f}" height="18" fill="{color}"/>',
            f'<text x="{286 + width:.1f}" y="{y + 14}">{found:.1f}×</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def today() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)
