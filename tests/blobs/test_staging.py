"""Tests of uploads as files: the contract, and what only a disk and several processes can do."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dockreg_tx.blobs import running, writer
from dockreg_tx.blobs.buffers import Buffers
from dockreg_tx.blobs.consumer import HIGH_WATER_BYTES, LOW_WATER_BYTES, BatchConsumer
from dockreg_tx.blobs.crowd import CROWDED_BYTES, MIB, Crowd
from dockreg_tx.blobs.disk import Disk
from dockreg_tx.blobs.filesystem import FileBlobStore
from dockreg_tx.blobs.staging import FileUploadStaging
from dockreg_tx.blobs.writer import FileUploadWriter
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BodyBroken, StorageFull, StoreUnavailable
from dockreg_tx.ports import BlobStore, UploadBusy, UploadStaging
from tests.blobs.roots import counting_ids, make_root, open_files
from tests.bodies import HandFedBody, broken_body, whole_body
from tests.contracts.staging_contract import UPLOAD, StagingContract

HOLD_LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


class HeldBlocking:
    """Runs inline until ``hold``; from then on work begins when the test says so."""

    def __init__(self) -> None:
        self.is_held = False
        self.calls: list[str] = []
        self._waiting: list[Deferred[None]] = []

    async def run(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(work.__name__)
        if self.is_held:
            self._waiting.append(Deferred())
            await self._waiting[-1]
        return work(*args, **kwargs)

    @property
    def waiting(self) -> int:
        """How many pieces of work wait."""
        return len(self._waiting)

    def release(self) -> None:
        """Let the oldest piece of work run."""
        self._waiting.pop(0).callback(None)


class RecordingDisk(Disk):
    """Notes what is done, in order, and to which file."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def _note(self, call: str, *paths: str | int) -> None:
        names = [os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else path for path in paths]
        self.calls.append((call, *[os.path.basename(name) for name in names]))

    def fsync(self, descriptor: int) -> None:
        self._note("fsync", descriptor)
        super().fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        self._note("fdatasync", descriptor)
        super().fdatasync(descriptor)

    def link(self, source: str, target: str) -> None:
        self._note("link", source, target)
        super().link(source, target)


class FileStagingCase(SynchronousTestCase):
    """A root on disk with both stores."""

    blobs: BlobStore
    staging: UploadStaging

    def setUp(self) -> None:
        self.clock = Clock()
        self.layout = make_root(os.path.abspath(self.mktemp()))
        self.disk = RecordingDisk()
        self.blocking = HeldBlocking()
        self.staging = self.files = self.new_staging()
        self.blobs = FileBlobStore(
            layout=self.layout, blocking=InlineBlocking(), new_id=counting_ids(), disk=self.disk
        )
        self.addCleanup(lambda: self.assertEqual([], open_files(self.layout.root)))

    def new_staging(self) -> FileUploadStaging:
        """Return a staging as another worker would have it, with no memory of its own."""
        return FileUploadStaging(layout=self.layout, blocking=self.blocking, clock=self.clock, disk=self.disk)

    def collect(self, digest: Digest) -> None:
        os.unlink(self.layout.blob_path(digest))

    def write(self, content: bytes, staging: UploadStaging | None = None, cut: int | None = None) -> None:
        """Append to the upload with a writer of its own, cutting it first."""
        writer = self.successResultOf((staging or self.staging).open(UPLOAD))
        if cut is not None:
            self.successResultOf(writer.truncate(cut))
        self.successResultOf(writer.append(whole_body([content])))
        writer.close()

    def opened(self) -> FileUploadWriter:
        """Return a writer that the test's end closes."""
        writer: FileUploadWriter = self.successResultOf(self.staging.open(UPLOAD))
        self.addCleanup(writer.close)
        return writer


class FileUploadStagingTests(StagingContract, FileStagingCase):
    """The contract."""


