"""The writer: many operations in one commit, each on its own, next to readers and other writers."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from subprocess import PIPE, Popen
from threading import Thread
from typing import cast

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.gate import DiskGate
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, StorageFull, StoreUnavailable
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import Account, EnsureContent, LateContent, UploadBusy
from dockreg_tx.records import sessions, users, writer
from dockreg_tx.records.connections import open_reader
from dockreg_tx.records.journal import Entry, Journal, read_journal
from dockreg_tx.records.transactions import Freeing, Transaction
from dockreg_tx.records.writer import SqliteWriter
from tests.contracts.records_contract import APP, LATEST, LAYER, image, nothing, upload
from tests.records.test_sqlite import SqliteRoot, inline_records


def begin(upload_id: str) -> Callable[[Transaction], None]:
    """Return the operation that begins an upload session."""
    return lambda transaction: sessions.begin_upload(transaction, upload(upload_id))


def _is_taken(descriptor: int, patience_seconds: float = 10.0) -> bool:
    """Tell whether another one comes to hold a lock."""
    ends_at = time.monotonic() + patience_seconds
    while time.monotonic() < ends_at:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(0.005)
    return False


class WriterTests(SynchronousTestCase):
    """One writer, without threads."""

    def setUp(self) -> None:
        self.root = self.mktemp()
        os.mkdir(self.root)
        self.writer = self.opened()
        self.reader = open_reader(self.path, 0)
        self.addCleanup(self.reader.close)

    @property
    def path(self) -> str:
        return os.path.join(self.root, "registry.db")

    def opened(self) -> SqliteWriter:
        """Return an open writer that is closed with the test."""
        lock_path, journal_dir = os.path.join(self.root, "db.lock"), os.path.join(self.root, "journal")
        opened = SqliteWriter(path=self.path, journal_dir=journal_dir, lock_path=lock_path)
        opened.open()
        self.addCleanup(opened.close)
        return opened

    def uploads(self) -> list[str]:
        """Return the ids of all sessions, as another connection sees them."""
        return [row[0] for row in self.reader.execute("SELECT id FROM uploads ORDER BY id")]

    def events(self) -> list[object]:
        """Return the events in the journal."""
        with open(os.path.join(self.root, "journal", "00000001.jsonl"), "rb") as file:
            return [entry["event"] for entry in read_journal(file)]

    def test_files_follow_the_transaction(self) -> None:
        """What an operation moved is moved back, last first, when it or the whole transaction fails."""
        undone: list[str] = []

        def moving(name: str, error: Exception | None = None) -> Callable[[Transaction], None]:
            def operation(transaction: Transaction) -> None:
                users.add_account(transaction, Account(name, "hash"))
                transaction.undo.append(lambda: undone.append(name))
                if error is not None:
                    raise error

            return operation

        self.writer.commit([moving("a"), moving("b", BlobUnknown("sha256:x")), moving("c")])
        self.assertEqual(["b"], undone)
        undone.clear()

        def full(journal: Journal, entries: Sequence[Entry]) -> None:
            raise OSError(errno.ENOSPC, "full")

        self.patch(Journal, "append", full)
        outcomes = self.writer.commit([moving("d"), moving("e")])
        self.assertEqual(["e", "d"], undone)
        self.assertTrue(all(isinstance(outcome.error, StorageFull) for outcome in outcomes))
        self.flushLoggedErrors()

    def test_one_refusal_among_many(self) -> None:
        """An operation that is refused leaves nothing, in the journal neither; its neighbours stay."""

        def refused(transaction: Transaction) -> None:
            begin("refused")(transaction)
            users.add_account(transaction, Account("ghost", "hash"))
            raise BlobUnknown("sha256:x")

        def broken(transaction: Transaction) -> None:
            begin("broken")(transaction)
            transaction.execute("INSERT INTO uploads (id) VALUES ('incomplete')")

        def added(transaction: Transaction) -> bool:
            return users.add_account(transaction, Account("alice", "hash"))

        first, second, third, fourth = self.writer.commit([begin("a"), refused, broken, added])
        self.assertIsNone(first.error)
        self.assertIsInstance(second.error, BlobUnknown)
        self.assertIsInstance(third.error, StoreUnavailable)
        self.assertTrue(fourth.result)
        self.assertEqual(["a"], self.uploads())
        self.assertEqual(["user.add"], self.events())

    def test_error_of_any_kind_is_kept_apart(self) -> None:
        """A mistake in one operation reaches its caller alone."""
        first, second = self.writer.commit([lambda transaction: 1 // 0, begin("b")])
        self.assertIsInstance(first.error, ZeroDivisionError)
        self.assertIsNone(second.error)
        self.assertEqual(["b"], self.uploads())

    def test_ensure_that_meets_a_full_disk(self) -> None:
        """An OSError on the way becomes an error of the ports."""

        def full(transaction: Transaction) -> None:
            raise OSError(errno.ENOSPC, "full")

        self.assertRaises(StorageFull, self.writer.execute, full)

    def test_journal_refuses(self) -> None:
        """When the journal cannot be written, nothing is committed."""

        def full(journal: Journal, entries: Sequence[Entry]) -> None:
            raise OSError(errno.EIO, "broken")

        patch = self.patch(Journal, "append", full)
        outcomes = self.writer.commit([begin("a"), begin("b")])
        self.assertEqual([StoreUnavailable] * 2, [type(outcome.error) for outcome in outcomes])
        self.assertEqual([], self.uploads())
        patch.restore()
        self.writer.execute(begin("c"))
        self.assertEqual(["c"], self.uploads())

    def test_database_full(self) -> None:
        """A full disk refuses the whole group as such; reads go on, and writes when there is room."""
        pages = self.reader.execute("PRAGMA page_count").fetchone()[0]

        def limit(count: int) -> None:
            self.writer._opened().execute(f"PRAGMA max_page_count = {count:d}")

        limit(pages)
        outcomes = self.writer.commit([begin(f"{number:0900d}") for number in range(50)])
        self.assertEqual([StorageFull] * 50, [type(outcome.error) for outcome in outcomes])
        self.assertEqual([], self.uploads())
        limit(pages * 100)
        self.writer.execute(begin("after"))
        self.assertIn("after", self.uploads())

    def test_ballast(self) -> None:
        """On a full disk the ballast is given up for removals alone, and those come through."""
        self.writer.execute(begin("first"))
        given_up: list[str] = []

        def full(journal: Journal, entries: Sequence[Entry]) -> None:
            if not given_up:
                raise OSError(errno.ENOSPC, "full")

        def make_room() -> bool:
            given_up.append("ballast")
            return len(given_up) == 1

        self.patch(Journal, "append", full)
        self.patch(self.writer, "_make_room", make_room)
        self.assertIsInstance(self.writer.commit([begin("push")])[0].error, StorageFull)
        self.assertEqual([], given_up)
        removal = Freeing(
            lambda transaction: transaction.changed("DELETE FROM uploads WHERE id = :id", id="first")
        )
        push, removed = self.writer.commit([begin("push"), removal])
        self.assertIsInstance(push.error, StorageFull)
        self.assertEqual((None, True), (removed.error, removed.result))
        self.assertEqual((["ballast"], []), (given_up, self.uploads()))

    def test_ballast_for_one_alone(self) -> None:
        """A removal that is alone is undone before it is tried again, with what it moved and noted."""
        self.writer.execute(begin("first"))
        begun: list[str] = []
        undone: list[str] = []

        def remove(transaction: Transaction) -> bool:
            begun.append("x")
            transaction.undo.append(lambda: undone.append("x"))
            users.add_account(transaction, Account("ghost", "hash"))
            is_changed = transaction.changed("DELETE FROM uploads WHERE id = :id", id="first")
            if len(begun) == 1:
                raise OSError(errno.ENOSPC, "full")
            return is_changed

        self.patch(self.writer, "_make_room", lambda: True)
        self.assertTrue(self.writer.execute(Freeing(remove)))
        self.assertEqual((2, ["x"], []), (len(begun), undone, self.uploads()))
        self.assertEqual(["user.add"], self.events())
        self.writer.execute(begin("after"))
        self.assertEqual(["after"], self.uploads())

    def test_alone_on_a_full_database(self) -> None:
        """When SQLite has no room, one that is alone is refused, and tried again with the ballast's."""
        pages = self.reader.execute("PRAGMA page_count").fetchone()[0]
        database = self.writer._opened()

        def make_room() -> bool:
            database.execute(f"PRAGMA max_page_count = {pages * 100:d}")
            return True

        def begin_all(transaction: Transaction) -> None:
            for number in range(50):
                begin(f"{number:0900d}")(transaction)

        self.patch(self.writer, "_make_room", make_room)
        database.execute(f"PRAGMA max_page_count = {pages:d}")
        self.assertRaises(StorageFull, self.writer.execute, begin_all)
        self.assertEqual([], self.uploads())
        self.writer.execute(Freeing(begin_all))
        self.assertEqual(50, len(self.uploads()))

    def test_broken_disk(self) -> None:
        """An error of the disk shuts the gate; then no transaction is even begun."""

        def broken(journal: Journal, entries: Sequence[Entry]) -> None:
            raise OSError(errno.EIO, "broken")

        gate = DiskGate(directories=[], new_id=str)
        self.patch(self.writer, "_gate", gate)
        self.patch(Journal, "append", broken)
        error = self.assertRaises(StoreUnavailable, self.writer.execute, begin("a"))
        self.assertIn("pulls go on", str(error))
        self.patch(SqliteWriter, "_commit_locked", self.fail)
        self.assertRaises(StoreUnavailable, self.writer.execute, begin("b"))
        self.assertEqual([], self.uploads())

    def test_everything_happens_under_the_lock(self) -> None:
        """Transactions, checkpoints and the close hold the lock of all processes, and give it back."""
        descriptor = os.open(os.path.join(self.root, "db.lock"), os.O_RDWR)
        self.addCleanup(os.close, descriptor)
        held: list[bool] = []

        def note(_: object = None) -> None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(True)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                held.append(False)

        self.patch(writer, "CHECKPOINT_COMMITS", 1)
        self.patch(SqliteWriter, "checkpoint_locked", note)
        self.writer.execute(note)
        note()
        self.writer.close(note)
        note()
        self.assertEqual([True, True, False, True, False], held)

    def test_nobody_overtakes(self) -> None:
        """Who waits for the lock stands in the queue, where the one who has it has to line up again."""
        descriptors = [
            os.open(os.path.join(self.root, name), os.O_RDWR) for name in ("db.lock", "db.lock.queue")
        ]
        lock, queue = descriptors
        for descriptor in descriptors:
            self.addCleanup(os.close, descriptor)
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiter = Thread(target=self.writer.execute, args=(begin("a"),))
        waiter.start()
        try:
            self.assertTrue(_is_taken(queue))
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            waiter.join()
        fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_closed(self) -> None:
        """A closed writer refuses, and closing twice is no error."""
        self.writer.close()
        self.writer.close()
        self.assertRaises(StoreUnavailable, self.writer.execute, begin("a"))

    def test_journal_tells_what_was_done(self) -> None:
        """Tags, manifests, links, users and grants leave lines, deletions too."""
        records = inline_records(self.root)
        records.start()
        self.addCleanup(records.close)
        other = RepositoryName("other")
        for call in (
            records.commit_blob(APP, LAYER, 5, nothing, upload_id=None, now=1.0),
            records.commit_blob(APP, LAYER, 5, nothing, upload_id=None, now=1.0),
            records.mount_blob(APP, other, LAYER, now=1.0),
            records.put_manifest(image(), [LATEST, Tag("v1")], nothing, may_overwrite=True, now=1.0),
            records.delete_tag(APP, LATEST, by="alice", now=2.0),
            records.delete_manifest(APP, image().digest, by="alice", now=2.0),
            records.unlink_blob(APP, LAYER, by="alice", now=2.0),
            records.remove_repository(other, by="alice", now=2.0),
            records.add_account(Account("alice", "hash", grants=("pull:a",))),
            records.set_password_hash("alice", "new", now=2.0),
            records.set_disabled("alice", True, now=2.0),
            records.remove_grant("alice", "pull:a", now=2.0),
            records.remove_account("alice", now=2.0),
        ):
            self.successResultOf(Deferred.fromCoroutine(call))
        # Pushing the blob again changed nothing, so it left no line.
        links = ["blob.link", "blob.link"]
        puts = ["manifest.put", "tag.put", "tag.put"]
        removals = ["tag.delete", "manifest.delete", "blob.unlink", "repository.remove"]
        accounts = ["user.add", "grant.add", "user.password", "user.disabled", "grant.remove", "user.remove"]
        self.assertEqual(links + puts + removals + accounts, self.events())
        history = self.reader.execute("SELECT name, digest IS NULL, changed_by FROM tag_history ORDER BY id")
        moves = [("latest", 0, ""), ("v1", 0, ""), ("latest", 1, "alice"), ("v1", 1, "alice")]
        self.assertEqual(moves, history.fetchall())

    def test_what_garbage_collection_needs(self) -> None:
        """The bytes of a manifest have a blob row; pushes that rely on a blob renew its time, never back."""
        records = inline_records(self.root)
        records.start()
        self.addCleanup(records.close)
        for call in (
            records.commit_blob(APP, LAYER, 5, nothing, upload_id=None, now=9.0),
            records.put_manifest(image(), [], nothing, may_overwrite=True, now=3.0),
            records.commit_blob(APP, LAYER, 5, nothing, upload_id=None, now=2.0),
        ):
            self.successResultOf(Deferred.fromCoroutine(call))
        rows = self.reader.execute(
            "SELECT digest, state, touched_at FROM blobs ORDER BY touched_at"
        ).fetchall()
        self.assertEqual([(str(image().digest), "live", 3.0), (str(LAYER), "live", 9.0)], rows)

    def test_wal_stays_short(self) -> None:
        """The WAL is checkpointed as it grows, and cut when it grew long behind a reader."""
        self.patch(writer, "CHECKPOINT_BYTES", 100_000)
        self.patch(writer, "TRUNCATE_BYTES", 300_000)
        wal = f"{self.path}-wal"
        for number in range(100):
            self.writer.execute(begin(f"{number:0900d}"))
        self.assertLess(os.path.getsize(wal), 300_000)
        self.reader.execute("BEGIN")
        self.uploads()
        for number in range(100, 200):
            self.writer.execute(begin(f"{number:0900d}"))
        self.assertGreater(os.path.getsize(wal), 300_000)
        self.reader.execute("COMMIT")
        for number in range(200, 300):
            self.writer.execute(begin(f"{number:0900d}"))
        self.assertLess(os.path.getsize(wal), 300_000)
        self.assertEqual(300, len(self.uploads()))

    def test_failed_checkpoint_harms_nobody(self) -> None:
        """A commit counts although the checkpoint after it fails."""

        def fail(self: SqliteWriter) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        self.patch(writer, "CHECKPOINT_COMMITS", 1)
        self.patch(SqliteWriter, "checkpoint_locked", fail)
        self.writer.execute(begin("a"))
        self.assertEqual(["a"], self.uploads())

    def test_generation_through_any_connection(self) -> None:
        """A change of users by another process is seen at once, and by plain SQL too."""
        server, admin = inline_records(self.root), inline_records(self.root)
        for records in (server, admin):
            records.start()
            self.addCleanup(records.close)

        def generation() -> int:
            return self.successResultOf(Deferred.fromCoroutine(server.access_generation()))

        seen = [generation()]
        self.successResultOf(Deferred.fromCoroutine(admin.add_account(Account("alice", "hash"))))
        seen.append(generation())
        self.successResultOf(Deferred.fromCoroutine(admin.add_grant("alice", "pull:a", now=1.0)))
        seen.append(generation())
        stranger = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(stranger.close)
        for sql in ("UPDATE users SET is_admin = 1", "UPDATE grants SET spec = 'x'", "DELETE FROM grants"):
            stranger.execute(sql)
            seen.append(generation())
        self.assertEqual(sorted(set(seen)), seen)
        self.successResultOf(Deferred.fromCoroutine(admin.begin_upload(upload())))
        self.assertEqual(seen[-1], generation())


