"""Writes docs/durability.md from the figures of the campaigns: ``python -m tests.faults.report``.

The totals lie beside it in docs/durability.json, so that the page can be made anew where nothing was run.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.catalogue import CAMPAIGNS
from tests.faults.figures import Entry, FigureLog, Step, figures, total
from tests.faults.frame import Campaign
from tests.faults.protocol import SAME_WRITES, standing

DOCS = Path(__file__).parents[2] / "docs"
PAGE, TOTALS = DOCS / "durability.md", DOCS / "durability.json"
HEAD = """# Durability

What dockreg promises about your data, and what was done to prove it. `make fault` runs the campaigns and
writes this page from their figures; none is typed by hand. [storage-layout.md](storage-layout.md) says how
the promises are kept.

A campaign breaks something again and again, and keeps what clients were told outside the server and its disk.
Afterwards everything acknowledged must be there, and everything else as a whole or not at all. Most campaigns
run a second time with a server that was broken on purpose: they must catch it, or they prove nothing. Figures
count for one version of the code that writes to disk (format and hash); when that changes, they begin anew,
but for changes that are named here.

`make fault ONLY=kill` runs one campaign up to its goal, `make fault ONLY=kill CYCLES=100` a hundred cycles
more; what was interrupted goes on where it was, and figures that are checked in are added to. The campaigns
with disks need root, to mount them. Several may run at once: a restart is the time to the line that says
ready, less what the server waited while others had the processors.
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """What one campaign came to, for one version of the on-disk protocol."""

    protocol: str
    date: str
    machine: str
    cycles: int
    acknowledged: int
    lost: int
    half_visible: int
    failures: int
    duration_seconds: float
    counts: dict[str, float] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    #: Cycles until each broken server was caught, None where it never was.
    controls: dict[str, int | None] = field(default_factory=dict)


def read_totals(path: Path = TOTALS) -> dict[str, Totals]:
    """Return the totals that are checked in."""
    if not path.exists():
        return {}
    document: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Totals(**{**fields, "protocol": standing(fields["protocol"])})
        for name, fields in document.items()
    }


def newer(known: Mapping[str, Totals], entries: list[Entry]) -> dict[str, Totals]:
    """Return the totals with those of the log, where it knows more or another version of the protocol."""
    found = dict(known)
    for name in {entry.campaign for entry in entries}:
        mine = [entry for entry in entries if entry.campaign == name]
        runs = [entry for entry in mine if not entry.control]
        if not runs:
            continue
        latest = _totals([entry for entry in mine if entry.protocol == runs[-1].protocol])
        before = known.get(name)
        if before is None or before.protocol != latest.protocol or before.cycles <= latest.cycles:
            found[name] = latest
    return dict(sorted(found.items()))


def inherited(known: Mapping[str, Totals], entries: list[Entry]) -> list[Entry]:
    """Return lines that stand for checked-in totals, unless the log has lines of that campaign's version."""
    logged = {(entry.campaign, entry.protocol) for entry in entries}
    return [
        entry
        for name, found in known.items()
        if (name, found.protocol) not in logged
        for entry in _as_entries(name, found)
    ]


def _as_entries(name: str, found: Totals) -> list[Entry]:
    def entry(step: Step, seconds: float = 0.0, control: str = "") -> Entry:
        return Entry(found.date, name, found.protocol, found.machine, 0, seconds, step, control)

    earlier = "in an earlier run"
    step = Step(
        cycles=found.cycles,
        acknowledged=found.acknowledged,
        lost=[earlier] * found.lost,
        half_visible=[earlier] * found.half_visible,
        failures=[earlier] * found.failures,
        counts=dict(found.counts),
        worst=dict(found.worst),
    )
    controls = [
        entry(Step(cycles=cycles, failures=[earlier]), control=control)
        for control, cycles in found.controls.items()
        if cycles is not None
    ]
    return [*controls, entry(step, found.duration_seconds)]


