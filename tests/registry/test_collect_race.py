"""Garbage collection without any grace beside pushes, on real files: nothing acknowledged misses content."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.blobs.filesystem import FileBlobStore
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import ManifestBlobUnknown
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import ContentReference, NewManifest, ReferenceKind
from dockreg_tx.preparation import inline_collect, run_inline
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.registry.collect import CollectionRules
from tests.blobs.roots import counting_ids, make_root
from tests.faults.collector import ForgetfulRecords

REPOSITORY = RepositoryName("race/app")
PUSHERS = 3
SECONDS = 2.0
#: How often the broken collector may be lucky.
ROUNDS = 8
#: A busy machine gets more time for as many images.
ENOUGH, LIMIT_SECONDS = 20, 30.0
#: Few enough to be shared, too many for a lost one to be pushed again by chance.
LAYERS = 200
#: Threads of real time, whose order is what is tested.
clock = time.time  # noqa: TID251
NO_GRACE = CollectionRules(0.0, 0.0)


class RaceTests(SynchronousTestCase):
    """Threads that push overlapping images, with records of their own as processes have."""

    def setUp(self) -> None:
        self.layout = make_root(self.mktemp())
        self.acknowledged: dict[Digest, list[bytes]] = {}
        self.failures: list[BaseException] = []
        self.began = time.monotonic()

    def test_nothing_is_lost(self) -> None:
        """Every acknowledged manifest has all its content, whatever the collector did meanwhile."""
        removed = self.race(InlineSqliteRecords)
        self.assertEqual([], self.lost())
        self.assertGreater(len(self.acknowledged), 10)
        self.assertGreater(removed, 10)

    def test_without_asking_again(self) -> None:
        """The same, with a collector that does not ask again, is noticed here."""
        for _ in range(ROUNDS):
            self.began = time.monotonic()
            self.race(ForgetfulRecords)
            if self.lost():
                return
        self.fail("nothing was lost")

    def race(self, kind: type[InlineSqliteRecords]) -> int:
        """Push and collect for a while; return how many blobs were removed."""
        opened(InlineSqliteRecords, self.layout).close()
        pushers = [threading.Thread(target=self.guarded, args=(self.push, seed)) for seed in range(PUSHERS)]
        for pusher in pushers:
            pusher.start()
        removed = 0
        records = opened(kind, self.layout)
        collect = inline_collect(records, self.layout, now=clock)
        try:
            while any(pusher.is_alive() for pusher in pushers):
                removed += len(run_inline(collect.run(NO_GRACE, now=clock())))
        finally:
            for pusher in pushers:
                pusher.join()
            records.close()
        self.assertEqual([], self.failures)
        return removed

    def guarded(self, work: Callable[[int], None], seed: int) -> None:
        """Run the work of a thread, and keep its error."""
        try:
            work(seed)
        except Exception as error:  # noqa: BLE001 - told by the test
            self.failures.append(error)

    def push(self, seed: int) -> None:
        """Push images of few different layers, and delete some of them."""
        choose = random.Random(seed)
        records = opened(InlineSqliteRecords, self.layout)
        store = FileBlobStore(
            layout=self.layout, blocking=InlineBlocking(), new_id=_prefixed(f"{seed}-", counting_ids())
        )
        try:
            for number in range(1_000_000):
                if self.is_over():
                    return
                layers = [b"layer %d" % choose.randrange(LAYERS) for _ in range(3)]
                digest = run_inline(_push_image(records, store, b"%d of %d" % (number, seed), layers))
                if digest is not None and choose.random() < 0.7:
                    run_inline(records.delete_manifest(REPOSITORY, digest, by="", now=clock()))
                elif digest is not None:
                    self.acknowledged[digest] = layers
        finally:
            records.close()

    def is_over(self) -> bool:
        """Tell whether the pushers have had their time."""
        seconds = time.monotonic() - self.began
        return seconds > LIMIT_SECONDS or (seconds > SECONDS and len(self.acknowledged) > ENOUGH)

    def lost(self) -> list[Digest]:
        """Return the acknowledged manifests that miss content, on record or on disk."""
        records = opened(InlineSqliteRecords, self.layout)
        try:
            return [
                digest
                for digest, layers in self.acknowledged.items()
                if not all(self.is_whole(records, Digest.of(layer)) for layer in layers)
                or not os.path.exists(self.layout.blob_path(digest))
            ]
        finally:
            records.close()

    def is_whole(self, records: InlineSqliteRecords, digest: Digest) -> bool:
        """Tell whether a blob is on record and on disk."""
        is_recorded = run_inline(records.blob(REPOSITORY, digest)) is not None
        return is_recorded and os.path.exists(self.layout.blob_path(digest))


async def _push_image(
    records: InlineSqliteRecords, store: FileBlobStore, name: bytes, layers: list[bytes]
) -> Digest | None:
    """Push what is missing and a manifest, as clients do; None when it was refused."""
    for layer in layers:
        digest = Digest.of(layer)
        if await records.blob(REPOSITORY, digest) is None:
            ensure = await store.put(digest, layer)
            await records.commit_blob(REPOSITORY, digest, len(layer), ensure, upload_id=None, now=clock())
    references = tuple(
        ContentReference(ReferenceKind.LAYER, Digest.of(layer), len(layer), required=True) for layer in layers
    )
    manifest = NewManifest(REPOSITORY, Digest.of(name), "application/json", name, references)
    ensure = await store.put(manifest.digest, name)
    try:
        await records.put_manifest(manifest, (), ensure, may_overwrite=True, now=clock())
    except ManifestBlobUnknown:
        return None
    return manifest.digest


def opened(kind: type[InlineSqliteRecords], layout: RootLayout) -> InlineSqliteRecords:
    """Return started records."""
    records = kind(path=layout.database, journal_dir=layout.journal, lock_path=layout.write_lock)
    records.start()
    return records


def _prefixed(prefix: str, new_id: Callable[[], str]) -> Callable[[], str]:
    return lambda: prefix + new_id()