class DurabilityTests(FileStagingCase):
    """What is on disk, and in which order it comes there."""

    def test_order(self) -> None:
        """Bytes, then their name, are synced before append returns; file, link, shard before publish does."""
        digest = Digest.of(b"bytes")
        writer = self.opened()
        self.successResultOf(writer.append(whole_body([b"bytes"])))
        self.assertEqual([("fdatasync", UPLOAD), ("fsync", "uploads")], self.disk.calls)
        self.disk.calls.clear()
        self.successResultOf(writer.publish(digest))
        self.assertEqual(
            [("fsync", UPLOAD), ("link", UPLOAD, digest.encoded), ("fsync", digest.encoded[:2])],
            self.disk.calls,
        )

    def test_ensure_syncs_what_another_push_placed(self) -> None:
        """A blob that was collected and pushed by another meanwhile counts only when its entry is synced."""
        digest = Digest.of(b"bytes")
        writer = self.opened()
        self.successResultOf(writer.append(whole_body([b"bytes"])))
        ensure = self.successResultOf(writer.publish(digest))
        self.disk.calls.clear()
        ensure()
        self.assertEqual([], self.disk.calls)
        self.collect(digest)
        with open(self.layout.blob_path(digest), "wb") as blob:
            blob.write(b"bytes")
        ensure()
        self.assertEqual([("fsync", digest.encoded[:2])], self.disk.calls)

    def test_name_is_synced_once(self) -> None:
        """The directory is synced for the first append only, as long as this process knows the upload."""
        self.write(b"one")
        self.disk.calls.clear()
        self.write(b"two")
        self.assertEqual([("fdatasync", UPLOAD)], self.disk.calls)

    def test_unknown_file_is_synced(self) -> None:
        """What another process left is synced before it is counted on."""
        self.write(b"one")
        self.disk.calls.clear()
        writer = self.successResultOf(self.new_staging().open(UPLOAD))
        self.assertEqual((3, 3), (writer.offset_bytes, writer.synced_bytes))
        self.assertEqual([("fdatasync", UPLOAD), ("fsync", "uploads")], self.disk.calls)
        writer.close()

    def test_modes(self) -> None:
        """Uploads are for us and our group; a published one is read-only, for it is the blob."""
        writer = self.opened()
        path = self.layout.upload_path(UPLOAD)
        self.assertEqual(0o600, os.stat(path).st_mode & 0o617)
        self.successResultOf(writer.publish(Digest.of(b"")))
        self.assertEqual(0o440, os.stat(self.layout.blob_path(Digest.of(b""))).st_mode & 0o777)
        self.assertTrue(os.path.samefile(path, self.layout.blob_path(Digest.of(b""))))

    def test_full_disk(self) -> None:
        """A disk that fills up stops the client; offset and file end with the last whole batch."""
        writer, body = self.opened(), HandFedBody()
        appending = Deferred.fromCoroutine(writer.append(body))
        body.feed(bytes(MIB))
        self.patch(self.disk, "pwritev", self.fill_up)
        body.feed(bytes(MIB))
        self.assertTrue(body.is_stopped)
        self.failureResultOf(appending, StorageFull)
        self.assertEqual((MIB, 0), (writer.offset_bytes, writer.synced_bytes))
        self.assertEqual(MIB, os.stat(self.layout.upload_path(UPLOAD)).st_size)
        del self.disk.pwritev
        self.successResultOf(writer.append(whole_body([b"later"])))
        self.assertEqual(Digest.of(bytes(MIB) + b"later"), self.successResultOf(writer.digest("sha256")))

    def fill_up(self, descriptor: int, parts: list[memoryview], offset_bytes: int) -> int:
        """Write a bit, then refuse."""
        if offset_bytes > MIB:
            raise OSError(errno.ENOSPC, "no space", self.layout.root)
        return os.pwrite(descriptor, parts[0][:1000], offset_bytes)

    def test_full_filesystem(self) -> None:
        """A filesystem that is really full, as its second write is short, is told from a broken one."""
        mount = os.path.abspath(self.mktemp())
        os.mkdir(mount)
        command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mount]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            self.skipTest("needs the right to mount a tmpfs")
        self.addCleanup(subprocess.run, ["umount", "-l", mount], check=True)
        staging = FileUploadStaging(
            layout=make_root(os.path.join(mount, "root")), blocking=InlineBlocking(), clock=self.clock
        )
        writer = self.successResultOf(staging.open(UPLOAD))
        body = whole_body([bytes(100_000)] * 50)
        self.failureResultOf(writer.append(body), StorageFull)
        self.assertTrue(0 < writer.offset_bytes < 3 * MIB)
        self.successResultOf(writer.truncate(0))
        self.successResultOf(writer.append(whole_body([b"small"])))
        self.assertEqual(Digest.of(b"small"), self.successResultOf(writer.digest("sha256")))
        writer.close()

    def test_failed_sync_drops_the_upload(self) -> None:
        """After a failed fsync nothing of the upload is trusted, and no fsync is repeated."""
        for call in ("fdatasync", "fsync"):
            writer = self.successResultOf(self.staging.open(UPLOAD))
            self.successResultOf(writer.append(whole_body([b"good"])))
            failed: list[int] = []

            def fail(descriptor: int, failed: list[int] = failed) -> None:
                failed.append(descriptor)
                raise OSError(errno.EIO, "no", self.layout.root)

            self.patch(self.disk, call, fail)
            if call == "fsync":
                self.failureResultOf(writer.publish(Digest.of(b"good")), StoreUnavailable)
            else:
                self.failureResultOf(writer.append(whole_body([b"more"])), StoreUnavailable)
            self.failureResultOf(writer.append(whole_body([b"more"])), StoreUnavailable)
            self.failureResultOf(writer.publish(Digest.of(b"good")), StoreUnavailable)
            self.assertEqual((0, 0, 1), (writer.offset_bytes, writer.synced_bytes, len(failed)))
            writer.close()
            delattr(self.disk, call)
            self.assertEqual([], list(self.successResultOf(self.staging.list())))
            self.assertFalse(os.path.exists(self.layout.blob_path(Digest.of(b"good"))))

    def test_failed_sync_beside_a_write(self) -> None:
        """A sync that fails while a batch is written ends both with the sync's error."""
        self.patch(self.disk, "fdatasync", self.refuse)
        writer, body = self.opened(), HandFedBody()
        appending = Deferred.fromCoroutine(writer.append(body))
        body.feed(b"x")
        self.blocking.is_held = True
        self.clock.advance(5)
        self.blocking.release()  # the write; now the sync waits
        body.feed(bytes(MIB))
        self.assertEqual(2, self.blocking.waiting)
        self.blocking.release()
        self.assertTrue(body.is_stopped)
        self.blocking.release()
        self.failureResultOf(appending, StoreUnavailable)
        self.assertEqual((0, 0), (writer.offset_bytes, writer.synced_bytes))

    def test_failed_sync_at_open(self) -> None:
        """A file that cannot be synced when it is opened is dropped, and nothing stays open or locked."""
        self.write(b"bytes")
        self.patch(self.disk, "fdatasync", self.refuse)
        self.failureResultOf(self.new_staging().open(UPLOAD), StoreUnavailable)
        self.assertEqual([], os.listdir(self.layout.uploads))
        self.assertEqual(0, self.opened().offset_bytes)

    def test_failed_copy(self) -> None:
        """When a published upload cannot be copied, it stays as it is, and no half copy is left."""
        self.write(b"bytes")
        writer = self.opened()
        self.successResultOf(writer.publish(Digest.of(b"bytes")))
        self.patch(self.disk, "fdatasync", self.refuse)
        self.failureResultOf(writer.append(whole_body([b"+"])), StoreUnavailable)
        self.assertEqual(5, writer.offset_bytes)
        self.assertEqual([UPLOAD], os.listdir(self.layout.uploads))

    def refuse(self, _: int) -> None:
        """Refuse, as a broken disk does."""
        raise OSError(errno.EIO, "no")

    def test_sweep(self) -> None:
        """Passing files that a crash left are swept, uploads are not, and neither is listed wrongly."""
        self.write(b"one")
        open(os.path.join(self.layout.uploads, ".put-1"), "wb").close()
        self.assertEqual([UPLOAD], list(self.successResultOf(self.staging.list())))
        self.successResultOf(self.files.sweep())
        self.assertEqual([UPLOAD], os.listdir(self.layout.uploads))

    def test_strange_directories(self) -> None:
        """Directories and links that somebody made here are left alone, and end no sweep."""
        for name in (".snapshot", "lost+found", "folder"):
            os.mkdir(os.path.join(self.layout.uploads, name))
        os.symlink("/nowhere", os.path.join(self.layout.uploads, "link"))
        open(os.path.join(self.layout.uploads, ".put-1"), "wb").close()
        self.successResultOf(self.files.sweep())
        self.assertEqual([], list(self.successResultOf(self.staging.list())))
        expected = [".snapshot", "folder", "link", "lost+found"]
        self.assertEqual(expected, sorted(os.listdir(self.layout.uploads)))

    def test_read_only_upload_of_another_user(self) -> None:
        """A published upload can be opened again without the rights of root, and published again."""
        self.write(b"bytes")
        path = self.layout.upload_path(UPLOAD)
        os.chmod(path, 0o440)
        real_open = os.open

        def as_owner(name: str, flags: int, *mode: int) -> int:
            if name == path and flags & os.O_RDWR:
                raise PermissionError(errno.EACCES, "no")
            return real_open(name, flags, *mode)

        self.patch(os, "open", as_owner)
        writer = self.opened()
        self.successResultOf(writer.publish(Digest.of(b"bytes")))
        self.successResultOf(writer.append(whole_body([b"+"])))
        self.assertEqual(Digest.of(b"bytes+"), self.successResultOf(writer.digest("sha256")))
        with open(self.layout.blob_path(Digest.of(b"bytes")), "rb") as blob:
            self.assertEqual(b"bytes", blob.read())


