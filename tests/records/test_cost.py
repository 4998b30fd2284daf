"""What one write costs does not grow with what the registry holds: counted in steps of SQLite's machine."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import ContentReference, Cutoff, NewManifest, ReferenceKind, UploadRecord
from dockreg_tx.records import collection, pushes, removals, sessions, undelete
from dockreg_tx.records.connections import open_writer
from dockreg_tx.records.migrations import migrate
from dockreg_tx.records.transactions import Transaction
from tests.contracts.records_contract import APP, MEDIA_TYPE, OTHER, nothing

FEW, MANY = 20, 800
#: Trees of the larger registry are a level or two deeper.
GROWTH = 1.5
#: SQLite calls back after so many steps.
STEPS = 4
LAYERS = 3

Write = Callable[[Transaction], object]


def layer(number: int) -> Digest:
    """Return the digest of a layer."""
    return Digest.of(b"layer %d" % number)


def manifest(number: int, repository: RepositoryName = APP) -> NewManifest:
    """Return an image of some layers that others have, too."""
    content = b"manifest %d" % number
    references = tuple(
        ContentReference(ReferenceKind.LAYER, layer(number + place), 5, required=True)
        for place in range(LAYERS)
    )
    return NewManifest(repository, Digest.of(content), MEDIA_TYPE, content, references)


def push(transaction: Transaction, number: int, tags: list[Tag], repository: RepositoryName = APP) -> None:
    """Push an image."""
    pushed = manifest(number, repository)
    pushes.put_manifest(transaction, pushed, tags, nothing, may_overwrite=True, now=1.0)


@cache
def filled(count: int) -> Transaction:
    """Return a transaction on a registry with so many of everything; it lives as long as the process."""
    folder = tempfile.TemporaryDirectory(prefix="dockreg-test-")
    atexit.register(folder.cleanup)
    database = open_writer(os.path.join(folder.name, "registry.db"))
    migrate(database)
    database.execute("BEGIN IMMEDIATE")
    transaction = Transaction(database)
    for number in range(2 * count + LAYERS):
        for repository in (APP, OTHER):
            pushes.commit_blob(transaction, repository, layer(number), 5, nothing, upload_id=None, now=1.0)
    for number in range(2 * count):
        tags = [Tag(f"v{number}"), Tag("latest")] if number % 2 else [Tag(f"v{number}")]
        push(transaction, number, tags)
        push(transaction, number, tags, OTHER)
        sessions.begin_upload(transaction, UploadRecord(f"u{number}", APP, "ann", 0, 1.0, 1.0))
    for number in range(count, 2 * count):
        removals.delete_manifest(transaction, APP, manifest(number).digest, by="ann", now=2.0)
    for number in range(0, count, 2):
        removals.delete_tag(transaction, APP, Tag(f"v{number}"), by="ann", now=2.0)
    return transaction


class CostTests(SynchronousTestCase):
    """One repository with many of everything, its trash and history as well."""

    def steps(self, transaction: Transaction, writes: Sequence[Write]) -> int:
        """Return what these take, one after the other; they are undone."""
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += STEPS
            return 0

        connection = transaction.database.conn
        connection.execute("SAVEPOINT before")
        connection.set_progress_handler(count, STEPS)
        for write in writes:
            self.assertIsNot(False, write(transaction))
        connection.set_progress_handler(None, STEPS)
        connection.execute("ROLLBACK TO before")
        return counted

    def check(self, *writes: Write) -> None:
        """Compare what these take in both."""
        few, many = self.steps(filled(FEW), writes), self.steps(filled(MANY), writes)
        self.assertLess(many, GROWTH * few + 10 * STEPS)

    def test_push(self) -> None:
        """A blob, a mount, an image with a new tag, and one with a tag that moves."""
        new, tag = NewManifest(APP, Digest.of(b"new"), MEDIA_TYPE, b"new"), Tag("new")
        self.check(
            lambda each: pushes.commit_blob(each, APP, Digest.of(b"x"), 1, nothing, upload_id="u3", now=3.0)
        )
        self.check(lambda each: pushes.mount_blob(each, APP, OTHER, layer(1), now=3.0))
        self.check(lambda each: pushes.put_manifest(each, new, [tag], nothing, may_overwrite=True, now=3.0))
        self.check(lambda each: push(each, 3, [Tag("latest"), Tag("v5")]))

    def test_deletions(self) -> None:
        """A tag, an image with its tags, and the link of a blob."""
        self.check(lambda each: removals.delete_tag(each, APP, Tag("v7"), by="ann", now=3.0))
        self.check(lambda each: removals.delete_manifest(each, APP, manifest(7).digest, by="ann", now=3.0))
        self.check(lambda each: removals.unlink_blob(each, OTHER, layer(0), by="ann", now=3.0))

    def test_small_repository(self) -> None:
        """To remove a repository of one image takes what is in it, whatever else there is."""
        small = RepositoryName("team/small")

        def write(each: Transaction) -> object:
            pushes.mount_blob(each, APP, small, layer(1), now=3.0)
            content = NewManifest(small, Digest.of(b"small"), MEDIA_TYPE, b"small")
            pushes.put_manifest(each, content, [Tag("v1")], nothing, may_overwrite=True, now=3.0)
            return removals.remove_repository(each, small, by="ann", now=3.0)

        self.check(write)

    def test_sessions(self) -> None:
        """A session of an upload that is begun, goes on and ends."""
        self.check(
            lambda each: sessions.begin_upload(each, UploadRecord("new", APP, "ann", 0, 3.0, 3.0)),
            lambda each: sessions.set_upload_offset(each, "u5", 7, now=3.0),
            lambda each: sessions.end_upload(each, "u5", now=3.0),
        )

    def test_collection(self) -> None:
        """An image without a tag, and a blob that nothing needs."""
        cutoff = Cutoff(touched_before=9.0, trashed_before=9.0)

        def collect(each: Transaction) -> object:
            pushes.commit_blob(each, APP, Digest.of(b"dead"), 1, nothing, upload_id=None, now=3.0)
            return collection.collect_blobs(
                each,
                [Digest.of(b"dead")],
                cutoff,
                take=lambda digest: nothing,
                is_enough=lambda: False,
                settle=lambda digests: None,
            )

        self.check(collect)
        self.check(
            lambda each: collection.collect_manifest(
                each, APP, manifest(2).digest, before=9.0, now=9.0, by="gc", dry_run=False
            )
        )
        self.check(lambda each: collection.renew_blob(each, layer(1), now=3.0))

    def test_undelete(self) -> None:
        """An image that comes back, and a tag."""
        self.check(lambda each: undelete.undelete(each, 1, by="ann", now=3.0))
        self.check(lambda each: undelete.undelete(each, self.last(each), by="ann", now=3.0))

    def last(self, transaction: Transaction) -> int:
        """Return the id of what was deleted last: a tag."""
        found: int = transaction.value("SELECT max(id) FROM trash")
        return found
