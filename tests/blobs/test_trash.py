"""Content in the trash, as files."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.disk import Disk
from dockreg_tx.blobs.trash import FileTrash
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import StoredContent, TrashedContent
from tests.blobs.roots import make_root

CONTENT = b"content"
DIGESTS = (Digest.of(CONTENT), Digest.of(CONTENT, "sha512"))


class RecordingDisk(Disk):
    """Notes what is synced, and fails when told to."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.fails_at = ""

    def sync_directory(self, path: str) -> None:
        """Note the path."""
        if path == self.fails_at:
            raise OSError(5, "no")
        self.synced.append(path)
        super().sync_directory(path)


class FileTrashTests(SynchronousTestCase):
    """A trash with a clock at 12 s."""

    def setUp(self) -> None:
        self.layout = make_root(self.mktemp())
        self.disk = RecordingDisk()
        self.trash = FileTrash(
            layout=self.layout, blocking=InlineBlocking(), now=lambda: 12.0, disk=self.disk
        )
        for digest in DIGESTS:
            with open(self.layout.blob_path(digest), "wb") as file:
                file.write(CONTENT)

    def is_stored(self, digest: Digest) -> bool:
        """Tell whether a blob is in its place."""
        return os.path.exists(self.layout.blob_path(digest))

    def test_take_and_back(self) -> None:
        """Taken bytes are listed, durably; the returned callable brings them back."""
        for digest in DIGESTS:
            undo = self.trash.take(digest)
            self.assertFalse(self.is_stored(digest))
            self.assertEqual([self.layout.trash, self.layout.shard_dir(digest)], self.disk.synced)
            name = f"{digest.encoded}.12000000000"
            expected = [TrashedContent(name, digest, len(CONTENT), 12.0)]
            self.assertEqual(expected, self.successResultOf(self.trash.entries()))
            undo()
            self.assertTrue(self.is_stored(digest))
            self.assertEqual([], self.successResultOf(self.trash.entries()))
            self.disk.synced.clear()

    def test_move_and_settle(self) -> None:
        """What was moved is settled at once: the trash first, then each directory that lost a name, once."""
        undo = [self.trash.move(digest) for digest in DIGESTS]
        self.assertEqual([], self.disk.synced)
        self.trash.settle([*DIGESTS, DIGESTS[0]])
        shards = sorted(map(self.layout.shard_dir, DIGESTS))
        self.assertEqual([self.layout.trash, *shards], self.disk.synced)
        for step in undo:
            step()
        self.assertTrue(all(map(self.is_stored, DIGESTS)))
        self.disk.synced.clear()
        self.trash.settle([])
        self.assertEqual([], self.disk.synced)

    def test_take_nothing(self) -> None:
        """Taking bytes that are not there, and undoing it, is no error."""
        os.unlink(self.layout.blob_path(DIGESTS[0]))
        self.trash.take(DIGESTS[0])()
        self.assertFalse(self.is_stored(DIGESTS[0]))

    def test_disk_refuses(self) -> None:
        """When the move cannot be made durable, the bytes are where they were."""
        self.disk.fails_at = self.layout.trash
        self.assertRaises(StoreUnavailable, self.trash.take, DIGESTS[0])
        self.assertTrue(self.is_stored(DIGESTS[0]))

    def test_back_beside_a_new_push(self) -> None:
        """Bytes that were pushed again meanwhile are not replaced."""
        undo = self.trash.take(DIGESTS[0])
        with open(self.layout.blob_path(DIGESTS[0]), "wb") as file:
            file.write(b"new")
        undo()
        with open(self.layout.blob_path(DIGESTS[0]), "rb") as file:
            self.assertEqual(b"new", file.read())
        self.assertEqual([], os.listdir(self.layout.trash))

    def test_back_without_a_place(self) -> None:
        """Bytes whose directory is gone stay in the trash: they are the only ones."""
        self.trash.take(DIGESTS[0])
        os.rmdir(self.layout.shard_dir(DIGESTS[0]))
        (name,) = os.listdir(self.layout.trash)
        self.assertRaises(StoreUnavailable, self.trash.put_back, name)
        self.assertEqual([name], os.listdir(self.layout.trash))
        os.mkdir(self.layout.shard_dir(DIGESTS[0]))
        self.trash.put_back(name)
        self.assertTrue(self.is_stored(DIGESTS[0]))

    def test_purge(self) -> None:
        """Purged bytes are gone; purging again is no error, and strange files are left alone."""
        self.trash.take(DIGESTS[0])
        strange = os.path.join(self.layout.trash, "notes.txt")
        open(strange, "wb").close()
        (entry,) = self.successResultOf(self.trash.entries())
        for _ in range(2):
            self.successResultOf(self.trash.purge(entry.name))
        self.assertEqual(["notes.txt"], os.listdir(self.layout.trash))

    def test_stored(self) -> None:
        """What is stored is listed by shard, strange files left out."""
        digest = DIGESTS[0]
        os.utime(self.layout.blob_path(digest), (5.0, 5.0))
        open(os.path.join(self.layout.shard_dir(digest), "strange"), "wb").close()
        found = self.successResultOf(self.trash.stored(int(digest.encoded[:2], 16)))
        self.assertEqual([StoredContent(digest, len(CONTENT), 5.0)], found)

    def test_stored_elsewhere(self) -> None:
        """A missing directory holds nothing, and a file in the wrong one is strange."""
        os.rmdir(os.path.join(self.layout.blobs, "sha512", "00"))
        strange = os.path.join(self.layout.blobs, "sha256", "00", DIGESTS[0].encoded)
        open(strange, "wb").close()
        self.assertEqual([], self.successResultOf(self.trash.stored(0)))
