"""What the conformance suite of version 1.1.1 demands beyond its successor."""

from __future__ import annotations

from typing import Any

from tests.integration.case import RegistryTestCase
from tests.integration.docker_client import DockerClient, Reply
from tests.integration.images import OCI_INDEX, OCI_MANIFEST, Content, Image, as_json, image, sha256

UNKNOWN = sha256(b"nobody ever pushed this")
#: The specification's codes, the only ones that its suite takes.
CODES = frozenset(
    (
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "SIZE_INVALID",
        "UNAUTHORIZED",
        "DENIED",
        "UNSUPPORTED",
        "TOOMANYREQUESTS",
    )
)
EMPTY = Content("application/vnd.oci.empty.v1+json", b"{}")


def artifact(kind: str, subject: Content, *, by_config: bool = False) -> Content:
    """Return an artifact's manifest.

    Args:
        kind: its type.
        subject: what it refers to.
        by_config: say the type by the configuration's media type, as it was done before version 1.1.
    """
    config = EMPTY.descriptor if not by_config else {**EMPTY.descriptor, "mediaType": kind}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": [EMPTY.descriptor],
        "subject": subject.descriptor,
        "annotations": {"org.opencontainers.conformance.test": f"{kind} {by_config}"},
    }
    if not by_config:
        document["artifactType"] = kind
    return Content(OCI_MANIFEST, as_json(document))


class LegacyPullTests(RegistryTestCase):
    async def test_invalid_reference(self) -> None:
        """A reference that no tag may be is not found."""
        for method in ("HEAD", "GET"):
            answer = await self.client().manifest("legacy/pull", ".INVALID_MANIFEST_NAME", method)
            self.assertEqual(404, answer.status)

    async def test_unknown_blob(self) -> None:
        """An unknown blob is not found, in a repository that is known."""
        client = self.client()
        await client.push("legacy/pull-blob", "v1", image("legacy pull"))
        for method in ("HEAD", "GET"):
            self.assertEqual(404, (await client.blob("legacy/pull-blob", UNKNOWN, method)).status)

    async def test_get_with_body(self) -> None:
        """A GET with a body and a malformed digest gets 404, or 400 with one of the specified codes."""
        answer = await self.client().ask("GET", "/v2/legacy/pull/manifests/sha256:totallywrong", b"a body")
        self.assertIn(answer.status, {400, 404})
        self.assertIn(answer.error, CODES)
        self.assertEqual("application/json", answer.headers["content-type"])