class GroupCommitTests(SqliteRoot):
    """The writer thread."""

    async def test_many_operations_few_commits(self) -> None:
        """What is queued at the same time shares its commit and its fsyncs."""
        records = self.threaded()
        syncs: list[int] = []
        real = os.fdatasync

        def counted(descriptor: int) -> None:
            syncs.append(descriptor)
            real(descriptor)

        self.patch(os, "fdatasync", counted)
        calls = [records.add_account(Account(f"user{number}", "hash")) for number in range(200)]
        results = await gatherResults([Deferred.fromCoroutine(call) for call in calls])
        self.assertEqual([True] * 200, results)
        self.assertLess(len(syncs), 20)
        self.assertEqual(200, len(await records.accounts()))

    async def test_each_gets_its_own_answer(self) -> None:
        """In one group, those that are refused learn it and the others succeed."""
        records = self.threaded()
        names = ["alice", "bob", "alice", "carol", "bob"]
        calls = [Deferred.fromCoroutine(records.add_account(Account(name, "hash"))) for name in names]
        self.assertEqual([True, True, False, True, False], await gatherResults(calls))

    async def test_late_content(self) -> None:
        """Content is placed before its transaction, by the writer if it is idle, else by others."""
        records = self.threaded()
        threads: list[str] = []
        ensured: list[str] = []

        def late(name: str) -> LateContent:
            def place() -> EnsureContent:
                threads.append(threading.current_thread().name)
                return partial(ensured.append, name)

            return LateContent(place)

        calls = [
            records.commit_blob(APP, Digest.of(name.encode()), 1, late(name), upload_id=None, now=1.0)
            for name in "abcdef"
        ]
        await gatherResults([Deferred.fromCoroutine(call) for call in calls])
        self.assertEqual(sorted("abcdef"), sorted(ensured))
        self.assertEqual(1, threads.count("records writer"))
        self.assertEqual(6, len(threads))
        self.assertEqual(0, records.waiting)

    async def test_content_that_cannot_be_placed(self) -> None:
        """It is refused for its reason and not recorded, its neighbours are; stopping waits for all."""
        records = self.threaded()

        def full() -> EnsureContent:
            raise StorageFull

        def busy() -> EnsureContent:
            raise UploadBusy("bytes")

        def commit(content: bytes, place: Callable[[], EnsureContent]) -> Deferred[None]:
            late = LateContent(place)
            return Deferred.fromCoroutine(
                records.commit_blob(APP, Digest.of(content), 1, late, upload_id=None, now=1.0)
            )

        calls = [commit(b"1", full), commit(b"2", busy), commit(b"3", lambda: nothing), commit(b"4", full)]
        calls.append(commit(b"5", lambda: nothing))
        outcomes = await DeferredList(calls, consumeErrors=True)
        self.assertEqual([False, False, True, False, True], [success for success, _ in outcomes])
        reasons = [cast("Failure", result).type for success, result in outcomes if not success]
        self.assertEqual([StorageFull, UploadBusy, StorageFull], reasons)
        blobs = [await records.blob(APP, Digest.of(b"%d" % number)) for number in range(1, 6)]
        self.assertEqual([2, 4], [index for index, blob in enumerate(blobs) if blob is not None])
        last = [commit(b"%d" % number, lambda: nothing) for number in range(6, 30)]
        await records.stop()
        self.assertEqual(24, len(await gatherResults(last)))

    async def test_cancelled_wait(self) -> None:
        """Who stops waiting hurts nobody; the write is done all the same."""
        records = self.threaded()
        waits = [Deferred.fromCoroutine(records.begin_upload(upload(f"u{number}"))) for number in range(3)]
        everyone = DeferredList(waits, consumeErrors=True)
        waits[1].cancel()
        results = await everyone
        self.assertEqual([True, False, True], [success for success, _ in results])
        await records.check()
        self.assertEqual(3, len(await records.expired_uploads(99.0, 9)))

    async def test_held_reader_does_not_hold_up_commits(self) -> None:
        """While a reader keeps its snapshot, commits and their checkpoints finish within 50 ms."""
        self.patch(writer, "CHECKPOINT_COMMITS", 1)
        self.patch(writer, "TRUNCATE_BYTES", 1)
        records = self.threaded()
        reader = open_reader(self.path, 0)
        self.addCleanup(reader.close)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM uploads").fetchone()
        took_seconds = []
        for number in range(20):
            before = time.monotonic()
            await records.begin_upload(upload(f"u{number}"))
            took_seconds.append(time.monotonic() - before)
        # The median, since the machine may be busy with other things.
        self.assertLess(sorted(took_seconds)[10], 0.05)
        self.assertLess(max(took_seconds), 5)
        self.assertEqual((0,), reader.execute("SELECT count(*) FROM uploads").fetchone())

    async def test_two_servers_lose_nothing(self) -> None:
        """Two writers with lock, queue and connections of their own never lose each other's rows."""
        self.patch(writer, "CHECKPOINT_COMMITS", 3)
        both = self.threaded(), self.threaded()
        for turn in range(10):
            calls = [
                Deferred.fromCoroutine(records.begin_upload(upload(f"{turn}-{which}-{number}")))
                for which, records in enumerate(both)
                for number in range(10)
            ]
            await gatherResults(calls)
        for records in both:
            self.assertEqual(200, len(await records.expired_uploads(99.0, 999)))


