"""Short forms of the campaigns against backup, restore, rebuild, compaction and migration."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.faults.backups import CRASHES, backup_under_load, crash, power_backup, rebuild_after_loss
from tests.faults.disks import missing

SEED = 20260214


class CrashTests(SynchronousTestCase):
    """Commands that are killed at any of their steps."""

    def assert_converges(self, name: str) -> None:
        """Kill a few times; nothing is lost, and the next attempt ends well."""
        figures = crash(name, 10, SEED)
        self.assertEqual([], figures.lost, str(figures))
        self.assertGreater(figures.crashes, 3)

    def test_backup(self) -> None:
        """A killed backup leaves the one before."""
        self.assert_converges("crash-backup")

    def test_restore(self) -> None:
        """A killed restore leaves nothing that could be served, and can be repeated."""
        self.assert_converges("crash-restore")

    def test_rebuild(self) -> None:
        """A killed rebuild leaves no database, or a whole one."""
        self.assert_converges("crash-rebuild")

    def test_compaction(self) -> None:
        """A killed compaction leaves a journal that tells the same."""
        self.assert_converges("crash-compaction")

    def test_migration(self) -> None:
        """A killed migration is gone on with by the next command."""
        self.assert_converges("crash-migration")

    def test_broken_ones_are_caught(self) -> None:
        """A command that breaks its promise is caught: the campaigns can see such a loss."""
        for name in ("crash-rebuild", "crash-compaction", "crash-migration"):
            self.assertNotEqual([], crash(name, 50, SEED, broken=CRASHES[name][1]).lost, name)


class PowerTests(SynchronousTestCase):
    """Backups on a disk whose power is cut."""

    skip = missing() or None

    def test_backup(self) -> None:
        """A backup that was done is there after a power cut, and the ones before it are in any case."""
        figures = power_backup(6, SEED)
        self.assertEqual([], figures.lost, str(figures))

    def test_unflushed(self) -> None:
        """A backup that flushes nothing is caught."""
        self.assertNotEqual([], power_backup(50, SEED, broken="flush-nothing").lost)


class LoadTests(SynchronousTestCase):
    """A real server, with clients that push."""

    def test_backup(self) -> None:
        """What was acknowledged before a backup began is in the registry restored from it."""
        figures = backup_under_load(2, SEED)
        self.assertEqual([], figures.lost, str(figures))
        self.assertGreater(figures.acknowledged, 20)

    def test_rebuild(self) -> None:
        """A server that was killed and lost its database has everything acknowledged after a rebuild."""
        figures = rebuild_after_loss(2, SEED)
        self.assertEqual([], figures.lost, str(figures))
        self.assertGreater(figures.acknowledged, 20)
