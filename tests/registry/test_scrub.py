"""The scrub as a use case, over verified fakes."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dockreg_tx.blobs.memory import MemoryTrash
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, StoreUnavailable
from dockreg_tx.ports import OpenBlob, ScrubState
from dockreg_tx.registry.scrub import Pace, Scrub
from dockreg_tx.registry.verify import Verify
from tests.registry.world import REPOSITORY, World, error_of

FAST = 10**12


class PaceTests(SynchronousTestCase):
    def test_rate(self) -> None:
        """Ten seconds' worth of bytes takes ten seconds, and what was not used is not saved up."""
        clock = Clock()
        pace = Pace(clock=clock, rate_bytes=1000)
        clock.advance(3600)
        waiting = Deferred.fromCoroutine(pace.spend(10_000))
        clock.advance(9)
        self.assertNoResult(waiting)
        clock.advance(1)
        self.successResultOf(waiting)


class ScrubTests(TestCase):
    """A registry with two good blobs."""

    async def prepare(self) -> None:
        """Push the blobs."""
        self.world = world = World()
        self.quarantine = MemoryTrash(blobs=world.blobs, now=lambda: 1.0)
        self.is_trusted = True
        self.scrub = Scrub(
            records=world.records,
            blobs=world.blobs,
            verify=Verify(
                records=world.records,
                blobs=world.blobs,
                quarantine=self.quarantine,
                blocking=InlineBlocking(),
            ),
            pace=Pace(clock=world.clock, rate_bytes=FAST),
            clock=world.clock,
            is_trusted=lambda: self.is_trusted,
        )
        self.digests = [await world.push_blob(content) for content in (b"first", b"second")]

    async def ended(self, now: float = 1000.0) -> ScrubState | None:
        """Scrub if a day has gone by."""
        return await self.scrub.run_if_due(schedule_seconds=86_400, now=now)

    async def test_damage(self) -> None:
        """Bad bytes are found, answer 404 from then on, and a push heals them."""
        await self.prepare()
        self.world.blobs.contents[self.digests[1]] = b"sEcond"
        state = await self.ended()
        self.assertEqual((2, 1), (state and state.checked, state and state.damaged))
        await error_of(self.world.pull.find_blob(REPOSITORY, self.digests[1]), BlobUnknown)
        self.assertEqual([b"sEcond"], [content for _, content in self.quarantine.taken.values()])
        await self.world.push_blob(b"second")
        self.assertIsNotNone(await self.world.pull.find_blob(REPOSITORY, self.digests[1]))

    async def test_sample(self) -> None:
        """The newest blobs' sizes are looked at: cut and missing ones are set aside; a push heals them."""
        await self.prepare()
        self.assertEqual(0, await self.scrub.sample())
        self.world.blobs.contents[self.digests[0]] = b"fir"
        del self.world.blobs.contents[self.digests[1]]
        self.is_trusted = False
        self.assertEqual(0, await self.scrub.sample())
        self.is_trusted = True
        self.assertEqual(2, await self.scrub.sample())
        for digest, content in zip(self.digests, (b"first", b"second"), strict=True):
            await error_of(self.world.pull.find_blob(REPOSITORY, digest), BlobUnknown)
            await self.world.push_blob(content)
            self.assertIsNotNone(await self.world.pull.find_blob(REPOSITORY, digest))
        self.assertEqual(0, await self.scrub.sample())

    async def test_references(self) -> None:
        """A manifest that lacks a layer counts as damaged, unless layers may be missing."""
        await self.prepare()
        await self.world.put("latest", await self.world.image(b"layer"))
        await self.world.records.unlink_blob(REPOSITORY, Digest.of(b"layer"), by="ann", now=1.0)
        state = await self.ended(1000.0)
        self.assertEqual(1, state and state.damaged)
        self.scrub.expects_layers = False
        state = await self.ended(100_000.0)
        self.assertEqual(0, state and state.damaged)

    async def test_schedule(self) -> None:
        """A pass begins a day after the last one, not before."""
        await self.prepare()
        self.assertIsNotNone(await self.ended(1000.0))
        self.assertIsNone(await self.ended(80_000.0))
        self.assertIsNotNone(await self.ended(90_000.0))

    async def test_cursor(self) -> None:
        """A pass goes on behind the cursor that the last process left."""
        await self.prepare()
        first = min(map(str, self.digests))
        await self.world.records.note_scrub(ScrubState(began_at=1.0, cursor=first, checked=1))
        state = await self.ended()
        self.assertEqual((1.0, 2), (state and state.began_at, state and state.checked))

    async def test_manifest_heals_from_its_row(self) -> None:
        """The file of a manifest is written anew from the database's copy."""
        await self.prepare()
        content = await self.world.image(b"layer")
        digest = await self.world.put("latest", content)
        self.world.blobs.contents[digest] = json.dumps("decay").encode()
        await self.ended()
        self.assertEqual(content, self.world.blobs.contents[digest])
        recorded = await self.world.records.recorded_blob(digest)
        self.assertFalse(recorded and recorded.is_quarantined)

    async def test_manifest_in_quarantine_heals(self) -> None:
        """So is that of one which somebody else put into quarantine before."""
        await self.prepare()
        content = await self.world.image(b"layer")
        digest = await self.world.put("latest", content)
        await self.world.records.quarantine_blob(digest, take=self.quarantine.take)
        await self.ended()
        self.assertEqual(content, self.world.blobs.contents[digest])
        recorded = await self.world.records.recorded_blob(digest)
        self.assertFalse(recorded and recorded.is_quarantined)

    async def test_disk_that_comes_back(self) -> None:
        """Blobs that were away while their disk was are good again without a push."""
        await self.prepare()
        content = self.world.blobs.contents.pop(self.digests[0])
        await self.ended(1000.0)
        await error_of(self.world.pull.find_blob(REPOSITORY, self.digests[0]), BlobUnknown)
        self.world.blobs.contents[self.digests[0]] = content
        await self.ended(100_000.0)
        self.assertIsNotNone(await self.world.pull.find_blob(REPOSITORY, self.digests[0]))

    async def test_unreadable_disk(self) -> None:
        """A disk that cannot be read at all condemns nothing; one blob that cannot, twice, is set aside."""
        await self.prepare()
        for number in range(20):
            await self.world.push_blob(b"%d" % number)
        unreadable = set(self.world.blobs.contents)
        opened = self.world.blobs.open

        async def failing(digest: object) -> OpenBlob:
            if digest in unreadable:
                raise StoreUnavailable("cannot be read")
            return await opened(digest)  # type: ignore[arg-type] # it is a digest

        self.patch(self.world.blobs, "open", failing)
        self.assertIsNone(await self.ended())
        page = await self.world.records.recorded_blobs("", 100)
        self.assertEqual([], [blob for blob in page if blob.is_quarantined])
        unreadable.clear()
        unreadable.add(self.digests[0])
        state = await self.ended()
        self.assertEqual(1, state and state.damaged)
        page = await self.world.records.recorded_blobs("", 100)
        self.assertEqual([self.digests[0]], [blob.digest for blob in page if blob.is_quarantined])

    async def test_suspects(self) -> None:
        """What a pull could not read is looked at before the next pass."""
        await self.prepare()
        await self.ended(1000.0)
        self.world.blobs.contents[self.digests[0]] = b"fIrst"
        self.scrub.suspects.add(self.digests[0])
        self.assertIsNone(await self.ended(1001.0))
        await error_of(self.world.pull.find_blob(REPOSITORY, self.digests[0]), BlobUnknown)

    async def test_failed_disk(self) -> None:
        """While the disk is not trusted nothing is judged."""
        await self.prepare()
        self.is_trusted = False
        self.world.blobs.contents[self.digests[0]] = b"fIrst"
        self.assertIsNone(await self.ended())
        self.assertIsNotNone(await self.world.pull.find_blob(REPOSITORY, self.digests[0]))
