"""Upload sessions: every transition of the state machine."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dockreg_tx.blobs.memory import MemoryUploadWriter
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import (
    BlobUploadUnknown,
    BodyBroken,
    BodyTooLarge,
    DigestInvalid,
    DigestMismatch,
    RangeOutOfOrder,
    SizeInvalid,
    StorageFull,
    StoreUnavailable,
    Unsupported,
)
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.registry.session_ids import SessionIds
from dockreg_tx.registry.uploads import SessionKey
from tests.bodies import HandFedBody
from tests.registry.world import REPOSITORY, World, body, broken_body, error_of


class AppendTests(TestCase):
    """PATCH."""

    async def test_chunks_in_order(self) -> None:
        """Chunks at the offset are appended, and the offset is recorded."""
        world = World()
        key = await world.open_session()
        self.assertEqual(3, await world.uploads.append_chunk(key, body(b"abc"), content_range="0-2"))
        self.assertEqual(5, await world.uploads.append_chunk(key, body(b"de"), content_range="3-4"))
        self.assertEqual(5, (await world.uploads.find(key)).offset_bytes)

    async def test_stream(self) -> None:
        """A body without range is appended, whatever its length."""
        world = World()
        key = await world.open_session()
        offset = await world.uploads.append_chunk(key, body(b"abc", is_chunked=True), content_range=None)
        self.assertEqual(3, offset)

    async def test_out_of_order_changes_nothing(self) -> None:
        """A chunk elsewhere than at the offset is refused with the offset, and the session lives."""
        world = World()
        key = await world.open_session()
        await world.uploads.append_chunk(key, body(b"abc"), content_range="0-2")
        for content_range in ("0-2", "5-7", "nonsense"):
            error = await error_of(
                (world.uploads.append_chunk(key, body(b"xyz"), content_range=content_range)),
                RangeOutOfOrder,
            )
            self.assertEqual(3, error.offset_bytes)
        self.assertEqual(3, (await world.uploads.find(key)).offset_bytes)

    async def test_broken_patch_keeps_what_arrived(self) -> None:
        """When the client goes away in a PATCH, the bytes so far count."""
        world = World()
        key = await world.open_session()
        broken = broken_body(b"abcd", length_bytes=10)
        await error_of((world.uploads.append_chunk(key, broken, content_range=None)), BodyBroken)
        self.assertEqual(4, (await world.uploads.find(key)).offset_bytes)
        self.assertEqual(6, await world.uploads.append_chunk(key, body(b"ef"), content_range="4-5"))
        digest = await world.uploads.finish(
            key, body(), digests=[str(Digest.of(b"abcdef"))], content_range=None
        )
        self.assertEqual(Digest.of(b"abcdef"), digest)

    async def test_chunk_longer_or_shorter_than_its_range(self) -> None:
        """A chunked body that belies its Content-Range is refused, and its bytes are gone."""
        world = World()
        key = await world.open_session()
        for content in (b"ab", b"abcdef"):
            wrong = body(content, is_chunked=True)
            await error_of(
                (world.uploads.append_chunk(key, wrong, content_range="0-3")),
                SizeInvalid,
            )
            self.assertEqual(0, (await world.uploads.find(key)).offset_bytes)
        self.assertEqual(4, await world.uploads.append_chunk(key, body(b"abcd"), content_range="0-3"))

    async def test_second_writer_is_sent_away(self) -> None:
        """While one request writes, another gets the offset and no byte of it is kept."""
        world = World()
        key = await world.open_session()
        slow = HandFedBody(length_bytes=6)
        first = Deferred.fromCoroutine(world.uploads.append_chunk(key, slow, content_range=None))
        slow.feed(b"abc")
        await error_of(
            (world.uploads.append_chunk(key, body(b"XXX"), content_range=None)),
            RangeOutOfOrder,
        )
        slow.feed(b"def")
        slow.finish()
        self.assertEqual(6, await first)
        self.assertEqual(
            Digest.of(b"abcdef"),
            await world.uploads.finish(key, body(), digests=[str(Digest.of(b"abcdef"))], content_range=None),
        )

    async def test_limit(self) -> None:
        """A blob over the limit ends the session, announced or not."""
        for is_chunked in (False, True):
            world = World(blob_limit_bytes=4)
            key = await world.open_session()
            large = body(b"abcde", is_chunked=is_chunked)
            await error_of(
                (world.uploads.append_chunk(key, large, content_range=None)),
                BodyTooLarge,
            )


class FinishTests(TestCase):
    """PUT."""

    async def test_whole_blob(self) -> None:
        """A PUT with the whole body makes a blob and ends the session."""
        world = World()
        key = await world.open_session()
        digest = Digest.of(b"abc")
        await world.uploads.finish(key, body(b"abc"), digests=[str(digest)], content_range=None)
        self.assertEqual(3, (await world.pull.find_blob(REPOSITORY, digest)).size_bytes)
        await error_of((world.uploads.find(key)), BlobUploadUnknown)
        self.assertEqual([], list(await world.staging.list()))

    async def test_sha512(self) -> None:
        """The algorithm is known for certain only at the end."""
        world = World()
        key = await world.open_session()
        digest = Digest.of(b"abc", "sha512")
        await world.uploads.append_chunk(key, body(b"ab"), content_range=None)
        await world.uploads.finish(key, body(b"c"), digests=[str(digest)], content_range="2-2")
        self.assertEqual(3, (await world.pull.find_blob(REPOSITORY, digest)).size_bytes)

    async def test_bad_digest_parameter_keeps_the_session(self) -> None:
        """Missing, malformed and unsupported digests are refused before the body, and may be retried."""
        world = World()
        key = await world.open_session()
        await world.uploads.append_chunk(key, body(b"abc"), content_range=None)
        for digests in ([], ["sha256:bad"], ["sha384:" + "a" * 96]):
            await error_of(
                (world.uploads.finish(key, body(), digests=digests, content_range=None)),
                DigestInvalid,
            )
        self.assertEqual(3, (await world.uploads.find(key)).offset_bytes)

    async def test_mismatch_drops_the_session(self) -> None:
        """Content of another digest is refused, and nothing of it stays."""
        world = World()
        key = await world.open_session()
        await error_of(
            (world.uploads.finish(key, body(b"abc"), digests=[str(Digest.of(b"abd"))], content_range=None)),
            DigestMismatch,
        )
        await error_of((world.uploads.find(key)), BlobUploadUnknown)
        self.assertEqual([], list(await world.staging.list()))

    async def test_second_digest_must_match_too(self) -> None:
        """All digests of a request are verified."""
        world = World()
        key = await world.open_session()
        digests = [str(Digest.of(b"abc")), str(Digest.of(b"abd", "sha512"))]
        await error_of(
            (world.uploads.finish(key, body(b"abc"), digests=digests, content_range=None)),
            DigestMismatch,
        )

    async def test_broken_put_rolls_back(self) -> None:
        """A PUT that broke leaves the session as it was, since clients send it whole again."""
        world = World()
        key = await world.open_session()
        await world.uploads.append_chunk(key, body(b"ab"), content_range=None)
        digests = [str(Digest.of(b"abcd"))]
        await error_of(
            (
                world.uploads.finish(
                    key, broken_body(b"c", length_bytes=2), digests=digests, content_range=None
                )
            ),
            BodyBroken,
        )
        self.assertEqual(2, (await world.uploads.find(key)).offset_bytes)
        await world.uploads.finish(key, body(b"cd"), digests=digests, content_range=None)

    async def test_wrong_range_keeps_the_session(self) -> None:
        """A last chunk elsewhere than at the offset is refused, and the right one still finishes."""
        world = World()
        key = await world.open_session()
        await world.uploads.append_chunk(key, body(b"ab"), content_range=None)
        digests = [str(Digest.of(b"abcd"))]
        await error_of(
            (world.uploads.finish(key, body(b"cd"), digests=digests, content_range="0-1")),
            RangeOutOfOrder,
        )
        await world.uploads.finish(key, body(b"cd"), digests=digests, content_range="2-3")

    async def test_vanished_bytes_never_become_a_blob(self) -> None:
        """A session whose file is gone is unknown, not an empty blob."""
        world = World()
        key = await world.open_session()
        await world.uploads.append_chunk(key, body(b"ab"), content_range=None)
        await world.staging.discard(key.upload_id)
        await error_of(
            (world.uploads.finish(key, body(), digests=[str(Digest.of(b""))], content_range=None)),
            BlobUploadUnknown,
        )


class SessionTests(TestCase):
    """Whose a session is, and when it ends."""

    async def test_of_anonymous(self) -> None:
        """A session that was begun without credentials goes on with some, not the other way round."""
        world = World()
        key = await world.open_session("")
        self.assertEqual(key.upload_id, (await world.uploads.find(replace(key, owner="ann"))).id)
        key = await world.open_session("ann")
        await error_of(world.uploads.find(replace(key, owner="")), BlobUploadUnknown)

    async def test_bound_to_repository_and_owner(self) -> None:
        """Nobody else, and no other repository, finds a session."""
        world = World()
        key = await world.open_session("ann")
        for other in (
            SessionKey(REPOSITORY, key.upload_id, "bob"),
            SessionKey(RepositoryName("team/other"), key.upload_id, "ann"),
            SessionKey(REPOSITORY, "nonesuch", "ann"),
        ):
            await error_of((world.uploads.find(other)), BlobUploadUnknown)
            await error_of(
                (world.uploads.append_chunk(other, body(b"x"), content_range=None)),
                BlobUploadUnknown,
            )
            await error_of((world.uploads.cancel(other)), BlobUploadUnknown)

    async def test_cancel_frees_the_bytes(self) -> None:
        """A cancelled session and its bytes are gone."""
        world = World()
        key = await world.open_session()
        await world.uploads.append_chunk(key, body(b"ab"), content_range=None)
        await world.uploads.cancel(key)
        await error_of((world.uploads.find(key)), BlobUploadUnknown)
        self.assertEqual([], list(await world.staging.list()))

    async def test_unsupported_algorithm(self) -> None:
        """A session for a hash we do not have is not opened."""
        world = World()
        await error_of((world.uploads.begin(REPOSITORY, "ann", algorithm="md5")), Unsupported)

    async def test_nearly_full_disk(self) -> None:
        """Below the low-water mark no upload begins; those in flight go on."""
        world = World()
        uploads = replace(world.uploads, low_water_bytes=1000)
        world.staging.room_bytes = 1000
        key = await world.open_session()
        await uploads.begin(REPOSITORY, "ann")
        world.staging.room_bytes = 999
        await error_of(uploads.begin(REPOSITORY, "ann"), StorageFull)
        self.assertEqual(1, await uploads.append_chunk(key, body(b"x"), content_range=None))

    async def test_sweep_takes_only_idle_sessions(self) -> None:
        """Sessions idle for longer than the limit go, others stay, one that is written to stays as well."""
        world = World()
        idle, fresh, busy = [await world.open_session() for _ in range(3)]
        slow = HandFedBody(length_bytes=2)
        writing = Deferred.fromCoroutine(world.uploads.append_chunk(busy, slow, content_range=None))
        world.time += 100
        await world.uploads.append_chunk(fresh, body(b"x"), content_range=None)
        world.time += 10
        self.assertEqual(1, await world.sweep.expired(expire_after_seconds=50))
        await error_of((world.uploads.find(idle)), BlobUploadUnknown)
        self.assertEqual(1, (await world.uploads.find(fresh)).offset_bytes)
        slow.feed(b"ab")
        slow.finish()
        self.assertEqual(2, await writing)

    async def test_sweep_all(self) -> None:
        """All expired sessions go, however many; one that the disk refuses stays, and holds up none."""
        world = World()
        keys = [await world.open_session() for _ in range(1003)]
        world.time += 100
        opened = world.staging.open

        async def refuse(upload_id: str, *, algorithm: str = "sha256") -> MemoryUploadWriter:
            if upload_id == keys[5].upload_id:
                raise StoreUnavailable("no")
            return await opened(upload_id, algorithm=algorithm)

        self.patch(world.staging, "open", refuse)
        self.assertEqual(1002, await world.sweep.all(expire_after_seconds=50))
        await world.uploads.find(keys[5])

    async def test_orphaned_bytes_are_discarded(self) -> None:
        """Bytes without a session, which a crash can leave, are removed; those of sessions stay."""
        world = World()
        key = await world.open_session()
        await world.uploads.append_chunk(key, body(b"ab"), content_range=None)
        (await world.staging.open("orphan")).close()
        self.assertEqual(1, await world.sweep.orphans())
        self.assertEqual([key.upload_id], list(await world.staging.list()))


async def _always(_now: float) -> bool:
    return True


class UnrecordedTests(TestCase):
    """Sessions that their id alone stands for, until they have bytes."""

    def setUp(self) -> None:
        """Have ids that prove where they come from."""
        self.world = World()
        ids = SessionIds(
            instance_id="here",
            random_bytes=lambda count: bytes(range(count)),
            now=lambda: self.world.time,
            expire_after_seconds=60.0,
            is_steady=_always,
        )
        self.uploads = replace(self.world.uploads, ids=ids)

    async def begun(self) -> SessionKey:
        """Open a session of alice's."""
        upload = await self.uploads.begin(REPOSITORY, "alice")
        return SessionKey(REPOSITORY, upload.id, "alice")

    async def test_whole_blob(self) -> None:
        """A blob in one piece needs no row; its session cannot be opened again."""
        key = await self.begun()
        self.assertEqual(0, (await self.uploads.find(key)).offset_bytes)
        self.assertIsNone(await self.world.records.upload(key.upload_id))
        digests = [str(Digest.of(b"abc"))]
        digest = await self.uploads.finish(key, body(b"abc"), digests=digests, content_range=None)
        self.assertEqual(b"abc", self.world.blobs.contents[digest])
        await error_of(self.uploads.find(key), BlobUploadUnknown)
        again = self.uploads.finish(key, body(b"abc"), digests=digests, content_range=None)
        await error_of(again, BlobUploadUnknown)
        await error_of(self.uploads.append_chunk(key, body(b"abc"), content_range=None), BlobUploadUnknown)
        self.assertEqual([], await self.world.staging.list())

    async def test_chunks(self) -> None:
        """The first chunk gives it a row, which another process goes on with."""
        key = await self.begun()
        await self.uploads.append_chunk(key, body(b"abc"), content_range="0-2")
        record = await self.world.records.upload(key.upload_id)
        assert record is not None
        self.assertEqual((3, "alice"), (record.offset_bytes, record.owner))
        other = replace(self.uploads)
        self.assertEqual(5, await other.append_chunk(key, body(b"de"), content_range="3-4"))

    async def test_strangers(self) -> None:
        """Nobody else finds it, and an id that was never given is unknown; what anonymous began, anybody."""
        key = await self.begun()
        for stranger in (
            replace(key, owner="bob"),
            replace(key, owner=""),
            replace(key, repository=RepositoryName("other")),
            replace(key, upload_id="00000000-0000-0000-0000-000000000000"),
        ):
            await error_of(self.uploads.find(stranger), BlobUploadUnknown)
        anonymous = await self.uploads.begin(REPOSITORY, "")
        await self.uploads.find(SessionKey(REPOSITORY, anonymous.id, "bob"))

    async def test_cancelled(self) -> None:
        """A session that was cancelled before it had bytes is gone, also after the sweep of its time."""
        key = await self.begun()
        await self.uploads.cancel(key)
        await error_of(self.uploads.find(key), BlobUploadUnknown)
        self.assertEqual(0, await self.world.sweep.expired(expire_after_seconds=60.0))
        await error_of(self.uploads.find(key), BlobUploadUnknown)

    async def test_swept(self) -> None:
        """One whose bytes were dropped for its age does not begin again."""
        key = await self.begun()
        await self.uploads.append_chunk(key, body(b"abc"), content_range=None)
        self.world.time += 61.0
        self.assertEqual(1, await self.world.sweep.expired(expire_after_seconds=60.0))
        await error_of(self.uploads.find(key), BlobUploadUnknown)
