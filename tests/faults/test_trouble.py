"""Short forms of the campaigns of full and failing disks, flipped bits and wrong clocks."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.faults import broken_disk, clocks, faulty_disk, flips, full_disk, loops, others, points, refusals

SEED = 20260214


class FullDiskTests(SynchronousTestCase):
    skip = loops.missing() or None

    def test_steps(self) -> None:
        """With few blocks left a push is taken whole or refused, reads go on, and room is enough to go on."""
        with full_disk.trouble(SEED) as scene:
            self.assertEqual([], full_disk.run_steps(scene, range(0, 200, 25)))
            self.assertEqual([], full_disk.clean_up(scene))
            self.assertEqual([], full_disk.durable(scene))

    def test_inodes(self) -> None:
        """Without inodes a push is refused, and nothing is harmed."""
        self.assertEqual([], full_disk.run_inodes(SEED))

    def test_no_ballast(self) -> None:
        """Without the ballast a full disk cannot be emptied: the campaign sees what it is for."""
        with full_disk.trouble(SEED, ballast="0B") as scene:
            for _ in range(40):
                scene.witness.push(20_000)
            self.assertNotEqual([], full_disk.clean_up(scene))


class LimitTests(SynchronousTestCase):
    skip = loops.missing() or None

    def test_descriptors(self) -> None:
        """Without file descriptors nothing is harmed, and the server goes on when there are some."""
        self.assertEqual([], full_disk.run_descriptors(SEED))

    def test_memory(self) -> None:
        """Without memory nothing is harmed, and the server goes on when there is some."""
        self.assertEqual([], full_disk.run_memory(SEED))


class RefusalTests(SynchronousTestCase):
    skip = points.missing() or None

    def test_quota(self) -> None:
        """A full quota is a full disk: 507, deletes with the room of the ballast, and no restart."""
        self.assertEqual([], refusals.run_quota(SEED, 1))

    def test_file_limit(self) -> None:
        """Files that must not grow are refused with 507, and nobody takes the disk for broken."""
        self.assertEqual([], refusals.run_file_limit(SEED))


class BrokenDiskTests(SynchronousTestCase):
    skip = faulty_disk.missing() or None

    def test_writes(self) -> None:
        """A disk that fails in the middle of pushes harms nothing that was acknowledged."""
        self.assertEqual([], broken_disk.run_writes(SEED, 1))

    def test_reads(self) -> None:
        """A blob that cannot be read is cut off, not cut short."""
        self.assertEqual([], broken_disk.run_reads(SEED))

    def test_slow_reads(self) -> None:
        """Blobs that a slow disk has to be read for come whole, and the reactor does not wait for it."""
        self.assertEqual([], broken_disk.run_slow_reads(SEED, 1).wrong)

    def test_sent_by_waiting(self) -> None:
        """A server that lets the kernel send what is not in memory is caught."""
        (step,) = others.sent_by_waiting(1, SEED)
        self.assertNotEqual([], step.wrong)


class ReadOnlyTests(SynchronousTestCase):
    skip = loops.missing() or None

    def test_read_only(self) -> None:
        """A file system that becomes read-only refuses pushes and serves pulls."""
        self.assertEqual([], broken_disk.run_read_only(SEED))


class RecoveryTests(SynchronousTestCase):
    def test_recovery(self) -> None:
        """A disk that fails and comes back takes writes again without a restart; nothing is synced twice."""
        self.assertEqual([], broken_disk.run_recovery(SEED, 1))

    def test_repeated_fsync(self) -> None:
        """A server that repeats a failed fsync is caught."""
        (step,) = others.repeated_fsync(1, SEED)
        self.assertNotEqual([], step.wrong)


class FlipTests(SynchronousTestCase):
    def test_flips(self) -> None:
        """Every flipped bit is found by one pass of the scrub, and healed by a push."""
        with flips.scrubbed() as server:
            self.assertEqual([], flips.run_flips(server, 50, SEED))


class ClockTests(SynchronousTestCase):
    def test_clocks(self) -> None:
        """A clock that jumps makes nothing old before its time."""
        life = clocks.run_clocks(3000, SEED)
        self.assertEqual([], life.wrong)
        self.assertGreater(life.removed, 10)

    def test_unwatched(self) -> None:
        """The campaign sees what an unwatched clock does."""
        self.assertNotEqual([], clocks.run_clocks(5000, SEED, is_watched=False).wrong)