class RunningHashTests(FileStagingCase):
    """When a hash is carried on, and when the file is read again."""

    def digest(self, staging: UploadStaging | None = None) -> tuple[Digest, bool]:
        """Return the digest and whether the file was read for it."""
        writer = self.successResultOf((staging or self.staging).open(UPLOAD))
        self.blocking.calls.clear()
        digest = self.successResultOf(writer.digest("sha256"))
        writer.close()
        return digest, "_hash_range" in self.blocking.calls

    def test_carried_on(self) -> None:
        """Within one process the hash runs through all chunks."""
        for chunk in (b"a", b"b", b"c"):
            self.write(chunk)
        self.assertEqual((Digest.of(b"abc"), False), self.digest())

    def test_unknown_start(self) -> None:
        """A worker that did not see the beginning appends without hashing, and reads all at the end."""
        self.write(b"a")
        other = self.new_staging()
        self.write(b"b", other)
        self.assertEqual((Digest.of(b"ab"), True), self.digest(other))
        self.assertEqual((Digest.of(b"ab"), False), self.digest(other))

    def test_hashed_twice_at_most(self) -> None:
        """However often an upload goes from worker to worker, none of its bytes is hashed more than twice."""
        hashed: list[int] = []

        class Counting:
            def __init__(self, algorithm: str) -> None:
                self.real = hashlib.new(algorithm)

            def update(self, data: bytes) -> None:
                hashed.append(len(data))
                self.real.update(data)

            def hexdigest(self) -> str:
                return self.real.hexdigest()

        self.patch(writer, "hashlib", SimpleNamespace(new=Counting))
        workers = [self.new_staging() for _ in range(3)]
        chunks = [b"%05d" % number for number in range(300)]
        for number, chunk in enumerate(chunks):
            self.write(chunk, workers[number * number % 3])
        content = b"".join(chunks)
        self.assertEqual(Digest.of(content), self.digest(workers[2])[0])
        self.assertLessEqual(sum(hashed), 2 * len(content))

    def test_same_size_other_bytes(self) -> None:
        """A file that another worker cut and filled to the same size is not taken for the old one."""
        self.write(b"harmless")
        self.write(b"poisoned", self.new_staging(), cut=0)
        self.assertEqual((Digest.of(b"poisoned"), True), self.digest())

    def test_announced_algorithm(self) -> None:
        """The algorithm that the client announced is computed on the way."""
        writer = self.successResultOf(self.files.open(UPLOAD, algorithm="sha512"))
        self.successResultOf(writer.append(whole_body([b"abc"])))
        self.blocking.calls.clear()
        self.assertEqual(Digest.of(b"abc", "sha512"), self.successResultOf(writer.digest("sha512")))
        self.assertEqual([], self.blocking.calls)
        writer.close()

    def test_memory_is_bounded(self) -> None:
        """Only so many uploads are remembered, those touched last."""
        self.patch(running, "_KEPT_LIMIT", 2)
        self.write(b"a")
        for upload_id in ("x", "y"):
            self.successResultOf(self.staging.open(upload_id)).close()
            writer = self.successResultOf(self.staging.open(upload_id))
            self.successResultOf(writer.append(whole_body([b"x"])))
            writer.close()
        self.assertEqual((Digest.of(b"a"), True), self.digest())

    def test_vanished_bytes(self) -> None:
        """A file that became shorter is never hashed as if it were whole."""
        self.write(b"abc")
        writer = self.successResultOf(self.new_staging().open(UPLOAD))
        os.truncate(self.layout.upload_path(UPLOAD), 1)
        self.failureResultOf(writer.digest("sha256"), StoreUnavailable)
        writer.close()


