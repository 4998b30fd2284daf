"""What every record backend promises; run by the memory fake and by SQLite."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import (
    BlobUploadUnknown,
    Denied,
    ManifestBlobUnknown,
    RegistryError,
    SizeInvalid,
    StorageFull,
)
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import (
    BlobRecord,
    ContentReference,
    ManifestRecord,
    NewManifest,
    Records,
    ReferenceKind,
    ReferrerRecord,
    UploadRecord,
)
from tests.contracts.accounts_contract import AccountRecordsContract
from tests.contracts.collection_contract import CollectRecordsContract
from tests.contracts.tokens_contract import TokenRecordsContract

E = TypeVar("E", bound=RegistryError)

APP = RepositoryName("team/app")
OTHER = RepositoryName("team/other")
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = Digest.of(b"config")
LAYER = Digest.of(b"layer")
LATEST = Tag("latest")


def nothing() -> None:
    """Ensure that needs to do nothing."""


def upload(upload_id: str = "u1", **changes: Any) -> UploadRecord:
    """Return an upload session that differs from the usual one by ``changes``."""
    return replace(UploadRecord(upload_id, APP, "alice", 0, 10.0, 10.0, "sha256"), **changes)


def image(content: bytes = b"{}", **changes: Any) -> NewManifest:
    """Return a manifest that needs nothing, unless ``changes`` say so."""
    return replace(NewManifest(APP, Digest.of(content), MEDIA_TYPE, content), **changes)


def needs(kind: ReferenceKind, content: bytes, size_bytes: int | None = None) -> ContentReference:
    """Return a required reference to ``content``."""
    size_bytes = len(content) if size_bytes is None else size_bytes
    return ContentReference(kind, Digest.of(content), size_bytes, required=True)


class RecordsContract(AccountRecordsContract, CollectRecordsContract, TokenRecordsContract):
    """Mixed into a ``TestCase`` whose ``records`` are fresh."""

    records: Records

    async def push_blob(self, content: bytes, repository: RepositoryName = APP) -> Digest:
        """Commit a blob and return its digest."""
        digest = Digest.of(content)
        await self.records.commit_blob(repository, digest, len(content), nothing, upload_id=None, now=1.0)
        return digest

    async def put(
        self, manifest: NewManifest, *tags: Tag, may_overwrite: bool = True, now: float = 1.0
    ) -> None:
        """Put a manifest whose bytes are in place."""
        await self.records.put_manifest(manifest, tags, nothing, may_overwrite=may_overwrite, now=now)

    async def refused(self, kind: type[E], coroutine: Any) -> E:
        """Return the error that the coroutine ends with."""
        return await self.assertFailure(Deferred.fromCoroutine(coroutine), kind)

    # --- blobs

    async def test_blob_is_seen_where_it_was_pushed_alone(self) -> None:
        """A blob can be read in the repository that it was pushed to, and in no other."""
        digest = await self.push_blob(b"layer")
        self.assertEqual(BlobRecord(digest, 5), await self.records.blob(APP, digest))
        self.assertIsNone(await self.records.blob(OTHER, digest))

    async def test_commit_ends_the_session(self) -> None:
        """Committing a blob ends its upload session, and no other."""
        await self.records.begin_upload(upload("u1"))
        await self.records.begin_upload(upload("u2"))
        await self.records.commit_blob(APP, LAYER, 5, nothing, upload_id="u1", now=1.0)
        self.assertIsNone(await self.records.upload("u1"))
        self.assertEqual(upload("u2"), await self.records.upload("u2"))

    async def test_commit_twice(self) -> None:
        """Pushing a blob again is no error."""
        await self.push_blob(b"layer")
        await self.push_blob(b"layer")
        self.assertEqual(BlobRecord(LAYER, 5), await self.records.blob(APP, LAYER))

    async def test_commit_ensures_first(self) -> None:
        """The bytes are put in place before the rows; if that fails, nothing is recorded."""

        def full() -> None:
            raise StorageFull

        await self.records.begin_upload(upload())
        commit = self.records.commit_blob(APP, LAYER, 5, full, upload_id="u1", now=1.0)
        await self.refused(StorageFull, commit)
        self.assertIsNone(await self.records.blob(APP, LAYER))
        self.assertFalse(await self.records.repository_exists(APP))
        self.assertEqual(upload(), await self.records.upload("u1"))

    async def test_repository_exists_from_its_first_content(self) -> None:
        """An open upload does not make a repository; a blob or a manifest does."""
        await self.records.begin_upload(upload())
        self.assertFalse(await self.records.repository_exists(APP))
        await self.push_blob(b"layer")
        await self.put(image(repository=OTHER))
        self.assertTrue(await self.records.repository_exists(APP))
        self.assertTrue(await self.records.repository_exists(OTHER))

    async def test_mount(self) -> None:
        """A mounted blob is seen in the target, which exists from then on."""
        await self.push_blob(b"layer")
        self.assertTrue(await self.records.mount_blob(APP, OTHER, LAYER, now=2.0))
        self.assertEqual(BlobRecord(LAYER, 5), await self.records.blob(OTHER, LAYER))
        self.assertTrue(await self.records.mount_blob(APP, OTHER, LAYER, now=3.0))

    async def test_mount_needs_the_source(self) -> None:
        """A blob that the source does not hold is not mounted, though others hold it."""
        await self.push_blob(b"layer")
        empty = RepositoryName("empty")
        self.assertFalse(await self.records.mount_blob(empty, OTHER, LAYER, now=2.0))
        self.assertIsNone(await self.records.blob(OTHER, LAYER))
        self.assertFalse(await self.records.repository_exists(OTHER))

    async def test_unlink(self) -> None:
        """A blob is taken from one repository alone, once."""
        await self.push_blob(b"layer")
        await self.push_blob(b"layer", OTHER)
        self.assertTrue(await self.records.unlink_blob(APP, LAYER, by="alice", now=2.0))
        self.assertFalse(await self.records.unlink_blob(APP, LAYER, by="alice", now=2.0))
        self.assertIsNone(await self.records.blob(APP, LAYER))
        self.assertEqual(BlobRecord(LAYER, 5), await self.records.blob(OTHER, LAYER))
        self.assertTrue(await self.records.repository_exists(APP))

    # --- manifests and tags

    async def test_manifest_by_tag_and_digest(self) -> None:
        """A manifest comes back verbatim by its digest and by each of its tags."""
        manifest = image(b'{"a": 1}')
        await self.put(manifest, LATEST, Tag("v1"))
        expected = ManifestRecord(manifest.digest, MEDIA_TYPE, 8, b'{"a": 1}')
        for reference in (manifest.digest, LATEST, Tag("v1")):
            self.assertEqual(expected, await self.records.manifest(APP, reference))
        self.assertIsNone(await self.records.manifest(APP, Tag("v2")))
        self.assertIsNone(await self.records.manifest(OTHER, manifest.digest))

    async def test_manifest_is_no_blob(self) -> None:
        """The bytes of a manifest cannot be read as a blob of the repository."""
        await self.put(image(), LATEST)
        self.assertIsNone(await self.records.blob(APP, image().digest))
        self.assertEqual([], await self.records.repositories_with_blob(image().digest, "", 10))

    async def test_manifest_with_sha512(self) -> None:
        """Digests of every supported algorithm are kept."""
        digest = Digest.of(b"{}", "sha512")
        await self.put(image(digest=digest), LATEST)
        found = await self.records.manifest(APP, LATEST)
        self.assertEqual(digest, found and found.digest)

    async def test_long_manifest(self) -> None:
        """A manifest above 64 KiB comes without its content, one of 64 KiB with it."""
        for length, kept in ((64 * 1024, True), (64 * 1024 + 1, False)):
            content = b"x" * length
            await self.put(image(content), LATEST)
            expected = ManifestRecord(Digest.of(content), MEDIA_TYPE, length, content if kept else None)
            self.assertEqual(expected, await self.records.manifest(APP, LATEST))

    async def test_push_again(self) -> None:
        """The last media type of a manifest wins, and its tags stay."""
        await self.put(image(), LATEST)
        await self.put(image(media_type="application/x-other", annotations={"k": "v"}))
        found = await self.records.manifest(APP, LATEST)
        self.assertEqual("application/x-other", found and found.media_type)

    async def test_tag_moves(self) -> None:
        """A tag moves to the manifest pushed last; the one before stays under its digest."""
        await self.put(image(b"1"), LATEST)
        await self.put(image(b"2"), LATEST)
        found = await self.records.manifest(APP, LATEST)
        self.assertEqual(b"2", found and found.content)
        self.assertIsNotNone(await self.records.manifest(APP, Digest.of(b"1")))

    async def test_tag_may_not_move(self) -> None:
        """Who may not overwrite cannot move a tag, and then nothing of the push stays."""
        await self.put(image(b"1"), LATEST)
        error = await self.refused(Denied, self.put(image(b"2"), Tag("new"), LATEST, may_overwrite=False))
        self.assertIn("latest", error.message)
        self.assertEqual(["latest"], await self.records.tags(APP, "", None))
        self.assertIsNone(await self.records.manifest(APP, Digest.of(b"2")))

    async def test_same_tag_again_is_no_overwriting(self) -> None:
        """Who may not overwrite can push the same again, and new tags."""
        await self.put(image(), LATEST, may_overwrite=False)
        await self.put(image(), LATEST, Tag("v1"), may_overwrite=False)
        self.assertEqual(["latest", "v1"], await self.records.tags(APP, "", None))

    async def test_manifest_needs_its_blobs(self) -> None:
        """A push fails and names each missing digest once, though other repositories hold them."""
        await self.push_blob(b"config")
        await self.push_blob(b"layer", OTHER)
        layer = needs(ReferenceKind.LAYER, b"layer")
        references = (
            needs(ReferenceKind.CONFIG, b"config"),
            layer,
            layer,
            needs(ReferenceKind.LAYER, b"gone"),
        )
        error = await self.refused(ManifestBlobUnknown, self.put(image(references=references), LATEST))
        self.assertEqual((str(LAYER), str(Digest.of(b"gone"))), error.digests)
        self.assertIsNone(await self.records.manifest(APP, LATEST))

    async def test_manifest_with_its_blobs(self) -> None:
        """A push succeeds when the repository holds all that is required; the rest may be missing."""
        await self.push_blob(b"config")
        await self.push_blob(b"layer")
        foreign = replace(needs(ReferenceKind.LAYER, b"foreign"), required=False)
        subject = replace(needs(ReferenceKind.SUBJECT, b"subject"), required=False)
        layer = needs(ReferenceKind.LAYER, b"layer")
        references = (needs(ReferenceKind.CONFIG, b"config"), layer, layer, foreign, subject)
        await self.put(image(references=references, artifact_type="a/b"), LATEST)
        await self.put(image(references=references, artifact_type="a/b"), LATEST)
        self.assertIsNotNone(await self.records.manifest(APP, LATEST))

    async def test_manifest_bytes_do_not_serve_as_layer(self) -> None:
        """Content that the repository holds as a manifest alone is missing as a layer."""
        await self.put(image(b"layer"))
        references = (needs(ReferenceKind.LAYER, b"layer"),)
        await self.refused(ManifestBlobUnknown, self.put(image(references=references)))

    async def test_wrong_size(self) -> None:
        """A config or layer whose size is not that of the blob is refused."""
        await self.push_blob(b"layer")
        for kind in (ReferenceKind.CONFIG, ReferenceKind.LAYER):
            manifest = image(references=(needs(kind, b"layer", 6),))
            error = await self.refused(SizeInvalid, self.put(manifest))
            self.assertEqual({"digest": str(LAYER), "size": 6}, error.detail)

    async def test_children(self) -> None:
        """A required child may be a manifest or a blob of the repository; else it is missing."""
        child = needs(ReferenceKind.CHILD, b"child")
        index = image(b"index", references=(child,))
        await self.put(image(b"child", repository=OTHER))
        error = await self.refused(ManifestBlobUnknown, self.put(index))
        self.assertEqual((str(child.digest),), error.digests)
        await self.put(image(b"child"))
        await self.put(index)
        await self.push_blob(b"blob child")
        await self.put(image(b"index 2", references=(needs(ReferenceKind.CHILD, b"blob child"),)))
        self.assertIsNotNone(await self.records.manifest(APP, Digest.of(b"index 2")))

    async def test_manifest_ensures_first(self) -> None:
        """When the bytes cannot be put in place, the manifest is not recorded."""

        def full() -> None:
            raise StorageFull

        put = self.records.put_manifest(image(), [LATEST], full, may_overwrite=True, now=1.0)
        await self.refused(StorageFull, put)
        self.assertFalse(await self.records.repository_exists(APP))

    async def test_delete_tag(self) -> None:
        """Deleting a tag keeps its manifest and other tags; the second time there is none."""
        await self.put(image(), LATEST, Tag("v1"))
        self.assertTrue(await self.records.delete_tag(APP, LATEST, by="alice", now=2.0))
        self.assertFalse(await self.records.delete_tag(APP, LATEST, by="alice", now=2.0))
        self.assertEqual(["v1"], await self.records.tags(APP, "", None))
        self.assertIsNotNone(await self.records.manifest(APP, image().digest))

    async def test_delete_manifest(self) -> None:
        """Deleting a manifest removes all of its tags, and no others."""
        await self.put(image(b"1"), LATEST, Tag("v1"))
        await self.put(image(b"2"), Tag("v2"))
        self.assertTrue(await self.records.delete_manifest(APP, Digest.of(b"1"), by="alice", now=2.0))
        self.assertFalse(await self.records.delete_manifest(APP, Digest.of(b"1"), by="alice", now=2.0))
        self.assertEqual(["v2"], await self.records.tags(APP, "", None))
        self.assertIsNone(await self.records.manifest(APP, Digest.of(b"1")))

    async def test_delete_in_unknown_repository(self) -> None:
        """Removals in a repository that nobody knows find nothing."""
        self.assertFalse(await self.records.delete_tag(APP, LATEST, by="", now=2.0))
        self.assertFalse(await self.records.delete_manifest(APP, LAYER, by="", now=2.0))
        self.assertFalse(await self.records.unlink_blob(APP, LAYER, by="", now=2.0))
        self.assertFalse(await self.records.remove_repository(APP, by="", now=2.0))

    async def test_remove_repository(self) -> None:
        """Removing a repository removes everything of it and nothing of others."""
        for repository in (APP, OTHER):
            await self.push_blob(b"layer", repository)
            layer = needs(ReferenceKind.LAYER, b"layer")
            await self.put(image(repository=repository, references=(layer,)), LATEST)
            await self.records.begin_upload(upload(repository.text, repository=repository))
        self.assertTrue(await self.records.remove_repository(APP, by="alice", now=2.0))
        self.assertFalse(await self.records.repository_exists(APP))
        self.assertIsNone(await self.records.blob(APP, LAYER))
        self.assertIsNone(await self.records.manifest(APP, LATEST))
        self.assertIsNone(await self.records.upload(APP.text))
        self.assertEqual([], await self.records.tags(APP, "", None))
        self.assertTrue(await self.records.repository_exists(OTHER))
        self.assertIsNotNone(await self.records.manifest(OTHER, LATEST))
        self.assertIsNotNone(await self.records.upload(OTHER.text))
        await self.push_blob(b"config")
        self.assertEqual([], await self.records.tags(APP, "", None))

    # --- listings

    async def test_tags_in_byte_order(self) -> None:
        """Tags are sorted by their bytes: capitals first, '-' and '.' before digits and letters."""
        tags = ["b", "a-b", "a", "a.b", "ab", "A", "_", "a0", "B", "0"]
        await self.put(image(), *map(Tag, tags))
        expected = sorted(tags, key=str.encode)
        self.assertEqual(expected, await self.records.tags(APP, "", None))
        self.assertEqual(expected[:3], await self.records.tags(APP, "", 3))
        self.assertEqual([], await self.records.tags(APP, "", 0))

    async def test_tags_after(self) -> None:
        """A page begins after a text that need not be a tag."""
        await self.put(image(), Tag("a"), Tag("c"), Tag("e"))
        self.assertEqual(["c", "e"], await self.records.tags(APP, "a", None))
        self.assertEqual(["c"], await self.records.tags(APP, "b", 1))
        self.assertEqual([], await self.records.tags(APP, "e", 5000))
        self.assertEqual([], await self.records.tags(OTHER, "", None))

    async def test_repositories_in_byte_order(self) -> None:
        """Names are sorted by their bytes: '-' before '/', that before letters."""
        for name in ("a/b", "ab", "a-b", "a", "b", "a.b"):
            await self.push_blob(b"layer", RepositoryName(name))
        expected = ["a", "a-b", "a.b", "a/b", "ab", "b"]
        self.assertEqual(expected, await self.records.repositories("", 5000))
        self.assertEqual(["a.b", "a/b"], await self.records.repositories("a-b", 2))
        self.assertEqual(expected, await self.records.repositories_with_blob(LAYER, "", 10))
        self.assertEqual(["ab"], await self.records.repositories_with_blob(LAYER, "a/z", 1))
        self.assertEqual([], await self.records.repositories_with_blob(CONFIG, "", 10))

    # --- upload sessions

    async def test_referrers(self) -> None:
        """Manifests are found by their subject, which need not exist, in order, by page and by type."""
        subject = Digest.of(b"never pushed")
        reference = ContentReference(ReferenceKind.SUBJECT, subject, 12, required=False)
        expected = {}
        for content, artifact_type in ((b"1", "sbom"), (b"2", "signature"), (b"3", "sbom"), (b"4", "")):
            annotations = {"key": artifact_type}
            await self.put(
                image(content, references=(reference,), artifact_type=artifact_type, annotations=annotations)
            )
            digest = Digest.of(content)
            expected[str(digest)] = ReferrerRecord(digest, MEDIA_TYPE, 1, artifact_type, annotations)
        ordered = [expected[digest] for digest in sorted(expected)]
        referrers = self.records.referrers
        self.assertEqual(ordered, await referrers(APP, subject, (), "", 10))
        self.assertEqual(ordered[:2], await referrers(APP, subject, (), "", 2))
        self.assertEqual(ordered[2:], await referrers(APP, subject, (), str(ordered[1].digest), 10))
        boms = [record for record in ordered if record.artifact_type == "sbom"]
        self.assertEqual(boms, await referrers(APP, subject, ("sbom", "x"), "", 10))
        self.assertEqual([], await referrers(OTHER, subject, (), "", 10))
        self.assertEqual([], await referrers(APP, Digest.of(b"1"), (), "", 10))
        await self.records.delete_manifest(APP, ordered[0].digest, by="alice", now=2.0)
        self.assertEqual(ordered[1:], await referrers(APP, subject, (), "", 10))

    async def test_upload_session(self) -> None:
        """A session keeps what was recorded, until it ends."""
        await self.records.begin_upload(upload())
        self.assertTrue(await self.records.set_upload_offset("u1", 2**40, now=20.0))
        expected = upload(offset_bytes=2**40, touched_at=20.0)
        self.assertEqual(expected, await self.records.upload("u1"))
        self.assertTrue(await self.records.end_upload("u1", now=5.0))
        self.assertFalse(await self.records.end_upload("u1", now=5.0))
        self.assertFalse(await self.records.set_upload_offset("u1", 1, now=20.0))
        self.assertIsNone(await self.records.upload("u1"))

    async def test_ended_upload(self) -> None:
        """A session that has ended is known as such until it is forgotten, had it a row or not."""
        await self.records.begin_upload(upload())
        self.assertEqual(upload(), await self.records.begun_upload("u1"))
        self.assertIsNone(await self.records.begun_upload("u2"))
        await self.records.end_upload("u1", now=5.0)
        self.assertFalse(await self.records.end_upload("u2", now=7.0))
        for upload_id in ("u1", "u2"):
            await self.records.begin_upload(upload(upload_id))
            with self.assertRaises(BlobUploadUnknown):
                await self.records.begun_upload(upload_id)
        self.assertEqual([], await self.records.expired_uploads(99.0, 10))
        await self.records.forget_ended_uploads(7.0, 10)
        self.assertIsNone(await self.records.begun_upload("u1"))
        with self.assertRaises(BlobUploadUnknown):
            await self.records.begun_upload("u2")

    async def test_expired_uploads(self) -> None:
        """Sessions that nobody touched come oldest first, up to the limit."""
        for number in (3, 1, 2, 4):
            await self.records.begin_upload(upload(f"u{number}", touched_at=float(number)))
        await self.records.set_upload_offset("u1", 5, now=9.0)
        found = await self.records.expired_uploads(4.0, 10)
        self.assertEqual(["u2", "u3"], [item.id for item in found])
        self.assertEqual(1, len(await self.records.expired_uploads(4.0, 1)))

    async def test_check(self) -> None:
        """A working backend says so by saying nothing."""
        await self.records.check()
