"""Verification as a use case, over verified fakes."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from dockreg_tx.blobs.memory import MemoryTrash
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown
from dockreg_tx.registry.verify import Damage, Verify
from tests.registry.world import REPOSITORY, World, error_of


class VerifyTests(TestCase):
    """A registry with a good blob and one that the disk changed."""

    def setUp(self) -> None:
        self.world = World()
        self.quarantine = MemoryTrash(blobs=self.world.blobs, now=lambda: 1.0)
        self.verify = Verify(
            records=self.world.records,
            blobs=self.world.blobs,
            quarantine=self.quarantine,
            blocking=InlineBlocking(),
        )

    async def found(self, *, repair: bool = False) -> list[Damage]:
        """Verify everything."""
        return [damage async for damage in self.verify.run(repair=repair)]

    async def test_repair(self) -> None:
        """Damage is found and, repaired, counts as missing until the next push heals it."""
        await self.world.push_blob(b"good")
        bad = await self.world.push_blob(b"bad")
        self.assertEqual([], await self.found())
        self.world.blobs.contents[bad] = b"BAD"
        expected = Damage(bad, f"it hashes to {Digest.of(b'BAD')}")
        self.assertEqual([expected], await self.found())
        self.assertEqual([Damage(bad, expected.reason, is_repaired=True)], await self.found(repair=True))
        await error_of(self.world.pull.find_blob(REPOSITORY, bad), BlobUnknown)
        self.assertEqual([b"BAD"], [content for _, content in self.quarantine.taken.values()])
        await self.world.push_blob(b"bad")
        self.assertEqual([], await self.found())

    async def test_healed_meanwhile(self) -> None:
        """Bytes of a wrong size that a push replaces at this moment are not moved."""
        bad = await self.world.push_blob(b"bad")
        self.world.blobs.contents[bad] = b"b"
        sizes = iter([1, 3])
        self.patch(self.quarantine, "size_of", lambda digest: next(sizes))
        (damage,) = await self.found(repair=True)
        self.assertFalse(damage.is_repaired)
        self.assertIsNotNone(await self.world.pull.find_blob(REPOSITORY, bad))