class LockTests(FileStagingCase):
    """One writer, in all processes together."""

    def test_other_process(self) -> None:
        """An upload that another process writes to is busy until that process is gone, even by SIGKILL."""
        path = self.layout.upload_path(UPLOAD)
        with subprocess.Popen([sys.executable, "-c", HOLD_LOCK, path], stdout=subprocess.PIPE) as holder:
            self.addCleanup(holder.kill)
            assert holder.stdout is not None
            self.assertEqual(b"locked\n", holder.stdout.readline())
            self.failureResultOf(self.staging.open(UPLOAD), UploadBusy)
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        self.opened()

    def test_name_lost_before_the_lock(self) -> None:
        """A file that was discarded between open and lock is not written to; a new one is."""
        real_open, is_first = os.open, [True]
        path = self.layout.upload_path(UPLOAD)

        def discard_after(name: str, *args: int) -> int:
            descriptor = real_open(name, *args)
            if name == path and is_first:
                is_first.clear()
                os.unlink(path)
            return descriptor

        self.patch(os, "open", discard_after)
        self.opened()
        self.assertTrue(os.path.exists(path))

    def test_no_descriptor_is_left(self) -> None:
        """Refused and closed writers hold nothing open."""
        writer = self.successResultOf(self.staging.open(UPLOAD))
        self.failureResultOf(self.staging.open(UPLOAD), UploadBusy)
        self.assertEqual(1, len(open_files(self.layout.root)))
        writer.close()
        self.assertEqual([], open_files(self.layout.root))