def _totals(entries: list[Entry]) -> Totals:
    runs = [entry for entry in entries if not entry.control]
    found, last = total(runs), runs[-1]
    controls: dict[str, int | None] = {}
    for name in sorted({entry.control for entry in entries if entry.control}):
        tries = total(entry for entry in entries if entry.control == name)
        controls[name] = tries.cycles if tries.wrong else None
    return Totals(
        protocol=last.protocol,
        date=last.time[:10],
        machine=last.machine,
        cycles=found.cycles,
        acknowledged=found.acknowledged,
        lost=len(found.lost),
        half_visible=len(found.half_visible),
        failures=len(found.failures),
        duration_seconds=round(sum(entry.duration_seconds for entry in runs)),
        counts={name: round(value, 2) for name, value in found.counts.items()},
        worst={name: round(value, 2) for name, value in found.worst.items()},
        controls=controls,
    )


def page(totals: Mapping[str, Totals]) -> str:
    """Return the page."""
    table = ["", "| promise | campaign | last figures |", "|---|---|---|"]
    for name, campaign in CAMPAIGNS.items():
        found = totals.get(name)
        table.append(f"| {campaign.promise} | [{name}](#{name}) | {_summary(campaign, found)} |")
    sections = [_section(campaign, totals.get(name)) for name, campaign in CAMPAIGNS.items()]
    return HEAD + _same_writes() + "\n".join(table) + "\n" + "".join(sections)


def _same_writes() -> str:
    """Say which figures of earlier versions count, and why."""
    lines = [
        f"Figures of {old} count for {new}: no write and no order of writes changed, but {reason}."
        for old, (new, reason) in SAME_WRITES.items()
    ]
    return "".join(f"\n{textwrap.fill(line, 116)}\n" for line in lines)


def _summary(campaign: Campaign, found: Totals | None) -> str:
    if found is None:
        return f"not run yet, goal {campaign.goal:,} {campaign.cycle}"
    return f"{found.cycles:,} of {campaign.goal:,} {campaign.cycle}, {_losses(found)}"


def _losses(found: Totals) -> str:
    """Say what went wrong; what never can, is left out."""
    parts = [f"{found.lost} lost"] if found.acknowledged or found.lost else []
    if found.acknowledged or found.half_visible:
        parts.append(f"{found.half_visible} half-visible")
    if found.failures or not parts:
        parts.append(f"{found.failures} failures")
    return ", ".join(parts)


def _section(campaign: Campaign, found: Totals | None) -> str:
    lines = ["", f"## {campaign.name}", "", campaign.promise, ""]
    if found is None:
        return "\n".join([*lines, f"Not run yet; the goal is {campaign.goal:,} {campaign.cycle}.", ""])
    lines.append(f"- {found.cycles:,} {campaign.cycle} (goal {campaign.goal:,}): {_losses(found)}")
    if found.acknowledged:
        lines.append(f"- {found.acknowledged:,} acknowledged requests")
    lines += [f"- {text}" for text in figures(found.counts)]
    for name, value in sorted(found.worst.items()):
        limit = campaign.ceilings.get(name)
        allowed = f" (at most {limit:g})" if limit is not None else ""
        lines += [f"- {text}{allowed}" for text in figures({name: value}, "worst ")]
    lines += [_control(name, cycles) for name, cycles in found.controls.items()]
    hours, minutes = divmod(round(found.duration_seconds / 60), 60)
    lines.append(
        f"- {found.date}, {hours} h {minutes} min, {found.machine}; on-disk protocol {found.protocol}"
    )
    return "\n".join([*lines, ""])


def _control(name: str, cycles: int | None) -> str:
    if cycles is None:
        return f"- broken on purpose ({name}): **not caught**"
    return f"- broken on purpose ({name}): caught in cycle {cycles}"


def write(log: FigureLog) -> None:
    """Bring totals and page up to what the log knows."""
    totals = newer(read_totals(), log.entries())
    document = {name: asdict(found) for name, found in totals.items()}
    TOTALS.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(totals), encoding="utf-8")


if __name__ == "__main__":
    write(FigureLog())
