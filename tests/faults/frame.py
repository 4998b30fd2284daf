"""The frame of all campaigns: what a campaign is, how it is resumed, and when it went well."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from tests.faults.figures import KEPT_LINES, Entry, FigureLog, Step, Steps, total

#: A broken server must be caught within so many cycles.
CONTROL_CYCLES = 50
#: A line is kept at least this often.
LINE_CYCLES, LINE_SECONDS = 10, 15.0


class Work(Protocol):
    """The work of a campaign: yields figures every few cycles, and cleans up when it is closed."""

    def __call__(self, cycles: int, seed: int, /) -> Steps:
        """Run so many cycles, whose chances come from the seed."""


def no_reason() -> str:
    """Nothing is missing."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A promise, and what proves it.

    Args:
        promise: one sentence for the operator, as it stands in docs/durability.md.
        goal: cycles to be run for one version of the on-disk protocol.
        work: runs them on the real server.
        controls: the same for servers broken on purpose, by what is broken; each must be caught.
        ceilings: largest values allowed for ``worst`` figures.
        floors: least values required of ``counts`` once the goal is reached.
        cycle: what one cycle is.
        missing: tells why it cannot run on this machine, or nothing.
    """

    name: str
    promise: str
    goal: int
    work: Work
    controls: Mapping[str, Work] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    cycle: str = "cycles"
    missing: Callable[[], str] = no_reason

    def wrong(self, found: Step) -> list[str]:
        """Return what speaks against the promise in these totals."""
        lines = list(found.wrong)
        for name, limit in self.ceilings.items():
            if found.worst.get(name, 0) > limit:
                lines.append(f"{name} is {found.worst[name]:.2f}, more than {limit:g}")
        for name, least in self.floors.items():
            if found.cycles >= self.goal and found.counts.get(name, 0) < least:
                lines.append(f"{name} is {found.counts.get(name, 0):.0f}, less than {least:g}")
        return lines


def whole(work: Callable[[int, int], bool]) -> Work:
    """Make the work of a campaign from a function that only tells whether all went well."""

    def run(cycles: int, seed: int) -> Steps:
        is_well = work(cycles, seed)
        yield Step(cycles=cycles, failures=[] if is_well else [f"seed {seed} went wrong: see above"])

    return run


def machine() -> str:
    """Describe the machine in a few words: what the figures depend on, and nothing that names it."""
    kernel = ".".join(platform.release().split(".")[:2])
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} CPUs, {memory_gib:.0f} GiB, Linux {kernel}, Python {platform.python_version()}"


class Runner:
    """Runs campaigns, keeps their figures, and says on a terminal what they came to."""

    def __init__(self, *, log: FigureLog, protocol: str, say: Callable[[str], None] | None = None) -> None:
        self._log = log
        self._protocol = protocol
        self._say = say or _print

    def run(self, campaign: Campaign, *, asked: int = 0, seed: int) -> bool:
        """Run what is missing to the goal, or ``asked`` cycles more; tell whether the promise holds.

        A run that was interrupted goes on when the same is asked for again.
        """
        if reason := campaign.missing():
            self._say(f"{campaign.name}: skipped: {reason}")
            return True
        is_caught = not [name for name in campaign.controls if not self._control(campaign, name, seed)]
        target = self._target(campaign, asked)
        missing = target - self._total(campaign.name).cycles
        if missing > 0:
            self._say(f"{campaign.name}: {missing:,} {campaign.cycle} to run, seed {seed}")
            work = campaign.work(missing, seed)
            self._keep(campaign.name, work, seed=seed, asked=asked, target=target)
        found = self._total(campaign.name)
        wrong = campaign.wrong(found)
        self._say(f"{campaign.name}: {found}: {'NOT KEPT' if wrong else 'ok'}")
        for line in wrong[:50]:
            self._say(f"    {line}")
        return is_caught and not wrong

    def _control(self, campaign: Campaign, control: str, seed: int) -> bool:
        """Let the campaign catch a broken server, unless it did already."""
        if any(self._total(campaign.name, control).wrong):
            return True
        before = self._total(campaign.name, control).cycles
        work = campaign.controls[control](CONTROL_CYCLES, seed)
        self._keep(campaign.name, work, seed=seed, control=control)
        found = self._total(campaign.name, control)
        verdict = "caught, as it must be" if found.wrong else "NOT CAUGHT"
        self._say(f"{campaign.name}, {control}: {verdict}, after {found.cycles - before} cycles")
        for line in found.wrong[:2]:
            self._say(f"    {line}")
        return bool(found.wrong)

    def _keep(
        self,
        name: str,
        work: Steps,
        *,
        seed: int,
        control: str = "",
        asked: int = 0,
        target: int = 0,
    ) -> None:
        began = time.monotonic()
        kept = Step(cycles=0)

        def write() -> None:
            nonlocal began, kept
            if kept.cycles:
                seconds = round(time.monotonic() - began, 2)
                moment = datetime.now(UTC).isoformat(timespec="seconds")
                for lines in (kept.lost, kept.half_visible, kept.failures):
                    del lines[KEPT_LINES:]
                entry = Entry(
                    moment, name, self._protocol, machine(), seed, seconds, kept, control, asked, target
                )
                self._log.append(entry)
            began, kept = time.monotonic(), Step(cycles=0)

        with closing(work), ExitStack() as stack:
            stack.callback(write)
            for step in work:
                kept.add(step)
                if step.wrong and not control:
                    self._say(f"{name}: {step.wrong[0]}")
                if step.wrong or kept.cycles >= LINE_CYCLES or time.monotonic() - began >= LINE_SECONDS:
                    write()
                if control and step.wrong:
                    break

    def _total(self, campaign: str, control: str = "") -> Step:
        return total(self._entries(campaign, control))

    def _entries(self, campaign: str, control: str = "") -> list[Entry]:
        return [
            entry
            for entry in self._log.entries()
            if (entry.campaign, entry.control, entry.protocol) == (campaign, control, self._protocol)
        ]

    def _target(self, campaign: Campaign, asked: int) -> int:
        entries = self._entries(campaign.name)
        done = total(entries).cycles
        if not asked:
            return campaign.goal
        if entries and entries[-1].asked == asked and entries[-1].target > done:
            return entries[-1].target
        return done + asked


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
