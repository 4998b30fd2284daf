"""Short forms of the campaigns; ``make fault`` runs the long ones."""

from __future__ import annotations

from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from tests.faults import crowds, disks, logins, points, scale, workers
from tests.faults.catalogue import CAMPAIGNS
from tests.faults.figures import Step
from tests.faults.frame import Work

CYCLES = 2
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
        self.assertGreater(found.acknowledged, 10)

    def test_kill_during_the_first_start(self) -> None:
        """A first start that was killed is made good by the next one."""
        self.assertEqual([], run(CAMPAIGNS["first-starts"].work, 1).wrong)

    def test_early_answers_are_caught(self) -> None:
        """A server that answers before the bytes are in place is caught: the campaign can see such a loss."""
        for control in CAMPAIGNS["kill"].controls.values():
            self.assertNotEqual([], until_caught(control))


class PointTests(SynchronousTestCase):
    skip = points.missing() or None

    def test_every_call(self) -> None:
        """Nothing acknowledged is lost by death at a chosen system call of a push."""
        found = run(CAMPAIGNS["syscalls"].work, 2)
        self.assertEqual([], found.wrong)
        self.assertGreater(found.worst["points"], 50)
        self.assertEqual(2, sum(count for name, count in found.counts.items() if "killed at" in name))

    def test_recovery(self) -> None:
        """A start that is killed while it recovers ends well later."""
        self.assertEqual([], run(CAMPAIGNS["recovery"].work, 1).wrong)

    def test_killed_collection(self) -> None:
        """Garbage collection that is killed loses nothing, and leaves nothing behind."""
        self.assertEqual([], run(CAMPAIGNS["gc-crash"].work, 2).wrong)


class CollectionTests(SynchronousTestCase):
    def test_race(self) -> None:
        """Garbage collection without grace beside pushers takes no content that is needed."""
        found = run(CAMPAIGNS["gc-race"].work, 3)
        self.assertEqual([], found.wrong)
        self.assertGreater(found.counts["decisions"], 10)

    def test_scale(self) -> None:
        """A filled root is collected while somebody pushes."""
        (step,) = scale.scale(1, SEED, blobs=1000, manifests=200, quiet_seconds=0.5)
        self.assertEqual([], [line for line in step.wrong if "longer" not in line])
        self.assertEqual(100, step.counts["removed_blobs"])

    def test_crowds(self) -> None:
        """Slow headers and slow bodies are cut in time, and a push beside them succeeds."""
        deadlines = {"slow_headers": 1.0, "slow_bodies": 1.0}
        limits = {"DOCKREG_SERVER_HEADER_TIMEOUT": "1s", "DOCKREG_SERVER_BODY_TIMEOUT": "1s"}
        (step,) = crowds.connections(1, SEED, slow=50, deadlines=deadlines, environment=limits)
        self.assertEqual([], step.wrong)
        self.assertEqual(100, step.counts["connections"])


class PowerCutTests(SynchronousTestCase):
    skip = disks.missing() or disks.missing("xfs") or None

    def test_power_cut(self) -> None:
        """Nothing acknowledged is lost by a power cut."""
        found = run(CAMPAIGNS["power"].work, CYCLES)
        self.assertEqual([], found.wrong)
        self.assertGreater(found.acknowledged, 5)

    def test_power_cut_on_xfs(self) -> None:
        """The same on another file system."""
        self.assertEqual([], run(CAMPAIGNS["power-xfs"].work, 1).wrong)

    def test_power_cut_on_two_disks(self) -> None:
        """The same with the database on a disk of its own."""
        self.assertEqual([], run(CAMPAIGNS["power-two-disks"].work, 1).wrong)

    def test_missing_directory_fsync_is_caught(self) -> None:
        """A server that does not sync directories is caught: the campaign can see such a loss."""
        for control in CAMPAIGNS["power-two-disks"].controls.values():
            self.assertNotEqual([], until_caught(control))


class LoginTests(SynchronousTestCase):
    def test_logins(self) -> None:
        """Guessers slow down neither pulls nor right users, and learn nothing from the time they take."""
        outcome = logins.Outcome()
        logins.run(outcome, logins.SHORT)
        self.assertEqual([], outcome.missed, "\n".join(outcome.lines))


class WorkersTests(SynchronousTestCase):
    def test_workers(self) -> None:
        """Nothing acknowledged is lost when workers are killed, and the others' clients do not notice."""
        outcome = workers.run(5, SEED)
        self.assertEqual(([], [], "ok"), (outcome.lost, outcome.failures, outcome.integrity))
        self.assertGreater(outcome.acknowledged, 20)
