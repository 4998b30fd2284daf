"""What every ``UploadStaging`` and its writers promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings, strategies
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    BodyBroken,
    BodyTooLarge,
    DigestInvalid,
    StorageFull,
)
from dockreg_tx.ports import BlobStore, UploadBusy, UploadStaging, UploadWriter
from tests.bodies import HandFedBody, broken_body, whole_body

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase

    Base = SynchronousTestCase
else:
    Base = object

UPLOAD = "0b8a3a3e-3f3f-4c4c-8d8d-1e1e1e1e1e1e"
MIB = 1024 * 1024


class StagingContract(Base):
    """Mixed into a SynchronousTestCase that offers the two stores, their clock, and ``collect``."""

    staging: UploadStaging
    blobs: BlobStore
    clock: Clock

    #: Takes a blob away, as garbage collection does.
    collect: Callable[[Digest], None]

    def open(self, upload_id: str = UPLOAD) -> UploadWriter:
        """Open a writer that the test's end closes."""
        writer: UploadWriter = self.successResultOf(self.staging.open(upload_id))
        self.addCleanup(writer.close)
        return writer

    def append(self, writer: UploadWriter, *chunks: bytes) -> None:
        """Append a body that arrives whole."""
        self.successResultOf(writer.append(whole_body(chunks)))

    def content_of(self, digest: Digest) -> bytes:
        """Read a whole blob."""
        blob = self.successResultOf(self.blobs.open(digest))
        try:
            content: bytes = self.successResultOf(blob.read_at(0, blob.size_bytes + 1))
            return content
        finally:
            blob.close()

    def test_new_upload_is_empty(self) -> None:
        """An upload without bytes begins at zero, and its digest is that of nothing."""
        writer = self.open()
        self.assertEqual((0, 0), (writer.offset_bytes, writer.synced_bytes))
        self.assertEqual(Digest.of(b""), self.successResultOf(writer.digest("sha256")))

    def test_push(self) -> None:
        """Appended bytes are written, synced, hashed, and readable under their digest once published."""
        writer = self.open()
        self.append(writer, b"some", b"", b" bytes")
        self.assertEqual((10, 10), (writer.offset_bytes, writer.synced_bytes))
        digest = self.successResultOf(writer.digest("sha256"))
        self.assertEqual(Digest.of(b"some bytes"), digest)
        self.successResultOf(writer.publish(digest))
        self.assertEqual(b"some bytes", self.content_of(digest))

    def test_publish_whole(self) -> None:
        """Small content becomes a blob without being staged, and comes back when it was collected."""
        content = b"small"
        digest = Digest.of(content)
        ensure = self.staging.whole(UPLOAD, digest, content)
        ensure.place()
        self.assertEqual(content, self.content_of(digest))
        self.assertEqual([], list(self.successResultOf(self.staging.list())))
        self.collect(digest)
        ensure()
        self.assertEqual(content, self.content_of(digest))

    def test_publish_whole_of_begun(self) -> None:
        """An upload that has bytes, or a writer, is not ended beside them."""
        self.open()
        self.assertRaises(UploadBusy, self.staging.whole(UPLOAD, Digest.of(b"x"), b"x").place)
        self.failureResultOf(self.blobs.open(Digest.of(b"x")), BlobUnknown)

    def test_empty_blob(self) -> None:
        """Nothing at all can be pushed."""
        writer = self.open()
        self.append(writer)
        self.successResultOf(writer.publish(Digest.of(b"")))
        self.assertEqual(b"", self.content_of(Digest.of(b"")))

    def test_chunks_over_several_writers(self) -> None:
        """An upload goes on where the last writer ended."""
        for chunk in (b"one ", b"two ", b"three"):
            writer = self.successResultOf(self.staging.open(UPLOAD))
            self.append(writer, chunk)
            writer.close()
        writer = self.open()
        self.assertEqual((13, 13), (writer.offset_bytes, writer.synced_bytes))
        self.assertEqual(Digest.of(b"one two three"), self.successResultOf(writer.digest("sha256")))

    def test_other_algorithm(self) -> None:
        """The digest may be asked for under any algorithm that blobs have, and no other."""
        writer = self.open()
        self.append(writer, b"content")
        self.assertEqual(Digest.of(b"content", "sha512"), self.successResultOf(writer.digest("sha512")))
        self.assertEqual(Digest.of(b"content"), self.successResultOf(writer.digest("sha256")))
        self.failureResultOf(writer.digest("md5"), DigestInvalid)
        self.failureResultOf(writer.publish(Digest("md5", "0" * 32)), DigestInvalid)

    def test_truncate(self) -> None:
        """Truncated bytes are gone from the content and from the hash, also when others took their place."""
        for offset in (0, 4, 7, 99):
            writer = self.successResultOf(self.staging.open(f"upload-{offset}"))
            self.append(writer, b"content")
            self.successResultOf(writer.truncate(offset))
            kept = b"content"[:offset]
            self.assertEqual((len(kept), len(kept)), (writer.offset_bytes, writer.synced_bytes))
            self.append(writer, b"inued")
            self.assertEqual(Digest.of(kept + b"inued"), self.successResultOf(writer.digest("sha256")))
            writer.close()

    def test_broken_body(self) -> None:
        """What arrived before the client went away is kept and synced."""
        writer = self.open()
        self.failureResultOf(writer.append(broken_body([b"half of", b" it"])), BodyBroken)
        self.assertEqual((10, 10), (writer.offset_bytes, writer.synced_bytes))
        self.append(writer, b", the rest")
        self.assertEqual(Digest.of(b"half of it, the rest"), self.successResultOf(writer.digest("sha256")))

    def test_limit(self) -> None:
        """A body past the limit is stopped; the limit counts the whole upload, and may be reached."""
        writer = self.open()
        self.append(writer, b"12345")
        body = HandFedBody()
        appending = Deferred.fromCoroutine(writer.append(body, limit_bytes=8))
        body.feed(b"678", b"9")
        self.assertTrue(body.is_stopped)
        self.failureResultOf(appending, BodyTooLarge)
        self.assertEqual(8, writer.offset_bytes)
        self.successResultOf(writer.append(whole_body([]), limit_bytes=8))
        self.assertEqual(Digest.of(b"12345678"), self.successResultOf(writer.digest("sha256")))

    def test_one_writer(self) -> None:
        """A second writer is refused until the first one is closed, twice if it likes."""
        writer = self.open()
        self.failureResultOf(self.staging.open(UPLOAD), UploadBusy)
        self.open("another")
        writer.close()
        second = self.open()
        writer.close()
        self.failureResultOf(self.staging.open(UPLOAD), UploadBusy)
        second.close()

    def test_hostile_ids(self) -> None:
        """An id that could leave the directory is an unknown upload."""
        for upload_id in ("", ".", "..", ".put-x", "a/b", "../lock", "a\0", "a" * 129, "ä", "a\n"):
            self.failureResultOf(self.staging.open(upload_id), BlobUploadUnknown)
            self.successResultOf(self.staging.discard(upload_id))

    def test_free_bytes(self) -> None:
        """The disk says how much more it takes."""
        self.assertGreater(self.successResultOf(self.staging.free_bytes()), 0)

    def test_list_and_discard(self) -> None:
        """Uploads are listed until they are discarded, which may happen twice."""
        for upload_id in ("b", "a"):
            self.open(upload_id)
        self.assertEqual(["a", "b"], list(self.successResultOf(self.staging.list())))
        for _ in range(2):
            self.successResultOf(self.staging.discard("a"))
        self.assertEqual(["b"], list(self.successResultOf(self.staging.list())))

    def test_discarded_starts_empty(self) -> None:
        """A discarded upload has left nothing, not even a lock."""
        writer = self.open()
        self.append(writer, b"bytes")
        self.successResultOf(self.staging.discard(UPLOAD))
        self.assertEqual(0, self.open().offset_bytes)

    def test_publish_after_discard(self) -> None:
        """An upload that vanished under its writer never becomes a blob, least of all an empty one."""
        writer = self.open()
        self.append(writer, b"bytes")
        self.successResultOf(self.staging.discard(UPLOAD))
        self.failureResultOf(writer.publish(Digest.of(b"bytes")), BlobUploadUnknown)
        self.open()
        self.failureResultOf(writer.publish(Digest.of(b"bytes")), BlobUploadUnknown)

    def test_ensure(self) -> None:
        """The callable puts back what was collected since, even when the writer is closed."""
        writer = self.open()
        self.append(writer, b"bytes")
        ensure = self.successResultOf(writer.publish(Digest.of(b"bytes")))
        writer.close()
        ensure()
        self.collect(Digest.of(b"bytes"))
        ensure()
        self.assertEqual(b"bytes", self.content_of(Digest.of(b"bytes")))

    def test_ensure_after_discard(self) -> None:
        """Where the upload is gone too, the callable refuses."""
        writer = self.open()
        self.append(writer, b"bytes")
        ensure = self.successResultOf(writer.publish(Digest.of(b"bytes")))
        self.successResultOf(self.staging.discard(UPLOAD))
        ensure()
        self.collect(Digest.of(b"bytes"))
        self.assertRaises(BlobUploadUnknown, ensure)

    def test_publish_known_content(self) -> None:
        """Content that is there already is kept; damaged content of another size is replaced."""
        for present in (b"bytes", b"byt"):
            self.successResultOf(self.blobs.put(Digest.of(b"bytes"), present))
            writer = self.successResultOf(self.staging.open(UPLOAD))
            self.append(writer, b"bytes")
            self.successResultOf(writer.publish(Digest.of(b"bytes")))
            self.assertEqual(b"bytes", self.content_of(Digest.of(b"bytes")))
            writer.close()
            self.successResultOf(self.staging.discard(UPLOAD))
            self.collect(Digest.of(b"bytes"))

    def test_publish_twice(self) -> None:
        """A PUT whose record could not be written may be repeated."""
        for _ in range(2):
            writer = self.successResultOf(self.staging.open(UPLOAD))
            self.successResultOf(writer.truncate(5))
            if not writer.offset_bytes:
                self.append(writer, b"bytes")
            digest = self.successResultOf(writer.digest("sha256"))
            self.successResultOf(writer.publish(digest))
            writer.close()
        self.assertEqual(b"bytes", self.content_of(Digest.of(b"bytes")))

    def test_writing_after_publish_spares_the_blob(self) -> None:
        """A published blob never changes, though its upload is cut, or grows."""
        writer = self.open()
        self.append(writer, b"bytes")
        self.successResultOf(writer.publish(Digest.of(b"bytes")))
        self.append(writer, b", more")
        writer.close()
        writer = self.open()
        self.assertEqual(Digest.of(b"bytes, more"), self.successResultOf(writer.digest("sha256")))
        self.successResultOf(writer.publish(Digest.of(b"bytes, more")))
        self.successResultOf(writer.truncate(2))
        self.append(writer, b"e")
        self.assertEqual(Digest.of(b"bye"), self.successResultOf(writer.digest("sha256")))
        self.failureResultOf(self.staging.open(UPLOAD), UploadBusy)
        for content in (b"bytes", b"bytes, more"):
            self.assertEqual(content, self.content_of(Digest.of(content)))

    def test_checkpoint_by_size(self) -> None:
        """Every 64 MiB the checkpoint learns how much is synced."""
        synced: list[int] = []

        async def checkpoint(synced_bytes: int) -> None:
            synced.append(synced_bytes)

        chunk = bytes(MIB)
        writer = self.open()
        self.successResultOf(writer.append(whole_body([chunk] * 130), checkpoint=checkpoint))
        self.assertEqual([64 * MIB, 128 * MIB], synced)
        self.assertEqual(130 * MIB, writer.synced_bytes)

    def test_checkpoint_by_time(self) -> None:
        """Five seconds after the first unsynced byte the checkpoint is told; not while nothing arrives."""
        synced: list[int] = []

        async def checkpoint(synced_bytes: int) -> None:
            synced.append(synced_bytes)

        writer, body = self.open(), HandFedBody()
        appending = Deferred.fromCoroutine(writer.append(body, checkpoint=checkpoint))
        body.feed(b"slow")
        self.clock.advance(4.9)
        self.assertEqual([], synced)
        self.clock.advance(0.1)
        self.clock.advance(5)
        body.feed(b"ly")
        self.clock.advance(5)
        self.assertEqual([4, 6], synced)
        body.finish()
        self.successResultOf(appending)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_slow_checkpoint(self) -> None:
        """Checkpoints never overlap, do not hold up the data, and are over when append returns."""
        answers: list[Deferred[None]] = []

        async def checkpoint(_: int) -> None:
            answers.append(Deferred())
            await answers[-1]

        writer, body = self.open(), HandFedBody()
        appending = Deferred.fromCoroutine(writer.append(body, checkpoint=checkpoint))
        for _ in range(3):
            body.feed(b"data")
            self.clock.advance(5)
        self.assertEqual(12, writer.offset_bytes)
        self.assertEqual(1, len(answers))
        answers[0].callback(None)
        self.assertEqual(2, len(answers))
        body.finish()
        self.assertNoResult(appending)
        answers[1].callback(None)
        self.successResultOf(appending)

    def test_failing_checkpoint(self) -> None:
        """A checkpoint that fails ends the body with its error; the bytes stay as they are."""

        async def checkpoint(_: int) -> None:
            raise StorageFull

        writer, body = self.open(), HandFedBody()
        appending = Deferred.fromCoroutine(writer.append(body, checkpoint=checkpoint))
        body.feed(b"data")
        self.clock.advance(5)
        self.assertTrue(body.is_stopped)
        self.failureResultOf(appending, StorageFull)
        self.assertEqual((4, 4), (writer.offset_bytes, writer.synced_bytes))

    @settings(
        derandomize=True,
        max_examples=40,
        deadline=None,
        # Every backend's class runs this one function: that is what a contract is.
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(
        strategies.lists(
            strategies.lists(
                strategies.tuples(
                    strategies.sampled_from([1, 7, 16_383, 16_384, 65_536, MIB + 1]), strategies.booleans()
                ),
                max_size=8,
            ),
            max_size=4,
        )
    )
    def test_any_chunking(self, bodies: list[list[tuple[int, bool]]]) -> None:
        """However the bytes are cut, over however many writers, content and digest are the same."""
        expected = bytearray()
        upload_id = "chunking"
        self.successResultOf(self.staging.discard(upload_id))
        for number, body in enumerate(bodies):
            writer = self.successResultOf(self.staging.open(upload_id))
            chunks = [bytes([number + 1 + is_odd]) * size for size, is_odd in body]
            expected += b"".join(chunks)
            self.append(writer, *chunks)
            writer.close()
        writer = self.successResultOf(self.staging.open(upload_id))
        digest = self.successResultOf(writer.digest("sha256"))
        self.assertEqual(Digest.of(bytes(expected)), digest)
        self.successResultOf(writer.publish(digest))
        writer.close()
        self.assertEqual(bytes(expected), self.content_of(digest))
