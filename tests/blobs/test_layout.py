"""Tests of the paths under the root."""

from __future__ import annotations

import os.path

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUploadUnknown, DigestInvalid

DIGEST = Digest.of(b"")


class RootLayoutTests(SynchronousTestCase):
    """Names that users and documents rely on."""

    def setUp(self) -> None:
        self.layout = RootLayout("/root")

    def test_names(self) -> None:
        """Each file and directory has its documented name."""
        layout = self.layout
        names = {
            "format": layout.format,
            "lock": layout.lock,
            "registry.lock": layout.write_lock,
            "registry.lock.queue": layout.write_queue,
            "registry.db": layout.database,
            "journal": layout.journal,
            "keys": layout.keys,
            "uploads": layout.uploads,
            "blobs": layout.blobs,
            "trash": layout.trash,
            "quarantine": layout.quarantine,
            "ballast": layout.ballast,
            "admin-password": layout.admin_password,
            "audit.log": layout.audit_log,
        }
        for name, path in names.items():
            self.assertEqual(f"/root/{name}", path)

    def test_blobs(self) -> None:
        """A blob lies in the shard of its first two digits, under its algorithm."""
        self.assertEqual("/root/blobs/sha256/e3", self.layout.shard_dir(DIGEST))
        self.assertEqual(f"/root/blobs/sha256/e3/{DIGEST.encoded}", self.layout.blob_path(DIGEST))
        self.assertRaises(DigestInvalid, self.layout.blob_path, Digest("blake3", "../../../etc"))

    def test_uploads(self) -> None:
        """An upload lies under its id; an id that could be another path is unknown."""
        self.assertEqual("/root/uploads/a-B_9.=", self.layout.upload_path("a-B_9.="))
        for upload_id in ("", ".", "..", ".put-1", "a/b", "a\n", "a\0b"):
            self.assertRaises(BlobUploadUnknown, self.layout.upload_path, upload_id)

    def test_directories(self) -> None:
        """All directories are named, parents first, every shard of both algorithms among them."""
        directories = self.layout.directories()
        self.assertEqual("/root", directories[0])
        seen = {"/"}
        for directory in directories:
            self.assertIn(os.path.dirname(directory), seen)
            seen.add(directory)
        for algorithm in ("sha256", "sha512"):
            self.assertEqual(256, sum(path.startswith(f"/root/blobs/{algorithm}/") for path in directories))
        self.assertIn("/root/blobs/sha512/ff", directories)