class FlowTests(FileStagingCase):
    """How bytes wait for a slow disk."""

    def test_pauses_and_resumes(self) -> None:
        """One batch at a time is under way; the client is paused above 4 MiB and resumed below 2 MiB."""
        chunk = bytes(256 * 1024)
        writer, body = self.opened(), HandFedBody()
        self.blocking.is_held = True
        appending = Deferred.fromCoroutine(writer.append(body))
        fed_bytes = 0
        while not body.is_paused:
            body.feed(chunk)
            fed_bytes += len(chunk)
            self.assertTrue(fed_bytes <= HIGH_WATER_BYTES + len(chunk))
        self.assertEqual(1, self.blocking.waiting)
        while body.pauses > body.resumes:
            self.assertTrue(fed_bytes - writer.offset_bytes >= LOW_WATER_BYTES)
            self.blocking.release()
        self.assertTrue(fed_bytes - writer.offset_bytes < LOW_WATER_BYTES)
        body.finish()
        while self.blocking.waiting:
            self.blocking.release()
        self.successResultOf(appending)
        self.assertEqual((fed_bytes, 1), (writer.synced_bytes, body.pauses))

    def test_cancelled(self) -> None:
        """A cancelled append keeps what arrived, and ends only when no thread works on the file any more."""
        writer, body = self.opened(), HandFedBody()
        appending = Deferred.fromCoroutine(writer.append(body))
        body.feed(b"arrived")
        self.blocking.is_held = True
        for _ in range(3):
            appending.cancel()
            self.assertNoResult(appending)
        while self.blocking.waiting:
            self.blocking.release()
        self.failureResultOf(appending, CancelledError)
        self.assertEqual((7, 7), (writer.offset_bytes, writer.synced_bytes))

    def test_cancelled_while_it_waits_for_the_disk(self) -> None:
        """The same when the body has ended before."""
        writer = self.opened()
        self.blocking.is_held = True
        appending = Deferred.fromCoroutine(writer.append(whole_body([b"arrived"])))
        appending.cancel()
        self.assertNoResult(appending)
        while self.blocking.waiting:
            self.blocking.release()
        self.failureResultOf(appending, CancelledError)
        self.assertEqual(7, writer.synced_bytes)

    def test_closed_under_way(self) -> None:
        """Work that begins after close touches no file, whose number may be another's by now."""
        self.write(b"bytes")
        writer = self.successResultOf(self.new_staging().open(UPLOAD))
        self.blocking.is_held = True
        digest = Deferred.fromCoroutine(writer.digest("sha256"))
        writer.close()
        self.blocking.release()
        self.failureResultOf(digest, StoreUnavailable)
        self.assertEqual([UPLOAD], os.listdir(self.layout.uploads))

    def test_broken_while_paused(self) -> None:
        """A client that goes away while it is paused leaves what it had sent."""
        writer, body = self.opened(), broken_body([bytes(MIB)] * 6)
        self.blocking.is_held = True
        appending = Deferred.fromCoroutine(writer.append(body))
        self.assertTrue(body.is_paused)
        while self.blocking.waiting:
            self.blocking.release()
        self.failureResultOf(appending, BodyBroken)
        self.assertEqual(6 * MIB, writer.synced_bytes)


