"""Manifests, mounts, listings and removals."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    DigestMismatch,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NameUnknown,
    TagInvalid,
    Unsupported,
)
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.pagination import Page
from dockreg_tx.registry.push import ManifestRules
from tests.registry.world import OCI_INDEX, OCI_MANIFEST, REPOSITORY, World, error_of

OTHER = RepositoryName("team/other")


def everyone(action: str, repository: RepositoryName) -> bool:
    """Allow all."""
    return True


def nobody(action: str, repository: RepositoryName) -> bool:
    """Allow nothing."""
    return False


class ManifestTests(TestCase):
    """Pushing and pulling manifests."""

    async def test_bytes_come_back_verbatim(self) -> None:
        """A manifest is served as pushed, by tag and by digest, however it is spaced."""
        world = World()
        content = await world.image(b"layer") + b"\n  "
        digest = await world.put("v1", content)
        self.assertEqual(Digest.of(content), digest)
        for reference in ("v1", str(digest)):
            record = await world.pull.find_manifest(REPOSITORY, reference)
            self.assertEqual(OCI_MANIFEST, record.media_type)
            self.assertEqual(content, await world.pull.manifest_content(record))

    async def test_lost_bytes(self) -> None:
        """Who asks for content whose bytes are gone, or cut, is told so with HEAD, too, and pushes again."""
        world = World()
        document = json.loads(await world.image(b"layer"))
        document["annotations"] = {"k": "v" * 200_000}
        content = json.dumps(document).encode()
        await world.put("v1", content)
        for digest in (Digest.of(b"layer"), Digest.of(content)):
            for left in (world.blobs.contents[digest][:-1], None):
                world.blobs.contents.pop(digest)
                if left is not None:
                    world.blobs.contents[digest] = left
                if digest == Digest.of(content):
                    await error_of(world.pull.find_manifest(REPOSITORY, "v1"), ManifestUnknown)
                else:
                    await error_of(world.pull.promise_blob(REPOSITORY, digest), BlobUnknown)
        await world.push_blob(b"layer")
        await world.put("v1", content)
        await world.pull.promise_blob(REPOSITORY, Digest.of(b"layer"))
        await world.pull.find_manifest(REPOSITORY, "v1")

    async def test_large_manifest(self) -> None:
        """A manifest beyond what its row takes comes back whole."""
        world = World()
        document = json.loads(await world.image(b"layer"))
        document["annotations"] = {"k": "v" * 200_000}
        content = json.dumps(document).encode()
        await world.put("v1", content)
        record = await world.pull.find_manifest(REPOSITORY, "v1")
        self.assertEqual(content, await world.pull.manifest_content(record))

    async def test_missing_layer(self) -> None:
        """A manifest that names content this repository does not hold is refused with each digest."""
        world = World()
        content = await world.image(b"layer")
        missing = Digest.of(b"layer")
        await world.remove.blob(REPOSITORY, missing, by="ann")
        error = await error_of((world.put("v1", content)), ManifestBlobUnknown)
        self.assertEqual((str(missing),), error.digests)

    async def test_missing_layer_allowed(self) -> None:
        """By setting, layers may be missing."""
        world = World(ManifestRules(allow_missing_layers=True))
        content = await world.image(b"layer")
        await world.remove.blob(REPOSITORY, Digest.of(b"layer"), by="ann")
        await world.put("v1", content)

    async def test_index_children(self) -> None:
        """Children of an index may be missing unless the settings deny it; then manifest or blob will do."""
        blob = b"a cached layer"
        for allow in (True, False):
            world = World(ManifestRules(allow_missing_children=allow))
            image = await world.image(b"layer")
            child = await world.put("v1", image)
            layer = await world.push_blob(blob)
            entries = [(child, len(image), OCI_MANIFEST), (layer, len(blob), "application/x")]
            await world.put("index", _index(entries), content_type=OCI_INDEX)
            sparse = _index([*entries, (Digest.of(b"absent"), 6, OCI_MANIFEST)])
            pushing = Deferred.fromCoroutine(world.put("sparse", sparse, content_type=OCI_INDEX))
            if allow:
                await pushing
            else:
                await error_of(pushing, ManifestBlobUnknown)

    async def test_references_are_checked(self) -> None:
        """Bad references are refused before anything is stored."""
        world = World()
        content = await world.image(b"layer")
        for reference, error in (
            (".bad", TagInvalid),
            ("sha256:bad", DigestInvalid),
            ("sha384:" + "a" * 96, DigestInvalid),
            (str(Digest.of(content + b" ")), DigestMismatch),
        ):
            await error_of((world.put(reference, content)), error)
        await error_of((world.put("v1", content, extra_tags=("v2",))), Unsupported)
        await error_of((world.put("v1", b"[]")), ManifestInvalid)

    async def test_limit(self) -> None:
        """A manifest over the limit is refused, one at the limit taken."""
        content = await World().image(b"layer")
        world = World(ManifestRules(limit_bytes=len(content)))
        await world.image(b"layer")
        await world.put("v1", content)
        await error_of((world.put("v1", content + b" ")), ManifestTooLarge)

    async def test_tags_with_a_digest(self) -> None:
        """A push by digest may set tags, also for sha512."""
        world = World()
        content = await world.image(b"layer")
        digest = Digest.of(content, "sha512")
        await world.put(str(digest), content, extra_tags=("a", "b", "a"))
        self.assertEqual(["a", "b"], (await world.browse.tags(REPOSITORY, Page(None, ""))).names)
        self.assertEqual(digest, (await world.pull.find_manifest(REPOSITORY, "b")).digest)

    async def test_moving_a_tag_needs_the_right(self) -> None:
        """Who may only create cannot move a tag, but may set a new one and repeat a push."""
        world = World()
        first, second = await world.image(b"one"), await world.image(b"two")
        await world.put("latest", first, may_overwrite=False)
        await world.put("latest", first, may_overwrite=False)
        await error_of((world.put("latest", second, may_overwrite=False)), Denied)
        await world.put("latest", second)
        self.assertEqual(Digest.of(second), (await world.pull.find_manifest(REPOSITORY, "latest")).digest)

    async def test_unknown(self) -> None:
        """Unknown repository, tag and digest each have their own error; impossible tags are unknown."""
        world = World()
        find = world.pull.find_manifest
        await error_of((find(REPOSITORY, "v1")), NameUnknown)
        await world.put("v1", await world.image(b"layer"))
        for reference in ("v2", ".bad", str(Digest.of(b"x"))):
            await error_of((find(REPOSITORY, reference)), ManifestUnknown)
        await error_of((find(REPOSITORY, "sha256:bad")), DigestInvalid)


class MountTests(TestCase):
    """Mounting blobs across repositories."""

    async def test_mount(self) -> None:
        """A blob that the caller may pull is linked, without its bytes."""
        world = World()
        digest = await world.push_blob(b"abc")
        mounted = await world.push.mount_blob(OTHER, str(digest), str(REPOSITORY), may=everyone)
        self.assertEqual(digest, mounted)
        self.assertEqual(3, (await world.pull.find_blob(OTHER, digest)).size_bytes)

    async def test_mount_of_lost_bytes(self) -> None:
        """What has lost its bytes is not mounted; the upload that follows heals it."""
        world = World()
        digest = await world.push_blob(b"abc")
        del world.blobs.contents[digest]
        for source in (str(REPOSITORY), None):
            self.assertIsNone(await world.push.mount_blob(OTHER, str(digest), source, may=everyone))
        await world.push_blob(b"abc", OTHER)
        self.assertEqual(digest, await world.push.mount_blob(REPOSITORY, str(digest), None, may=everyone))

    async def test_mount_without_source(self) -> None:
        """Without a source, one is found among what the caller may pull."""
        world = World()
        digest = await world.push_blob(b"abc")
        self.assertIsNone(await world.push.mount_blob(OTHER, str(digest), None, may=nobody))
        self.assertEqual(digest, await world.push.mount_blob(OTHER, str(digest), None, may=everyone))

    async def test_no_mount(self) -> None:
        """No right, no such blob, no such source, nonsense: no mount and no error."""
        world = World()
        digest = str(await world.push_blob(b"abc"))
        mount = world.push.mount_blob
        self.assertIsNone(await mount(OTHER, digest, str(REPOSITORY), may=nobody))
        self.assertIsNone(await mount(OTHER, str(Digest.of(b"x")), str(REPOSITORY), may=everyone))
        self.assertIsNone(await mount(OTHER, digest, "no/where", may=everyone))
        self.assertIsNone(await mount(OTHER, digest, "NOT VALID", may=everyone))
        self.assertIsNone(await mount(OTHER, "sha256:bad", str(REPOSITORY), may=everyone))
        await error_of((world.pull.find_blob(OTHER, Digest.parse(digest))), BlobUnknown)


class ListingTests(TestCase):
    """Pages."""

    async def test_tags(self) -> None:
        """Tags come in byte order, in pages that end exactly."""
        world = World()
        content = await world.image(b"layer")
        for tag in ("b", "a", "B", "_x"):
            await world.put(tag, content)
        tags = world.browse.tags
        self.assertEqual(["B", "_x", "a", "b"], (await tags(REPOSITORY, Page(None, ""))).names)
        first = await tags(REPOSITORY, Page(2, ""))
        self.assertEqual((["B", "_x"], True), (first.names, first.has_more))
        last = await tags(REPOSITORY, Page(2, "_x"))
        self.assertEqual((["a", "b"], False), (last.names, last.has_more))
        none = await tags(REPOSITORY, Page(0, ""))
        self.assertEqual(([], False), (none.names, none.has_more))

    async def test_tags_of_nothing(self) -> None:
        """An unknown repository has no list; a known one without tags an empty one."""
        world = World()
        await error_of((world.browse.tags(REPOSITORY, Page(None, ""))), NameUnknown)
        await world.push_blob(b"abc")
        self.assertEqual([], (await world.browse.tags(REPOSITORY, Page(None, ""))).names)

    async def test_catalog_shows_what_may_be_pulled(self) -> None:
        """The catalog skips what the caller may not pull, and its pages stay full."""
        world = World()
        for number in range(10):
            await world.push_blob(b"abc", RepositoryName(f"r{number}"))

        def even(action: str, repository: RepositoryName) -> bool:
            return action == "pull" and int(str(repository)[1:]) % 2 == 0

        first = await world.browse.catalog(Page(3, ""), may=even)
        self.assertEqual((["r0", "r2", "r4"], True), (first.names, first.has_more))
        last = await world.browse.catalog(Page(3, "r4"), may=even)
        self.assertEqual((["r6", "r8"], False), (last.names, last.has_more))


class RemoveTests(TestCase):
    """Deleting."""

    async def test_tag_and_manifest(self) -> None:
        """Deleting a tag keeps the manifest; deleting the manifest takes its other tags."""
        world = World()
        content = await world.image(b"layer")
        digest = await world.put("a", content)
        await world.put("b", content)
        await world.remove.manifest(REPOSITORY, "a", by="ann")
        self.assertEqual(["b"], (await world.browse.tags(REPOSITORY, Page(None, ""))).names)
        await world.remove.manifest(REPOSITORY, str(digest), by="ann")
        self.assertEqual([], (await world.browse.tags(REPOSITORY, Page(None, ""))).names)
        for reference in ("b", str(digest), ".bad"):
            await error_of(
                (world.remove.manifest(REPOSITORY, reference, by="ann")),
                ManifestUnknown,
            )
        await error_of((world.remove.manifest(OTHER, "a", by="ann")), NameUnknown)

    async def test_blob_of_one_repository(self) -> None:
        """Deleting a blob takes it from this repository only."""
        world = World()
        digest = await world.push_blob(b"abc")
        await world.push_blob(b"abc", OTHER)
        await world.remove.blob(REPOSITORY, digest, by="ann")
        await error_of((world.pull.find_blob(REPOSITORY, digest)), BlobUnknown)
        await world.pull.find_blob(OTHER, digest)
        await error_of((world.remove.blob(REPOSITORY, digest, by="ann")), BlobUnknown)


def _index(entries: list[tuple[Digest, int, str]]) -> bytes:
    manifests = [
        {"mediaType": media_type, "digest": str(digest), "size": size} for digest, size, media_type in entries
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
