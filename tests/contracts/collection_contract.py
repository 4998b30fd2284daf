"""What every record backend promises of garbage collection."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import (
    ContentReference,
    Cutoff,
    NewManifest,
    RecordedBlob,
    Records,
    ReferenceKind,
    UntaggedManifest,
    Verdict,
)

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase

    Base = TestCase
else:
    Base = object

HERE = RepositoryName("gc/app")
ELSEWHERE = RepositoryName("gc/other")
NEVER = Cutoff(touched_before=100.0, trashed_before=100.0)


class CollectRecordsContract(Base):
    """Mixed into a ``TestCase`` whose ``records`` are fresh; 100 is the age that counts."""

    records: Records

    async def blob_at(self, content: bytes, now: float, repository: RepositoryName = HERE) -> Digest:
        """Commit a blob at a time."""
        digest = Digest.of(content)
        await self.records.commit_blob(
            repository, digest, len(content), lambda: None, upload_id=None, now=now
        )
        return digest

    async def manifest_at(
        self, content: bytes, now: float, *tags: str, **names: tuple[Digest, ...]
    ) -> Digest:
        """Put a manifest at a time that names other content by kind."""
        references = tuple(
            ContentReference(ReferenceKind(kind), digest, 4, required=False)
            for kind, digests in names.items()
            for digest in digests
        )
        digest = Digest.of(content)
        manifest = NewManifest(HERE, digest, "application/json", content, references)
        await self.records.put_manifest(
            manifest, [Tag(tag) for tag in tags], lambda: None, may_overwrite=True, now=now
        )
        return digest

    async def dead(self) -> set[Digest]:
        """Return all dead blobs, in pages of one."""
        found = []
        page = await self.records.dead_blobs(NEVER, None, 1)
        while page:
            found += page
            page = await self.records.dead_blobs(NEVER, page[-1], 1)
        return {blob.digest for blob in found}

    async def collect(self, *digests: Digest, enough_after: int = 99) -> tuple[list[Verdict], list[Digest]]:
        """Collect, and return the verdicts and whose bytes were moved."""
        taken: list[Digest] = []

        def take(digest: Digest) -> Callable[[], None]:
            taken.append(digest)
            return lambda: None

        verdicts = await self.records.collect_blobs(
            digests, NEVER, take=take, is_enough=lambda: len(taken) >= enough_after
        )
        return verdicts, taken

    async def test_dead_is_what_nothing_needs(self) -> None:
        """Dead is a blob that is old, and that no manifest names; manifests themselves are not."""
        old = await self.blob_at(b"old", 10.0)
        layer, config = await self.blob_at(b"laye", 10.0), await self.blob_at(b"conf", 10.0)
        await self.manifest_at(b"m", 10.0, config=(config,), layer=(layer,))
        await self.blob_at(b"young", 100.0)
        self.assertEqual({old}, await self.dead())

    async def test_recent_link(self) -> None:
        """A blob that another repository mounted lately lives."""
        old = await self.blob_at(b"old", 10.0)
        await self.records.mount_blob(HERE, ELSEWHERE, old, now=150.0)
        self.assertEqual(set(), await self.dead())

    async def test_renewed(self) -> None:
        """A blob that a client was told of lives; one that is gone cannot be renewed."""
        old = await self.blob_at(b"old", 10.0)
        self.assertTrue(await self.records.renew_blob(old, now=150.0))
        self.assertEqual(set(), await self.dead())
        found = await self.records.blob(HERE, old)
        self.assertEqual(150.0, found.touched_at if found else None)
        self.assertFalse(await self.records.renew_blob(Digest.of(b"no"), now=150.0))

    async def test_collect(self) -> None:
        """A collected blob is gone from every repository, and can be pushed again."""
        old = await self.blob_at(b"old", 10.0)
        await self.blob_at(b"old", 10.0, ELSEWHERE)
        self.assertEqual(([Verdict.REMOVED], [old]), await self.collect(old))
        for repository in (HERE, ELSEWHERE):
            self.assertIsNone(await self.records.blob(repository, old))
        self.assertEqual([old], await self.records.unknown_content([old]))
        await self.blob_at(b"old", 150.0)
        self.assertIsNotNone(await self.records.blob(HERE, old))
        self.assertIsNone(await self.records.blob(ELSEWHERE, old))

    async def test_collect_asks_again(self) -> None:
        """A candidate that a push relies on meanwhile is kept, bytes and all."""
        touched, named = await self.blob_at(b"a", 10.0), await self.blob_at(b"name", 10.0)
        self.assertEqual({touched, named}, await self.dead())
        await self.records.renew_blob(touched, now=150.0)
        await self.manifest_at(b"m", 20.0, layer=(named,))
        self.assertEqual(([Verdict.KEPT, Verdict.KEPT], []), await self.collect(touched, named))

    async def test_collect_ends_early(self) -> None:
        """When enough was done in one transaction, the rest is left for the next."""
        digests = [await self.blob_at(bytes([number]), 10.0) for number in range(3)]
        verdicts, taken = await self.collect(*digests, enough_after=2)
        self.assertEqual(([Verdict.REMOVED] * 2, digests[:2]), (verdicts, taken))
        self.assertEqual({digests[2]}, await self.dead())

    async def test_disk_refuses(self) -> None:
        """A blob whose bytes cannot be moved stays on record; the others go."""
        bad, good = await self.blob_at(b"bad", 10.0), await self.blob_at(b"good", 10.0)

        def take(digest: Digest) -> Callable[[], None]:
            if digest == bad:
                raise StoreUnavailable("no")
            return lambda: None

        verdicts = await self.records.collect_blobs([bad, good], NEVER, take=take, is_enough=lambda: False)
        self.assertEqual([Verdict.FAILED, Verdict.REMOVED], verdicts)
        self.assertEqual({bad}, await self.dead())

    async def test_settled_together(self) -> None:
        """All bytes are moved and settled at once, and before that no record goes."""
        digests = [await self.blob_at(bytes([number]), 10.0) for number in range(3)]
        kept, events = await self.blob_at(b"young", 150.0), list[str]()

        def take(digest: Digest) -> Callable[[], None]:
            events.append("move")
            return lambda: None

        def settle(moved: Sequence[Digest]) -> None:
            self.assertEqual(digests, list(moved))
            events.append("settle")

        verdicts = await self.records.collect_blobs(
            [*digests, kept], NEVER, take=take, settle=settle, is_enough=lambda: False
        )
        self.assertEqual([Verdict.REMOVED] * 3 + [Verdict.KEPT], verdicts)
        self.assertEqual(["move"] * 3 + ["settle"], events)

    async def test_not_settled(self) -> None:
        """When the moves cannot be made durable, all are undone and every blob stays on record."""
        digests = [await self.blob_at(bytes([number]), 10.0) for number in range(2)]
        back: list[Digest] = []

        def take(digest: Digest) -> Callable[[], None]:
            return lambda: back.append(digest)

        def settle(moved: Sequence[Digest]) -> None:
            raise StoreUnavailable("no")

        verdicts = await self.records.collect_blobs(
            digests, NEVER, take=take, settle=settle, is_enough=lambda: False
        )
        self.assertEqual([Verdict.FAILED] * 2, verdicts)
        self.assertEqual(set(digests), set(back))
        self.assertEqual(set(digests), await self.dead())

    async def test_newest(self) -> None:
        """The newest blobs come first, without those in quarantine."""
        digests = [await self.blob_at(bytes([number]), 10.0 + number) for number in range(4)]
        await self.records.quarantine_blob(digests[3], take=lambda digest: lambda: None)
        newest = [blob.digest for blob in await self.records.newest_blobs(2)]
        self.assertEqual([digests[2], digests[1]], newest)

    async def test_dangling(self) -> None:
        """A manifest whose layer was taken away is told of; layers in quarantine or never pushed are not."""
        lost, bad = await self.blob_at(b"lost", 10.0), await self.blob_at(b"bad!", 10.0)
        foreign = Digest.of(b"foreign")
        media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        content = json.dumps({"layers": [{"mediaType": media_type, "digest": str(foreign)}]}).encode()
        references = [
            ContentReference(ReferenceKind.LAYER, digest, 4, required=digest != foreign)
            for digest in (lost, bad, foreign)
        ]
        references.append(ContentReference(ReferenceKind.CHILD, Digest.of(b"child"), 4, required=False))
        manifest = Digest.of(content)
        new = NewManifest(HERE, manifest, "application/json", content, tuple(references))
        await self.records.put_manifest(new, [], lambda: None, may_overwrite=True, now=10.0)
        self.assertEqual([], await self.records.dangling_references())
        await self.records.quarantine_blob(bad, take=lambda digest: lambda: None)
        self.assertEqual([], await self.records.dangling_references())
        await self.records.unlink_blob(HERE, lost, by="ann", now=20.0)
        expected = [f"{HERE}@{manifest} lacks its layer {lost}"]
        self.assertEqual(expected, await self.records.dangling_references())

    async def test_orphan(self) -> None:
        """Only bytes that no blob is recorded for are orphans; only recorded ones come back."""
        known, unknown = await self.blob_at(b"known", 10.0), Digest.of(b"unknown")
        calls: list[Digest] = []

        def take(digest: Digest) -> Callable[[], None]:
            calls.append(digest)
            return lambda: None

        self.assertEqual([unknown], await self.records.unknown_content([known, unknown]))
        verdicts = await self.records.collect_orphans([known, unknown], take=take, is_enough=lambda: False)
        self.assertEqual([Verdict.KEPT, Verdict.REMOVED], verdicts)
        self.assertEqual([unknown], calls)
        for digest, is_recorded in ((known, True), (unknown, False)):
            back = await self.records.restore_content(digest, put_back=lambda: None)
            self.assertEqual(is_recorded, back)

    async def test_unrecorded_but_named(self) -> None:
        """Bytes that a manifest needs, or is, are no orphans even where their own record is lost."""
        layer = Digest.of(b"laye")
        manifest = await self.manifest_at(b"m", 10.0, layer=(layer,))
        self.assertEqual([], await self.records.unknown_content([layer, manifest]))
        verdicts = await self.records.collect_orphans(
            [layer, manifest], take=lambda _: lambda: None, is_enough=lambda: False
        )
        self.assertEqual([Verdict.KEPT, Verdict.KEPT], verdicts)

    async def test_orphans_end_early(self) -> None:
        """Orphans are moved and settled together, and the rest is left when enough was done."""
        digests = [Digest.of(bytes([number])) for number in range(3)]
        events: list[object] = []

        def take(digest: Digest) -> Callable[[], None]:
            events.append(digest)
            return lambda: None

        verdicts = await self.records.collect_orphans(
            digests,
            take=take,
            is_enough=lambda: len(events) == 2,
            settle=lambda moved: events.append(list(moved)),
        )
        self.assertEqual([Verdict.REMOVED] * 2, verdicts)
        self.assertEqual([*digests[:2], digests[:2]], events)

    async def test_orphans_and_the_disk(self) -> None:
        """An orphan that cannot be moved stays, and so do all when the moves cannot be made durable."""
        bad, good = Digest.of(b"bad"), Digest.of(b"good")
        back: list[Digest] = []

        def take(digest: Digest) -> Callable[[], None]:
            if digest == bad:
                raise StoreUnavailable("no")
            return lambda: back.append(digest)

        def settle(moved: Sequence[Digest]) -> None:
            self.assertEqual([good], list(moved))
            raise StoreUnavailable("no")

        collect = partial(self.records.collect_orphans, [bad, good], take=take, is_enough=lambda: False)
        self.assertEqual([Verdict.FAILED, Verdict.REMOVED], await collect())
        self.assertEqual([], back)
        self.assertEqual([Verdict.FAILED] * 2, await collect(settle=settle))
        self.assertEqual([good], back)

    async def collect_manifest(self, digest: Digest) -> bool:
        """Tell whether an untagged manifest goes; a dry run says the same before."""
        gone = [
            await self.records.collect_manifest(
                HERE, digest, before=100.0, now=200.0, by=":gc", dry_run=dry_run
            )
            for dry_run in (True, False)
        ]
        self.assertEqual(gone[0], gone[1])
        return gone[1]

    async def test_untagged(self) -> None:
        """Untagged manifests are listed in pages, and go with their names."""
        first, second = await self.manifest_at(b"1", 10.0), await self.manifest_at(b"2", 10.0)
        await self.manifest_at(b"3", 10.0, "tagged")
        await self.manifest_at(b"4", 150.0)
        found: list[UntaggedManifest] = []
        page = await self.records.untagged_manifests(100.0, None, 1)
        while page:
            found += page
            page = await self.records.untagged_manifests(100.0, page[-1], 1)
        self.assertEqual(sorted([first, second]), [item.digest for item in found])
        self.assertTrue(await self.collect_manifest(first))
        self.assertFalse(await self.records.manifest(HERE, first))
        self.assertTrue(await self.records.manifest(HERE, second))

    async def test_untagged_lately(self) -> None:
        """A manifest lives for its time after it lost its tag, however long ago it was pushed."""
        moved = await self.manifest_at(b"moved", 10.0, "a")
        removed = await self.manifest_at(b"removed", 11.0, "b")
        early = await self.manifest_at(b"early", 12.0, "c")
        await self.manifest_at(b"next", 20.0, "c")
        await self.manifest_at(b"new", 150.0, "a")
        await self.records.delete_tag(HERE, Tag("b"), by="", now=150.0)
        self.assertFalse(await self.collect_manifest(moved))
        self.assertFalse(await self.collect_manifest(removed))
        self.assertTrue(await self.collect_manifest(early))

    async def test_children_and_referrers(self) -> None:
        """A kept index keeps its children; a kept image keeps what refers to it, and is kept by it."""
        child = await self.manifest_at(b"child", 10.0)
        inner = await self.manifest_at(b"inner", 10.0, child=(child,))
        index = await self.manifest_at(b"index", 10.0, "v1", child=(inner,))
        signature = await self.manifest_at(b"signature", 10.0, subject=(index,))
        of_signature = await self.manifest_at(b"of the signature", 10.0, subject=(signature,))
        subject = await self.manifest_at(b"subject", 10.0)
        await self.manifest_at(b"tagged referrer", 10.0, "sig", subject=(subject,))
        for kept in (child, inner, signature, of_signature, subject):
            self.assertFalse(await self.collect_manifest(kept))
        await self.records.delete_manifest(HERE, index, by="", now=50.0)
        for gone in (child, inner, signature, of_signature):
            self.assertTrue(await self.collect_manifest(gone))

    async def test_quarantine(self) -> None:
        """A blob in quarantine counts as missing everywhere until it is pushed again."""
        bad, good = await self.blob_at(b"bad", 10.0), await self.blob_at(b"good", 10.0)
        taken: list[Digest] = []

        def take(digest: Digest) -> Callable[[], None]:
            taken.append(digest)
            return lambda: None

        self.assertTrue(await self.records.quarantine_blob(bad, take=take))
        self.assertFalse(await self.records.quarantine_blob(bad, take=take))
        self.assertEqual([bad], taken)
        self.assertIsNone(await self.records.blob(HERE, bad))
        self.assertFalse(await self.records.mount_blob(HERE, ELSEWHERE, bad, now=10.0))
        self.assertEqual([], await self.records.repositories_with_blob(bad, "", 9))
        self.assertFalse(await self.records.restore_content(bad, put_back=lambda: None))
        expected = sorted([RecordedBlob(bad, 3, True), RecordedBlob(good, 4, False)], key=_by_digest)
        self.assertEqual(expected, await self.records.recorded_blobs("", 9))
        self.assertEqual(expected[1:], await self.records.recorded_blobs(str(expected[0].digest), 9))
        await self.blob_at(b"bad", 150.0)
        self.assertIsNotNone(await self.records.blob(HERE, bad))

    async def test_last_collection(self) -> None:
        """The records remember when garbage was last collected."""
        self.assertIsNone(await self.records.last_collection())
        for now in (5.0, 4.0):
            await self.records.note_collection(now)
            self.assertEqual(now, await self.records.last_collection())


def _by_digest(blob: RecordedBlob) -> str:
    return str(blob.digest)