class BatchConsumerTests(SynchronousTestCase):
    """The consumer by itself."""

    def setUp(self) -> None:
        self.consumer = BatchConsumer(room_bytes=None, arrived=lambda: None, buffers=Buffers(), crowd=Crowd())

    def test_interface(self) -> None:
        """It is what Twisted's producers expect."""
        self.assertTrue(verifyObject(IConsumer, self.consumer))

    def test_pull_producer(self) -> None:
        """A pull producer is refused."""
        self.assertRaises(ValueError, self.consumer.registerProducer, HandFedBody(), False)

    def test_tiny_chunks_are_joined(self) -> None:
        """A million chunks of one byte do not become a million objects."""
        for _ in range(100_000):
            self.consumer.write(b"x")
        self.consumer.end()
        batch = self.successResultOf(self.consumer.next_batch())
        assert batch is not None
        self.assertEqual((2, 100_000), (len(batch), sum(map(len, batch))))

    def test_failed_before_it_began(self) -> None:
        """A producer that comes after the failure is stopped at once, and writes go nowhere."""
        body = HandFedBody()
        self.consumer.fail()
        self.consumer.registerProducer(body, True)
        self.consumer.write(b"late")
        self.assertTrue(body.is_stopped)
        self.assertIs(None, self.successResultOf(self.consumer.next_batch()))
        self.assertEqual(0, self.consumer.held_bytes)


class CrowdTests(SynchronousTestCase):
    """Many consumers together."""

    def setUp(self) -> None:
        self.crowd = Crowd()
        self.bodies = [HandFedBody() for _ in range(2 * CROWDED_BYTES // MIB)]
        self.consumers = [self.consumer_of(body) for body in self.bodies]

    def consumer_of(self, body: HandFedBody) -> BatchConsumer:
        """Return a consumer that takes a body."""
        consumer = BatchConsumer(room_bytes=None, arrived=lambda: None, buffers=Buffers(), crowd=self.crowd)
        consumer.registerProducer(body, True)
        return consumer

    def fill(self) -> list[Deferred[Any]]:
        """Have each send half a batch and wait, as long as it may; return what is to be written."""
        batches = [Deferred.fromCoroutine(each.next_batch()) for each in self.consumers]
        for body, consumer in zip(self.bodies, self.consumers, strict=True):
            if not body.is_paused:
                consumer.write(bytes(MIB // 2 + 1))
        return batches

    def test_limit(self) -> None:
        """When all together hold too much, none may send, and everything goes to the disk at once."""
        late = HandFedBody()
        batches = self.fill()
        for consumer in self.consumers:
            consumer.write(bytes(MIB // 16))
        self.assertTrue(all(body.is_paused for body in self.bodies))
        self.assertTrue(all(batch.called for batch in batches))
        self.consumer_of(late)
        self.assertTrue(late.is_paused)

    def test_eased(self) -> None:
        """They go on when most is written."""
        batches = self.fill()
        self.assertTrue(self.crowd.is_full)
        for consumer, batch in zip(self.consumers, batches, strict=True):
            consumer.release(self.successResultOf(batch))
        self.assertFalse(any(body.is_paused for body in self.bodies))

    def test_end(self) -> None:
        """One that ends with a failure leaves room to the others."""
        self.fill()
        for consumer in self.consumers:
            consumer.fail()
            consumer.close()
        self.assertEqual(0, self.crowd.held_bytes)
