"""Short forms of the campaigns; ``make fault`` runs the long ones."""

from __future__ import annotations

from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from tests.faults import disks
from tests.faults.catalogue import CAMPAIGNS
from tests.faults.figures import Step
from tests.faults.frame import Work

CYCLES = 4
SEED = 20260214


def run(work: Work, cycles: int) -> Step:
    """Return what some cycles come to."""
    found = Step(cycles=0)
    for step in work(cycles, SEED):
        found.add(step)
    return found


def until_caught(work: Work, cycles: int = 30) -> list[str]:
    """Return what is wrong with a broken server, as soon as it is seen."""
    with closing(work(cycles, SEED)) as steps:
        return next((step.wrong for step in steps if step.wrong), [])


class KillTests(SynchronousTestCase):
    def test_kill(self) -> None:
        """Nothing acknowledged is lost by kill -9, and nothing is seen half."""
        found = run(CAMPAIGNS["kill"].work, CYCLES)
        self.assertEqual([], found.wrong)
        self.assertGreater(found.acknowledged, 30)

    def test_kill_during_the_first_start(self) -> None:
        """A first start that was killed is made good by the next one."""
        self.assertEqual([], run(CAMPAIGNS["first-starts"].work, 2).wrong)

    def test_early_answers_are_caught(self) -> None:
        """A server that answers before the bytes are in place is caught: the campaign can see such a loss."""
        for control in CAMPAIGNS["kill"].controls.values():
            self.assertNotEqual([], until_caught(control))


class PowerCutTests(SynchronousTestCase):
    skip = disks.missing() or disks.missing("xfs") or None

    def test_power_cut(self) -> None:
        """Nothing acknowledged is lost by a power cut."""
        found = run(CAMPAIGNS["power"].work, CYCLES)
        self.assertEqual([], found.wrong)
        self.assertGreater(found.acknowledged, 20)

    def test_power_cut_on_xfs(self) -> None:
        """The same on another file system."""
        self.assertEqual([], run(CAMPAIGNS["power-xfs"].work, 2).wrong)

    def test_power_cut_on_two_disks(self) -> None:
        """The same with the database on a disk of its own."""
        self.assertEqual([], run(CAMPAIGNS["power-two-disks"].work, 2).wrong)

    def test_missing_directory_fsync_is_caught(self) -> None:
        """A server that does not sync directories is caught: the campaign can see such a loss."""
        for control in CAMPAIGNS["power-two-disks"].controls.values():
            self.assertNotEqual([], until_caught(control))
