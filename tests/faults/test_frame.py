"""The frame of the campaigns: resuming, controls, totals, and the page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.faults.campaigns import REPOSITORY
from tests.faults.figures import Entry, FigureLog, Step, Steps
from tests.faults.frame import Campaign, Runner, whole
from tests.faults.protocol import SAME_WRITES, standing, version
from tests.faults.report import PAGE, inherited, newer, page, read_totals


class RunnerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "log.jsonl"
        self.ran: list[int] = []
        self.said: list[str] = []
        self.ends_after = 10_000

    def runner(self, protocol: str = "1") -> Runner:
        """Return a runner on the one log."""
        return Runner(log=FigureLog(self.path), protocol=protocol, say=self.said.append)

    def work(self, cycles: int, seed: int) -> Steps:
        """Run cycles in which nothing happens, until somebody pulls the plug."""
        self.ran.append(cycles)
        for _ in range(cycles):
            if not self.ends_after:
                raise KeyboardInterrupt
            self.ends_after -= 1
            yield Step(acknowledged=2, worst={"restart_seconds": 0.5})

    def losing(self, cycles: int, seed: int) -> Steps:
        """Lose something in the third cycle."""
        yield Step(cycles=2)
        yield Step(lost=["a blob"])
        yield Step(lost=["never asked for"])

    def campaign(self, **more: object) -> Campaign:
        """Return a campaign of 30 cycles."""
        fields = {"name": "sample", "promise": "It works.", "goal": 30, "work": self.work, **more}
        return Campaign(**fields)  # type: ignore[arg-type] # a test's shorthand

    def test_goal_is_reached_once(self) -> None:
        """What was run already is not run again."""
        self.assertTrue(self.runner().run(self.campaign(), seed=1))
        self.assertTrue(self.runner().run(self.campaign(), seed=1))
        self.assertEqual([30], self.ran)

    def test_another_protocol_begins_anew(self) -> None:
        """Figures count for one version of the protocol."""
        self.runner("1").run(self.campaign(), seed=1)
        self.runner("2").run(self.campaign(), seed=1)
        self.assertEqual([30, 30], self.ran)

    def test_interrupted_run_goes_on(self) -> None:
        """What was interrupted goes on; asked for again when it is done, it adds to the totals."""
        self.ends_after = 25
        with self.assertRaises(KeyboardInterrupt):
            self.runner().run(self.campaign(), asked=40, seed=1)
        self.ends_after = 10_000
        for _ in range(2):
            self.runner().run(self.campaign(), asked=40, seed=1)
        self.assertEqual([40, 15, 40], self.ran)
        self.assertIn("80 cycles, 160 acknowledged", self.said[-1])

    def test_half_a_line(self) -> None:
        """A line that was cut off by an interruption is passed over."""
        self.runner().run(self.campaign(goal=10), seed=1)
        with self.path.open("a", encoding="utf-8") as file:
            file.write('{"time": "20')
        self.assertTrue(self.runner().run(self.campaign(goal=10), seed=1))
        self.assertEqual([10], self.ran)

    def test_control(self) -> None:
        """A broken server is run until the first loss, once; one that nobody catches is a failure."""
        for _ in range(2):
            self.assertTrue(self.runner().run(self.campaign(controls={"broken": self.losing}), seed=1))
        (entry,) = [entry for entry in FigureLog(self.path).entries() if entry.control]
        self.assertEqual((3, ["a blob"]), (entry.step.cycles, entry.step.lost))
        self.assertFalse(self.runner().run(self.campaign(controls={"harmless": self.work}), seed=1))

    def test_limits(self) -> None:
        """A figure above its ceiling, or below its floor at the goal, breaks the promise; so does a loss."""
        for more in (
            {"ceilings": {"restart_seconds": 0.4}},
            {"floors": {"decisions": 1}},
            {"work": self.losing, "name": "losing"},
            {"work": whole(lambda cycles, seed: False), "name": "whole"},
        ):
            self.assertFalse(self.runner().run(self.campaign(**more), seed=1), more)

    def test_skip(self) -> None:
        """A campaign that cannot run here says why."""
        self.assertTrue(self.runner().run(self.campaign(missing=lambda: "no disk"), seed=1))
        self.assertEqual(["sample: skipped: no disk"], self.said)


class BrokenServerTests(SynchronousTestCase):
    def test_every_fault_breaks_something(self) -> None:
        """What a fault replaces exists where it is looked up; a process of its own is broken to see that."""
        program = "from tests.faults.broken_server import FAULTS\nfor fault in FAULTS.values(): fault()"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr))


class ProtocolTests(SynchronousTestCase):
    def test_version(self) -> None:
        """The version names the format, and is the same each time."""
        self.assertRegex(version(), r"^\d+-[0-9a-f]{10}$")
        self.assertEqual(version(), version())

    def test_same_writes(self) -> None:
        """Figures count on where only reads changed, and the page says so; any other version begins anew."""
        for old, (new, reason) in SAME_WRITES.items():
            self.assertEqual(standing(new), standing(old))
            self.assertIn(f"Figures of {old} count for {new}", page({}))
            self.assertGreater(len(reason.split()), 5)
        self.assertEqual("1-0123456789", standing("1-0123456789"))


class PageTests(SynchronousTestCase):
    def entry(self, protocol: str, cycles: int, *, control: str = "", lost: int = 0) -> Entry:
        """Return a line of the log."""
        step = Step(cycles=cycles, acknowledged=7, lost=["a blob"] * lost, worst={"restart_seconds": 0.61})
        return Entry("2026-01-02T03:04:05", "kill", protocol, "2 CPUs", 1, 60.0, step, control)

    def test_page_is_generated(self) -> None:
        """The page that is checked in is the one that its totals give."""
        self.assertEqual(page(read_totals()), PAGE.read_text(encoding="utf-8"))

    def test_totals(self) -> None:
        """Lines of the newest protocol add up, and fewer cycles do not replace more of the same."""
        control = "answers before the bytes are in place"
        entries = [self.entry("1", 5), self.entry("2", 5, control=control, lost=1)]
        entries += [self.entry("2", 900), self.entry("2", 100)]
        totals = newer({}, entries)
        text = page(totals)
        self.assertIn("1,000 of 1,000 cycles, 0 lost, 0 half-visible", text)
        self.assertIn("worst restart 0.61 s (at most 2)", text)
        self.assertIn(f"broken on purpose ({control}): caught in cycle 5", text)
        self.assertEqual(totals, newer(totals, [self.entry("2", 10)]))
        self.assertEqual(10, newer(totals, [self.entry("3", 10)])["kill"].cycles)
        self.assertTrue(os.path.exists(PAGE))

    def test_checked_in_totals_go_on(self) -> None:
        """Totals that are checked in count for a log that begins, once, and come out as they went in."""
        entries = [self.entry("2", 5, control="a", lost=1), self.entry("2", 900, lost=2)]
        totals = newer({}, entries)
        lines = inherited(totals, [])
        self.assertEqual(totals, newer({}, lines))
        self.assertEqual(1000, newer(totals, [*lines, self.entry("2", 100)])["kill"].cycles)
        self.assertEqual([], inherited(totals, lines))
        self.assertEqual(lines, inherited(totals, [self.entry("1", 10)]))
