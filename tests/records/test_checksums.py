"""Checksums of rows, in SQLite."""

from __future__ import annotations

import os
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import ManifestUnknown
from dockreg_tx.oci.names import Tag
from dockreg_tx.ports import Account, ContentReference, Cutoff, ReferenceKind
from dockreg_tx.records.checksums import row_checksum
from dockreg_tx.records.connections import open_writer
from dockreg_tx.records.migrations import migrate, shipped_scripts
from tests.contracts.records_contract import APP, LATEST, LAYER, image, nothing
from tests.records.test_sqlite import inline_records


class ChecksumTests(SynchronousTestCase):
    """A root with a user, a manifest and a tag, written by every kind of operation."""

    def test_stable(self) -> None:
        """The algorithm is part of the format on disk."""
        self.assertEqual(0xB6D8B23F, row_checksum(1, "läyer", None, 1000.0))

    def test_damage_is_named(self) -> None:
        """A changed value in a tag, a manifest or a user is found and named; untouched rows are not."""
        root = self.mktemp()
        os.mkdir(root)
        records = inline_records(root)
        records.start()
        self.addCleanup(records.close)
        self.successResultOf(records.add_account(Account("ann", "hash", created_at=5)))
        self.successResultOf(records.set_password_hash("ann", "other", now=6))
        self.successResultOf(records.set_disabled("ann", True, now=7))
        self.successResultOf(records.commit_blob(APP, LAYER, 5, nothing, upload_id=None, now=1))
        manifest = image()
        for now in (1, 2.5):
            self.successResultOf(
                records.put_manifest(manifest, [LATEST], nothing, may_overwrite=True, now=now)
            )
        self.assertEqual([], self.successResultOf(records.damaged_rows()))
        self.assertEqual([], self.successResultOf(records.damaged_copies()))
        database = open_writer(os.path.join(root, "registry.db"))
        self.addCleanup(database.close)
        database.execute("UPDATE tags SET name = 'lateSt'")
        database.execute("UPDATE manifests SET media_type = 'x', content = x'00'")
        database.execute("UPDATE users SET is_admin = 1")
        name = APP.text
        self.assertEqual(
            [f"tag {name}:lateSt", f"manifest {name}@{manifest.digest}", "user ann"],
            self.successResultOf(records.damaged_rows()),
        )
        self.assertEqual([manifest.digest], self.successResultOf(records.damaged_copies()))
        self.successResultOf(records.mend_copy(manifest.digest, manifest.content))
        self.assertEqual([], self.successResultOf(records.damaged_copies()))

    def test_decayed_digests(self) -> None:
        """Blobs and deleted things whose digest is none any more are named, and hold up nothing else."""
        root = self.mktemp()
        os.mkdir(root)
        records = inline_records(root)
        records.start()
        self.addCleanup(records.close)
        for content in (b"one", b"two"):
            self.successResultOf(
                records.commit_blob(APP, Digest.of(content), 3, nothing, upload_id=None, now=1)
            )
        manifest = replace(image(), references=())
        for tag in (LATEST, Tag("old")):
            self.successResultOf(records.put_manifest(manifest, [tag], nothing, may_overwrite=True, now=1))
            self.successResultOf(records.delete_tag(APP, tag, by="", now=2))
        database = open_writer(os.path.join(root, "registry.db"))
        self.addCleanup(database.close)
        database.execute("PRAGMA foreign_keys = OFF")
        bad = str(Digest.of(b"two")).replace("a", "\x7f")
        database.execute("UPDATE blobs SET digest = ? WHERE digest = ?", (bad, str(Digest.of(b"two"))))
        database.execute("UPDATE trash SET tags = '[' WHERE id = 1")
        self.assertEqual([f"blob {bad}", "trash 1"], self.successResultOf(records.damaged_rows()))
        one = Digest.of(b"one")
        dead = self.successResultOf(records.dead_blobs(Cutoff(9, 9), None, 9))
        self.assertEqual([one], [blob.digest for blob in dead])
        for listed in (records.recorded_blobs("", 9), records.newest_blobs(9)):
            found = {blob.digest for blob in self.successResultOf(listed)}
            self.assertEqual({one, manifest.digest}, found)
        self.assertEqual([2], [item.id for item in self.successResultOf(records.trash())])
        self.failureResultOf(records.undelete(1, by="", now=3), ManifestUnknown)

    def test_lost_blob(self) -> None:
        """A manifest lacks what its repository holds a link to, but no blob is recorded for."""
        root = self.mktemp()
        os.mkdir(root)
        records = inline_records(root)
        records.start()
        self.addCleanup(records.close)
        self.successResultOf(records.commit_blob(APP, LAYER, 5, nothing, upload_id=None, now=1))
        layer = ContentReference(ReferenceKind.LAYER, LAYER, 5, required=True)
        manifest = replace(image(), references=(layer,))
        self.successResultOf(records.put_manifest(manifest, [LATEST], nothing, may_overwrite=True, now=1))
        self.assertEqual([], self.successResultOf(records.dangling_references()))
        database = open_writer(os.path.join(root, "registry.db"))
        self.addCleanup(database.close)
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("DELETE FROM blobs WHERE digest = ?", (str(LAYER),))
        (text,) = self.successResultOf(records.dangling_references())
        self.assertIn(str(LAYER), text)

    def test_rows_of_an_older_release(self) -> None:
        """Rows that were there before the checksums get theirs by the migration."""
        database = open_writer(self.mktemp())
        self.addCleanup(database.close)
        scripts = shipped_scripts()
        migrate(database, {name: sql for name, sql in scripts.items() if name < "0004"})
        database.execute("INSERT INTO users VALUES ('ann', 'hash', 1, 0, 5.0, 5.0)")
        migrate(database)
        (found,) = database.execute("SELECT checksum FROM users").fetchone()
        self.assertEqual(row_checksum("ann", "hash", 1, 0, 5.0), found)