class LegacyPushTests(RegistryTestCase):
    def setUp(self) -> None:
        """Have some bytes to push."""
        super().setUp()
        self.blob = Content("", b"a blob of two chunks " * 300 + self.id().encode())
        self.half = len(self.blob.content) // 2

    async def chunk(self, client: DockerClient, location: str, first: int, end: int) -> Reply:
        """Send a chunk of the blob; ``end`` is one past its last byte."""
        headers = {"Content-Range": f"{first}-{end - 1}", "Content-Type": "application/octet-stream"}
        return await client.ask("PATCH", location, self.blob.content[first:end], headers)

    async def test_monolithic_post(self) -> None:
        """POST with a digest takes the blob at once, and it is there."""
        client = self.client()
        answer = await client.ask(
            "POST",
            f"/v2/legacy/post/blobs/uploads/?digest={self.blob.digest}",
            self.blob.content,
            {"Content-Type": "application/octet-stream"},
        )
        self.assertEqual(201, answer.status)
        self.assertEqual(self.blob.content, (await client.ask("GET", answer.headers["location"])).body)
        self.assertEqual(200, (await client.blob("legacy/post", self.blob.digest)).status)

    async def test_streamed(self) -> None:
        """PATCH without a range gets 202, PUT 201 with the blob's address."""
        client = self.client()
        location = (await client.begin_upload("legacy/stream")).headers["location"]
        sent = await client.ask("PATCH", location, self.blob.content)
        self.assertEqual(202, sent.status)
        done = await client.ask("PUT", f"{sent.headers['location']}?digest={self.blob.digest}", b"")
        self.assertEqual((201, True), (done.status, "location" in done.headers))

    async def test_chunks(self) -> None:
        """A chunk out of order gets 416; the address of before still works, and tells the same range."""
        client, size = self.client(), len(self.blob.content)
        old = (await client.begin_upload("legacy/chunks")).headers["location"]
        self.assertEqual(416, (await self.chunk(client, old, self.half, size)).status)
        sent = await self.chunk(client, old, 0, self.half)
        expected = f"0-{self.half - 1}"
        self.assertEqual((202, expected), (sent.status, sent.headers["range"]))
        self.assertEqual(416, (await self.chunk(client, old, 0, self.half)).status)
        asked = await client.ask("GET", old)
        self.assertEqual((204, expected), (asked.status, asked.headers["range"]))
        sent = await self.chunk(client, asked.headers["location"], self.half, size)
        self.assertEqual(202, sent.status)
        done = await client.ask("PUT", f"{sent.headers['location']}?digest={self.blob.digest}", b"")
        self.assertEqual(201, done.status)
        self.assertEqual(self.blob.content, (await client.ask("GET", done.headers["location"])).body)

    async def test_mount(self) -> None:
        """A mount gives the blob's address in the new repository, whether or not it names the old one."""
        client = self.client()
        await client.push_blob("legacy/source", self.blob)
        for number, query in enumerate(("&from=legacy/source", "")):
            target = f"legacy/target{number}"
            answer = await client.begin_upload(target, f"?mount={self.blob.digest}{query}")
            self.assertEqual(201, answer.status)
            self.assertEqual(f"/v2/{target}/blobs/{self.blob.digest}", answer.headers["location"])
            self.assertEqual(200, (await client.ask("GET", answer.headers["location"])).status)

    async def test_mount_of_unknown(self) -> None:
        """A mount of a blob that is nowhere becomes an ordinary session."""
        client = self.client()
        answer = await client.begin_upload("legacy/unknown", f"?mount={UNKNOWN}")
        self.assertEqual(202, answer.status)
        self.assertTrue(answer.headers["location"].startswith("/v2/legacy/unknown/blobs/uploads/"))

    async def test_manifests(self) -> None:
        """One manifest under four tags, and one without layers."""
        client, content = self.client(), image("legacy manifests")
        await client.push("legacy/manifests", "test0", content)
        for number in range(1, 4):
            answer = await client.put_manifest("legacy/manifests", f"test{number}", content.manifest)
            self.assertEqual(201, answer.status)
            self.assertEqual(200, (await client.ask("GET", answer.headers["location"])).status)
        bare = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": content.config.descriptor,
            "layers": [],
        }
        answer = await client.put_manifest("legacy/manifests", "bare", Content(OCI_MANIFEST, as_json(bare)))
        self.assertEqual(201, answer.status)


