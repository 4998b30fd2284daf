"""Short forms of the campaigns; ``make fault`` runs the long ones."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.faults import disks, logins, workers
from tests.faults.campaigns import Outcome, kill_scene, power_scene, run, run_first_starts

CYCLES = 5
SEED = 20260214


class KillTests(SynchronousTestCase):
    def test_kill(self) -> None:
        """Nothing acknowledged is lost by kill -9."""
        outcome = Outcome("kill", SEED)
        with kill_scene() as scene:
            run(scene, outcome, CYCLES)
        self.assertEqual([], outcome.lost)
        self.assertGreater(outcome.acknowledged, 50)

    def test_kill_during_the_first_start(self) -> None:
        """A first start that was killed is made good by the next one."""
        outcome = Outcome("first-starts", SEED)
        run_first_starts(outcome, CYCLES)
        self.assertEqual([], outcome.lost)


class LoginTests(SynchronousTestCase):
    def test_logins(self) -> None:
        """Guessers slow down neither pulls nor right users, and learn nothing from the time they take."""
        outcome = logins.Outcome()
        logins.run(outcome, logins.SHORT)
        self.assertEqual([], outcome.missed, "\n".join(outcome.lines))


class PowerCutTests(SynchronousTestCase):
    skip = disks.missing() or None

    def test_power_cut(self) -> None:
        """Nothing acknowledged is lost by a power cut."""
        outcome = Outcome("power", SEED)
        with power_scene() as scene:
            run(scene, outcome, CYCLES)
        self.assertEqual([], outcome.lost)
        self.assertGreater(outcome.acknowledged, 50)

    def test_power_cut_on_two_disks(self) -> None:
        """The same with the database on a disk of its own."""
        outcome = Outcome("power-two-disks", SEED)
        with power_scene(split=True) as scene:
            run(scene, outcome, CYCLES)
        self.assertEqual([], outcome.lost)

    def test_power_cut_during_the_first_start(self) -> None:
        """A first start that lost its disk's power is made good by the next one."""
        outcome = Outcome("first-starts-power", SEED)
        run_first_starts(outcome, CYCLES, with_disk=True)
        self.assertEqual([], outcome.lost)

    def test_missing_directory_fsync_is_caught(self) -> None:
        """A server that does not sync directories is caught: the campaign can see such a loss."""
        outcome = Outcome("control", SEED)
        with power_scene(split=True, broken="directory-fsync") as scene:
            run(scene, outcome, 30, stop_when_lost=True)
        self.assertNotEqual([], outcome.lost_blobs)


class WorkersTests(SynchronousTestCase):
    def test_workers(self) -> None:
        """Nothing acknowledged is lost when workers are killed, and the others' clients do not notice."""
        outcome = workers.run(CYCLES, SEED)
        self.assertEqual(([], [], "ok"), (outcome.lost, outcome.failures, outcome.integrity))
        self.assertGreater(outcome.acknowledged, 20)
