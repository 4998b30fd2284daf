"""What a rebuild of the index asks of the disk."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.contents import StoredContents
from dockreg_tx.oci.digests import Digest
from tests.blobs.roots import make_root

CONTENT = b"content"
DIGEST = Digest.of(CONTENT)


class StoredContentsTests(SynchronousTestCase):
    """A root, and one path in it."""

    def setUp(self) -> None:
        layout = make_root(self.mktemp())
        self.path = layout.blob_path(DIGEST)
        self.contents = StoredContents(layout)

    def found(self) -> tuple[int | None, bytes | None]:
        """Return size and bytes."""
        return self.contents.size_of(DIGEST), self.contents.read(DIGEST)

    def test_good_and_damaged(self) -> None:
        """Bytes count if they hash to the digest."""
        for content, expected in ((CONTENT, CONTENT), (b"else", None)):
            with open(self.path, "wb") as file:
                file.write(content)
            self.assertEqual((len(content), expected), self.found())

    def test_nothing(self) -> None:
        """What is missing, a directory or a link to itself is no content, and ends nothing."""
        self.assertEqual((None, None), self.found())
        os.mkdir(self.path)
        self.assertEqual((None, None), self.found())
        os.rmdir(self.path)
        os.symlink(self.path, self.path)
        self.assertEqual((None, None), self.found())

    def test_refused(self) -> None:
        """What this user may not read is not taken for lost."""
        with open(self.path, "wb") as file:
            file.write(CONTENT)

        def refuse(*_: object) -> None:
            raise PermissionError(13, "no")

        self.patch(os, "stat", refuse)
        self.assertRaises(PermissionError, self.contents.size_of, DIGEST)
