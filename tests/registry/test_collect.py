"""Garbage collection as a use case, over verified fakes."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, StorageFull, StoreUnavailable
from dockreg_tx.ports import StoredContent
from dockreg_tx.registry.collect import LOCK_SECONDS, CollectionRules, Decision, Pace, Reason
from tests.registry.world import REPOSITORY, World, error_of

HOUR = 3600.0
RULES = CollectionRules(grace_seconds=24 * HOUR, trash_seconds=24 * HOUR)


class PaceTests(SynchronousTestCase):
    """How many blobs one transaction removes."""

    def setUp(self) -> None:
        self.now = 0.0
        self.pace = Pace(lambda: self.now)

    def batch(self, seconds_of_one: float, seconds_of_all: float) -> int:
        """Return how many blobs fit into one transaction of this disk."""
        count, is_enough = 0, False
        while not is_enough:
            is_enough = self.pace.is_enough()
            count += 1
            self.now += seconds_of_one
        self.now += seconds_of_all
        self.pace.ended()
        return count

    def test_fast_disk(self) -> None:
        """On a fast disk it grows, step by step, to what one look-up finds."""
        self.assertEqual([10, 20, 40, 80, 100, 100], [self.batch(0.0, 0.0001) for _ in range(6)])

    def test_slow_disk(self) -> None:
        """On a slow one it shrinks, but is never without any."""
        self.assertEqual(
            [10, 2, 1, 1], [self.batch(0.0, LOCK_SECONDS * factor) for factor in (5, 50, 50, 50)]
        )

    def test_slow_moves(self) -> None:
        """Moves that take long by themselves end it early."""
        self.assertEqual(5, self.batch(LOCK_SECONDS / 4, 0.0))


class CollectTests(TestCase):
    """A registry, and days that pass."""

    def setUp(self) -> None:
        self.world = World()

    async def run_at(
        self, time: float, rules: CollectionRules = RULES, *, dry_run: bool = False
    ) -> list[Decision]:
        """Collect at a time."""
        self.world.time = time
        return await self.world.collect.run(rules, now=time, dry_run=dry_run)

    async def test_a_day(self) -> None:
        """An image stays whole; what nothing names goes to the trash a day later, and for good after two."""
        image = await self.world.image(b"layer")
        await self.world.put("v1", image)
        lost = await self.world.push_blob(b"lost")
        self.assertEqual([], await self.run_at(1000.0 + 24 * HOUR))
        would = await self.run_at(1001.0 + 24 * HOUR, dry_run=True)
        self.assertIn(lost, self.world.blobs.contents)
        found = await self.run_at(1001.0 + 24 * HOUR)
        self.assertEqual([Decision(lost, 4, Reason.UNREFERENCED, 1000.0)], found)
        self.assertEqual(would, found)
        await error_of(self.world.pull.find_blob(REPOSITORY, lost), BlobUnknown)
        self.assertNotIn(lost, self.world.blobs.contents)
        self.assertEqual([lost], [entry.digest for entry, _ in self.world.trash.taken.values()])
        await self.run_at(1002.0 + 48 * HOUR)
        self.assertEqual({}, self.world.trash.taken)
        for content in (b"layer", b"{}", image):
            self.assertEqual(content, self.world.blobs.contents[Digest.of(content)])

    async def test_many(self) -> None:
        """More than one batch is collected, in more than one transaction."""
        for number in range(250):
            await self.world.push_blob(b"%d" % number)
        clock = self.world.clock
        take = self.world.trash.take

        def slow(digest: Digest) -> object:
            clock.advance(0.01)
            return take(digest)

        self.patch(self.world.trash, "take", slow)
        found = await self.run_at(1001.0, CollectionRules(0.0, 0.0))
        self.assertEqual((250, {}, {}), (len(found), self.world.blobs.contents, self.world.trash.taken))

    async def test_head_renews(self) -> None:
        """A blob that a client was told of at the end of its time lives for a whole grace period more."""
        digest = await self.world.push_blob(b"layer")
        self.world.time = 1000.0 + 23 * HOUR
        await self.world.pull.promise_blob(REPOSITORY, digest)
        self.assertEqual([], await self.run_at(1001.0 + 46 * HOUR))
        self.assertEqual([digest], [item.digest for item in await self.run_at(1001.0 + 47 * HOUR)])

    async def test_head_writes_seldom(self) -> None:
        """A blob that was touched within a quarter of the grace period is not written again."""
        digest = await self.world.push_blob(b"layer")
        self.world.time = 1000.0 + 6 * HOUR
        record = await self.world.pull.promise_blob(REPOSITORY, digest)
        self.assertEqual(1000.0, record.touched_at)
        self.world.time += 1
        await self.world.pull.promise_blob(REPOSITORY, digest)
        self.assertEqual(self.world.time, (await self.world.pull.find_blob(REPOSITORY, digest)).touched_at)

    async def test_orphans(self) -> None:
        """Bytes without a record go; those of an upload under way stay."""
        orphan = Digest.of(b"orphan")
        await self.world.blobs.put(orphan, b"orphan")
        key = await self.world.open_session()
        (await self.world.staging.open(key.upload_id)).close()
        would = await self.run_at(30 * HOUR, dry_run=True)
        found = await self.run_at(30 * HOUR)
        self.assertEqual([Decision(orphan, 6, Reason.ORPHAN, 0.0)], found)
        self.assertEqual(would, found)
        self.assertEqual([key.upload_id], await self.world.staging.list())

    async def test_many_orphans(self) -> None:
        """Orphans share transactions across the shards they lie in, and all of them go."""
        for number in range(250):
            await self.world.blobs.put(Digest.of(b"%d" % number), b"%d" % number)
        batches: list[int] = []
        self.patch(self.world.trash, "settle", lambda moved: batches.append(len(moved)))
        found = await self.run_at(30 * HOUR, CollectionRules(0.0, 0.0))
        self.assertEqual((250, {}, {}), (len(found), self.world.blobs.contents, self.world.trash.taken))
        self.assertEqual(250, sum(batches))
        self.assertLess(len(batches), 12)

    async def test_orphans_that_cannot_be_moved(self) -> None:
        """A disk that refuses keeps the orphans where they are, and the rest of the run goes on."""
        await self.world.blobs.put(Digest.of(b"orphan"), b"orphan")
        old = await self.world.push_blob(b"old")

        async def refuse(*args: object, **more: object) -> None:
            raise StorageFull

        self.patch(self.world.records, "collect_orphans", refuse)
        self.assertEqual([old], [item.digest for item in await self.run_at(30 * HOUR, CollectionRules(0, 0))])
        self.assertEqual([b"orphan"], list(self.world.blobs.contents.values()))
        self.assertEqual({}, self.world.trash.taken)

    async def test_a_directory_that_cannot_be_listed(self) -> None:
        """What cannot be listed, or not be purged, stays; the run goes on."""
        old = await self.world.push_blob(b"old")
        await self.world.blobs.put(Digest.of(b"orphan"), b"orphan")

        async def refuse(_: object) -> list[StoredContent]:
            raise StoreUnavailable("no")

        self.patch(self.world.trash, "stored", refuse)
        self.patch(self.world.trash, "purge", refuse)
        self.assertEqual([old], [item.digest for item in await self.run_at(30 * HOUR, CollectionRules(0, 0))])
        self.assertEqual([b"orphan"], list(self.world.blobs.contents.values()))
        self.assertEqual([b"old"], [content for _, content in self.world.trash.taken.values()])

    async def test_decisions_of_a_run_that_fails(self) -> None:
        """What was removed is in the log even if the run ends early."""
        old = await self.world.push_blob(b"old")

        async def unknown(digests: Sequence[Digest]) -> list[Digest]:
            if digests:
                raise StoreUnavailable("no")
            return []

        await self.world.blobs.put(Digest.of(b"orphan"), b"orphan")
        self.patch(self.world.records, "unknown_content", unknown)
        with capturedLogs() as events:
            await error_of(self.run_at(30 * HOUR, CollectionRules(0, HOUR)), StoreUnavailable)
        self.assertEqual([str(old)], [event["digest"] for event in events if "digest" in event])

    async def test_recover(self) -> None:
        """Bytes of a recorded blob that a killed run left in the trash come back before the purge."""
        digest = await self.world.push_blob(b"layer")
        self.world.trash.take(digest)
        await self.world.collect.recover()
        self.assertEqual(b"layer", self.world.blobs.contents[digest])
        self.world.trash.take(digest)
        await self.run_at(2000.0)
        self.assertEqual(b"layer", self.world.blobs.contents[digest])

    async def test_untagged(self) -> None:
        """Untagged manifests stay by default, and go with their layers' turn when told so."""
        digest = await self.world.put("v1", await self.world.image(b"layer"))
        await self.world.remove.manifest(REPOSITORY, "v1", by="ann")
        self.assertEqual([], await self.run_at(1000 * HOUR))
        rules = CollectionRules(24 * HOUR, 24 * HOUR, untagged_after_seconds=7 * 24 * HOUR)
        would = await self.run_at(1000 * HOUR, rules, dry_run=True)
        found = await self.run_at(1000 * HOUR, rules)
        self.assertEqual((digest, Reason.UNTAGGED, REPOSITORY.text), _key(found[0]))
        self.assertEqual(found[0], would[0])

    async def test_schedule(self) -> None:
        """A scheduled run happens when its time has come, and an hour late after a jump of the clock."""
        lost = await self.world.push_blob(b"lost")
        collect, day = self.world.collect, 24 * HOUR

        async def due_at(time: float) -> int:
            self.world.time = time
            return len(await collect.run_if_due(RULES, schedule_seconds=day, now=time))

        self.assertEqual(0, await due_at(1000.0))
        self.assertEqual(0, await due_at(999.0 + day))
        self.assertEqual(0, await due_at(1000.0 + 30 * day))
        self.assertIn(lost, self.world.blobs.contents)
        self.assertEqual(0, await due_at(999.0 + 30 * day + HOUR))
        self.assertEqual(1, await due_at(1000.0 + 30 * day + HOUR))

    async def test_clock_went_back(self) -> None:
        """A clock that goes back collects nothing early."""
        await self.world.push_blob(b"lost")
        await self.run_at(900 * HOUR, CollectionRules(1000 * HOUR, 0.0))
        self.assertEqual([], await self.run_at(500.0))


def _key(decision: Decision) -> tuple[Digest, Reason, str]:
    return decision.digest, decision.reason, decision.repository