_PUSHER = """
import sys
from tests.contracts.records_contract import upload
from tests.records.test_sqlite import inline_records
records = inline_records(sys.argv[1])
records.start()
for number in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}-{number}"
    try:
        records.begin_upload(upload(name)).send(None)
    except StopIteration:
        print(name, flush=True)
"""


class ProcessTests(SqliteRoot):
    """Several processes on one database."""

    def pusher(self, name: str, count: int) -> Popen[bytes]:
        """Start a process that begins ``count`` sessions and prints each id once it is acknowledged."""
        arguments = [sys.executable, "-c", _PUSHER, os.path.abspath(self.root), name, str(count)]
        return Popen(arguments, stdout=PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})

    def sessions(self) -> set[str]:
        """Return the ids in the database, after a check of the whole file."""
        reader = open_reader(self.path, 1000)
        try:
            self.assertEqual([("ok",)], reader.execute("PRAGMA integrity_check").fetchall())
            return {row[0] for row in reader.execute("SELECT id FROM uploads")}
        finally:
            reader.close()

    def test_two_processes(self) -> None:
        """Two processes that start on an empty root and write at once lose nothing."""
        pushers = [self.pusher(name, 100) for name in ("a", "b")]
        acknowledged = {line for pusher in pushers for line in pusher.communicate()[0].decode().split()}
        self.assertEqual([0, 0], [pusher.returncode for pusher in pushers])
        self.assertEqual(200, len(acknowledged))
        self.assertEqual(acknowledged, self.sessions())

    async def test_killed(self) -> None:
        """What was acknowledged before a kill -9 is there, and the next process just goes on."""
        for cycle in range(3):
            pusher = self.pusher(f"k{cycle}", 10_000)
            acknowledged = await deferToThread(_kill_after, pusher, 20 + 15 * cycle)
            records = self.inline()
            await records.check()
            self.assertLessEqual(20, len(acknowledged))
            self.assertEqual(set(), acknowledged - self.sessions())
            records.close()


def _kill_after(pusher: Popen[bytes], lines: int) -> set[str]:
    """Kill a process after so many lines and return all that it wrote."""
    assert pusher.stdout is not None
    seen = [pusher.stdout.readline() for _ in range(lines)]
    pusher.kill()
    *rest, torn = pusher.stdout.read().split(b"\n")
    pusher.stdout.close()
    pusher.wait()
    assert torn == b"" or not torn.endswith(b"\n")
    return {line.decode().strip() for line in (*seen, *rest)} - {""}