class LegacyDiscoveryTests(RegistryTestCase):
    async def test_tags(self) -> None:
        """``n`` tags are exactly that many; ``last`` leaves out what comes before."""
        client, content = self.client(), image("legacy tags")
        await client.push("legacy/tags", "test0", content)
        for number in range(1, 4):
            await client.put_manifest("legacy/tags", f"test{number}", content.manifest)
        tags = ["test0", "test1", "test2", "test3"]
        self.assertEqual(tags, await self.tags(client, ""))
        for count in range(1, 5):
            self.assertEqual(tags[:count], await self.tags(client, f"?n={count}"))
        self.assertEqual(tags[2:4], await self.tags(client, "?n=2&last=test1"))
        self.assertEqual([], await self.tags(client, "?n=2&last=test3"))

    async def tags(self, client: DockerClient, query: str) -> list[str]:
        """Return the tags of one page."""
        answer = await client.ask("GET", f"/v2/legacy/tags/tags/list{query}")
        self.assertEqual(200, answer.status)
        found: list[str] = answer.document["tags"]
        return found

    async def referrers(self, digest: str, query: str = "") -> tuple[Reply, list[dict[str, Any]]]:
        """Return the answer to a referrers request, and its descriptors."""
        answer = await self.client().ask("GET", f"/v2/legacy/referrers/referrers/{digest}{query}")
        self.assertEqual((200, OCI_INDEX), (answer.status, answer.headers["content-type"]))
        found: list[dict[str, Any]] = answer.document["manifests"]
        return answer, found

    async def refer(self, client: DockerClient, tag: str, manifest: Content, subject: Content) -> None:
        """Push an artifact; the answer names its subject."""
        answer = await client.put_manifest("legacy/referrers", tag, manifest)
        self.assertEqual((201, subject.digest), (answer.status, answer.headers["oci-subject"]))

    async def test_referrers(self) -> None:
        """All referrers are listed, filtered ones by their type; each with its one annotation."""
        client, content = self.client(), image("legacy referrers")
        await client.push("legacy/referrers", "subject", content)
        await client.push_blob("legacy/referrers", EMPTY)
        _, none = await self.referrers(UNKNOWN)
        self.assertEqual([], none)
        kinds = ("application/vnd.nhl.peanut.butter.bagel", "application/vnd.nba.strawberry.jam.croissant")
        for number, kind in enumerate(kinds):
            for by_config in (False, True):
                made = artifact(kind, content.manifest, by_config=by_config)
                reference = made.digest if by_config else f"artifact{number}"
                await self.refer(client, reference, made, content.manifest)
        top = Content(OCI_INDEX, self.index_for(content, kinds[0]))
        await self.refer(client, top.digest, top, content.manifest)
        answer, found = await self.referrers(content.manifest.digest)
        self.assertEqual(5, len(found))
        self.assertEqual({1}, {len(each["annotations"]) for each in found})
        self.assertNotIn("oci-filters-applied", answer.headers)
        answer, found = await self.referrers(content.manifest.digest, f"?artifactType={kinds[1]}")
        self.assertEqual((2, "artifactType"), (len(found), answer.headers["oci-filters-applied"]))
        self.assertEqual({kinds[1]}, {each["artifactType"] for each in found})

    @staticmethod
    def index_for(content: Image, kind: str) -> bytes:
        """Return an index that refers to an image."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "artifactType": kind,
            "manifests": [content.manifest.descriptor],
            "subject": content.manifest.descriptor,
            "annotations": {"org.opencontainers.conformance.test": "an index"},
        }
        return as_json(document)

    async def test_missing_subject(self) -> None:
        """What refers to a manifest that never came is listed too."""
        client, subject = self.client(), Content(OCI_MANIFEST, b"never pushed")
        await client.push_blob("legacy/referrers", EMPTY)
        await self.refer(client, "orphan", artifact("application/x-orphan", subject), subject)
        _, found = await self.referrers(subject.digest)
        self.assertEqual(["application/x-orphan"], [each["artifactType"] for each in found])


class LegacyManagementTests(RegistryTestCase):
    async def test_delete(self) -> None:
        """A tag, then the manifest, then its blobs; each is gone at once."""
        client, content = self.client(), image("legacy delete")
        name = "legacy/delete"
        for tag in ("one", "two"):
            await client.push(name, tag, content)
        self.assertEqual(202, (await client.ask("DELETE", f"/v2/{name}/manifests/one")).status)
        self.assertEqual(404, (await client.manifest(name, "one")).status)
        listed = await client.ask("GET", f"/v2/{name}/tags/list")
        self.assertEqual(["two"], listed.document["tags"])
        by_digest = f"/v2/{name}/manifests/{content.manifest.digest}"
        self.assertEqual(202, (await client.ask("DELETE", by_digest)).status)
        self.assertEqual(404, (await client.ask("GET", by_digest)).status)
        self.assertEqual(404, (await client.ask("DELETE", by_digest)).status)
        for blob in content.blobs:
            self.assertEqual(202, (await client.ask("DELETE", f"/v2/{name}/blobs/{blob.digest}")).status)
            self.assertEqual(404, (await client.blob(name, blob.digest)).status)
            self.assertEqual(404, (await client.blob(name, blob.digest, "HEAD")).status)

    async def test_blobs_before_manifests(self) -> None:
        """A teardown in the wrong order is taken too: blobs first, then the manifest that needs them."""
        client, content = self.client(), image("legacy teardown")
        name = "legacy/teardown"
        await client.push(name, "v1", content)
        for blob in content.blobs:
            answer = await client.ask("DELETE", f"/v2/{name}/blobs/{blob.digest}")
            self.assertIn(answer.status, {202, 405})
        answer = await client.ask("DELETE", f"/v2/{name}/manifests/{content.manifest.digest}")
        self.assertEqual(202, answer.status)
