"""What campaigns found: the figures of some cycles, and the file that keeps them.

The file grows by a line every few cycles, so that a campaign may be interrupted at any time and goes on
where it was.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.protocol import standing

LOG = Path(__file__).parents[2] / ".faults" / "log.jsonl"
#: Lines about one loss are many; the first ones tell.
KEPT_LINES = 20


@dataclass
class Step:
    """What some cycles came to; steps add up.

    ``lost`` and ``half_visible`` have one line for each broken promise, ``failures`` for whatever else must
    not be, such as a file system that its checker complains about.
    """

    cycles: int = 1
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    half_visible: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    #: Figures that are added up.
    counts: dict[str, float] = field(default_factory=dict)
    #: Figures of which the largest one counts, ``restart_seconds`` among them.
    worst: dict[str, float] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be."""
        return [*self.lost, *self.half_visible, *self.failures]

    def add(self, other: Step) -> None:
        """Take in the figures of later cycles."""
        self.cycles += other.cycles
        self.acknowledged += other.acknowledged
        self.lost += other.lost
        self.half_visible += other.half_visible
        self.failures += other.failures
        for name, value in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + value
        for name, value in other.worst.items():
            self.worst[name] = max(self.worst.get(name, value), value)

    def __str__(self) -> str:
        """Give the figures in one line."""
        parts = [f"{self.cycles:,} cycles", f"{self.acknowledged:,} acknowledged", f"{len(self.lost)} lost"]
        parts += [f"{len(self.half_visible)} half-visible", f"{len(self.failures)} failures"]
        return ", ".join([*parts, *figures(self.counts), *figures(self.worst, "worst ")])


#: What a campaign yields; closing it cleans up.
Steps = Generator[Step, None, None]


def figures(values: Mapping[str, float], prefix: str = "") -> Iterator[str]:
    """Yield figures as people read them; the unit ends the name."""
    for name, value in sorted(values.items()):
        noun, _, unit = name.rpartition("_")
        short = {"seconds": "s", "milliseconds": "ms", "mib": "MiB"}.get(unit)
        text = f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
        if short:
            yield f"{prefix}{noun.replace('_', ' ')} {text} {short}"
        else:
            yield f"{text} {name.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the file."""

    time: str
    campaign: str
    protocol: str
    machine: str
    seed: int
    duration_seconds: float
    step: Step
    #: Name of the server broken on purpose; empty for the real one.
    control: str = ""
    #: How many cycles were asked for, 0 for the goal, and the total at which the run is done.
    asked: int = 0
    target: int = 0


class FigureLog:
    """The file; made when the first line comes."""

    def __init__(self, path: Path = LOG) -> None:
        self._path = path

    def append(self, entry: Entry) -> None:
        """Keep a line."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def entries(self) -> list[Entry]:
        """Return all lines; one that an interruption left half-written is passed over."""
        if not self._path.exists():
            return []
        return list(_parsed(self._path.read_text(encoding="utf-8").splitlines()))


def _parsed(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        try:
            fields: dict[str, Any] = json.loads(line)
            known = {"protocol": standing(fields["protocol"]), "step": Step(**fields["step"])}
            yield Entry(**{**fields, **known})
        except (ValueError, TypeError, KeyError):
            continue


def total(entries: Iterable[Entry]) -> Step:
    """Add up the lines."""
    sum_of_all = Step(cycles=0)
    for entry in entries:
        sum_of_all.add(entry.step)
    return sum_of_all
