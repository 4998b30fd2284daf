"""Bytes of other registries, brought under the root in each way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.disk import Disk
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.moving import FileMoving, Way
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import DigestMismatch, StorageFull, StoreUnavailable
from dockreg_tx.ports import SourceUnreadable
from tests.blobs.roots import make_root

CONTENT = b"bytes of another registry"
DIGEST = Digest.of(CONTENT)


class NoLinks(Disk):
    """A disk on which a link to a file of others is refused."""

    def __init__(self, number: int) -> None:
        self.number = number

    def link(self, source: str, target: str) -> None:
        """Refuse all but our own passing files."""
        if ".move-" not in source:
            raise OSError(self.number, os.strerror(self.number))
        super().link(source, target)


class MovingTests(SynchronousTestCase):
    """A file outside, and an empty root."""

    def setUp(self) -> None:
        """Make both."""
        self.layout: RootLayout = make_root(self.mktemp())
        self.source = Path(self.mktemp())
        self.source.write_bytes(CONTENT)

    def moving(self, *ways: Way, disk: Disk | None = None, floor_bytes: int = 0) -> FileMoving:
        """Return what is tested."""
        names = iter(range(100))
        return FileMoving(
            layout=self.layout,
            new_id=lambda: str(next(names)),
            ways=ways or tuple(Way),
            floor_bytes=floor_bytes,
            disk=disk,
        )

    def stored(self) -> bytes:
        """Return the blob, and require that nothing passing is left."""
        self.assertEqual([], os.listdir(self.layout.uploads))
        return Path(self.layout.blob_path(DIGEST)).read_bytes()

    def test_link(self) -> None:
        """A hard link is the first choice, and leaves the source as it is."""
        mode = self.source.stat().st_mode
        moving = self.moving()
        moving.bring(str(self.source), DIGEST, verify=True)
        moving.sync()
        self.assertTrue(os.path.samefile(self.source, self.layout.blob_path(DIGEST)))
        self.assertEqual((1, mode), (moving.counts[Way.LINK], self.source.stat().st_mode))

    def test_next_way(self) -> None:
        """Where links do not work, another way is found, and the refused one not tried again."""
        for number in (errno.EXDEV, errno.EPERM):
            moving = self.moving(disk=NoLinks(number))
            moving.bring(str(self.source), DIGEST, verify=False)
            self.assertEqual(CONTENT, self.stored())
            self.assertEqual(1, moving.counts[Way.REFLINK] + moving.counts[Way.COPY])
            os.unlink(self.layout.blob_path(DIGEST))

    def test_no_way(self) -> None:
        """A way that was asked for and does not work is refused by name; other faults are no fallback."""
        with self.assertRaisesRegex(StoreUnavailable, "as a link: .* try another --mode"):
            self.moving(Way.LINK, disk=NoLinks(errno.EXDEV)).bring(str(self.source), DIGEST, verify=False)
        with self.assertRaises(StorageFull):
            self.moving(disk=NoLinks(errno.ENOSPC)).bring(str(self.source), DIGEST, verify=False)

    def test_mismatch(self) -> None:
        """Verified and copied bytes must be what their digest says; nothing is stored else."""
        other = Digest.of(b"other")
        for way, verify in ((Way.LINK, True), (Way.COPY, False)):
            with self.assertRaises(DigestMismatch):
                self.moving(way).bring(str(self.source), other, verify=verify)
            self.assertFalse(os.path.exists(self.layout.blob_path(other)))
        self.assertEqual([], os.listdir(self.layout.uploads))

    def test_unreadable(self) -> None:
        """A source that is a link, a directory or gone is told apart from a fault of ours."""
        link = Path(self.mktemp())
        link.symlink_to(self.source.absolute())
        for source in (str(link), self.layout.blobs, "/nowhere"):
            with self.assertRaises(SourceUnreadable):
                self.moving(Way.COPY).bring(source, DIGEST, verify=False)

    def test_ensure(self) -> None:
        """What garbage collection took before it was recorded comes back; unless nobody knows from where."""
        moving = self.moving()
        moving.bring(str(self.source), DIGEST, verify=False)
        os.unlink(self.layout.blob_path(DIGEST))
        moving.ensure(DIGEST)
        self.assertEqual(CONTENT, self.stored())
        moving.ensure(DIGEST)
        moving.forget_sources()
        os.unlink(self.layout.blob_path(DIGEST))
        with self.assertRaises(StoreUnavailable):
            moving.ensure(DIGEST)

    def test_receive(self) -> None:
        """Pieces become a blob of the digest they hash to, once."""
        moving = self.moving()
        for expected in (None, DIGEST):
            found = moving.receive([CONTENT[:5], CONTENT[5:]], expected)
            self.assertEqual((DIGEST, len(CONTENT)), found)
        self.assertEqual(CONTENT, self.stored())
        self.assertEqual(0o440, os.stat(self.layout.blob_path(DIGEST)).st_mode & 0o777)
        self.assertEqual(CONTENT[:4], moving.read(DIGEST, 3))
        with self.assertRaises(DigestMismatch):
            moving.receive([b"x"], DIGEST)

    def test_room(self) -> None:
        """What must stay free stays free."""
        with self.assertRaises(StorageFull):
            self.moving(Way.COPY, floor_bytes=2**60).bring(str(self.source), DIGEST, verify=False)
