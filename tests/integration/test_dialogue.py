"""A push and a pull as a Docker client speaks them, and the wire fixtures of the protocol."""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred, gatherResults

from tests.integration.case import RegistryTestCase
from tests.integration.images import DOCKER_LIST, OCI_INDEX, image, index, sha256

EMPTY = sha256(b"")


class PushPullTests(RegistryTestCase):
    async def test_push_and_pull_docker_image(self) -> None:
        """A pushed image of three layers comes back byte for byte, by tag and by digest."""
        await self._round_trip("dialogue/docker", docker=True)

    async def test_push_and_pull_oci_image(self) -> None:
        """The same for an image in OCI format."""
        await self._round_trip("dialogue/oci", docker=False)

    async def _round_trip(self, repository: str, *, docker: bool) -> None:
        client, content = self.client(), image(repository, docker=docker)
        answer = await client.push(repository, "v1", content)
        self.assertEqual(content.manifest.digest, answer.headers["docker-content-digest"])
        self.assertTrue(answer.headers["location"].endswith(f"/manifests/{content.manifest.digest}"))
        expected = {blob.digest: blob.content for blob in content.blobs}
        for reference in ("v1", content.manifest.digest):
            manifest, blobs = await client.pull(repository, reference)
            self.assertEqual(content.manifest.content, manifest)
            self.assertEqual(expected, blobs)
        # A second push finds every layer in place and says 201 again.
        again = await client.push(repository, "v1", content)
        self.assertEqual(answer.headers["docker-content-digest"], again.headers["docker-content-digest"])

    async def test_golden_push(self) -> None:
        """The documented push transcript holds, header for header."""
        client, layer = self.client(), image("golden").layers[0]
        ping = await client.ping()
        self.assertEqual((200, b"{}"), (ping.status, ping.body))
        self.assertEqual("registry/2.0", ping.headers["docker-distribution-api-version"])
        self.assertEqual(404, (await client.blob("a/b", layer.digest, "HEAD")).status)
        begun = await client.begin_upload("a/b")
        self.assertEqual((202, "0-0"), (begun.status, begun.headers["range"]))
        self.assertTrue(begun.headers["location"].startswith("/v2/a/b/blobs/uploads/"))
        self.assertIn(begun.headers["docker-upload-uuid"], begun.headers["location"])
        location = begun.headers["location"]
        sent = await client.ask("PATCH", location, layer.content)
        self.assertEqual((202, f"0-{len(layer.content) - 1}"), (sent.status, sent.headers["range"]))
        self.assertEqual(begun.headers["docker-upload-uuid"], sent.headers["docker-upload-uuid"])
        done = await client.ask("PUT", f"{location}?digest={layer.digest.replace(':', '%3A')}", b"")
        self.assertEqual(201, done.status)
        self.assertEqual(f"/v2/a/b/blobs/{layer.digest}", done.headers["location"])
        self.assertEqual(layer.digest, done.headers["docker-content-digest"])
        head = await client.blob("a/b", layer.digest, "HEAD")
        self.assertEqual((200, str(len(layer.content))), (head.status, head.headers["content-length"]))

    async def test_golden_out_of_order(self) -> None:
        """Chunks out of order are refused with 416, and the session goes on from where it was."""
        client = self.client()
        content = bytes(range(256)) * 12
        body = content[:3067]
        location = (await client.begin_upload("r")).headers["location"]

        async def step(
            method: str, expected: tuple[int, str], part: bytes | None, chunk: str, tail: str = ""
        ) -> None:
            headers = {"Content-Range": chunk} if chunk else {}
            reply = await client.ask(method, location + tail, part, headers)
            self.assertEqual(expected, (reply.status, reply.headers.get("range")), (method, chunk))
            self.assertEqual(location, reply.headers["location"].partition("?")[0])

        query = f"?digest={sha256(body)}"
        await step("PATCH", (416, "0-0"), body[1024:2048], "1024-2047")
        await step("GET", (204, "0-0"), None, "")
        await step("PATCH", (202, "0-1023"), body[:1024], "0-1023")
        await step("PATCH", (416, "0-1023"), body[:1024], "0-1023")
        await step("GET", (204, "0-1023"), None, "")
        await step("PATCH", (202, "0-2047"), body[1024:2048], "1024-2047")
        await step("PUT", (416, "0-2047"), body[:1019], "0-1018", query)
        await step("GET", (204, "0-2047"), None, "", query)
        done = await client.ask("PUT", location + query, body[2048:], {"Content-Range": "2048-3066"})
        self.assertEqual((201, sha256(body)), (done.status, done.headers["docker-content-digest"]))
        self.assertEqual(body, (await client.blob("r", sha256(body))).body)

    async def test_multi_architecture(self) -> None:
        """An index of two architectures comes back as pushed, in both families."""
        client = self.client()
        for docker, media_type in ((False, OCI_INDEX), (True, DOCKER_LIST)):
            children = [image("multi", architecture=name, docker=docker) for name in ("amd64", "arm64")]
            top = index(children, docker=docker)
            await client.push("multi/arch", f"all-{docker}", top)
            got = await client.manifest("multi/arch", f"all-{docker}")
            self.assertEqual((media_type, top.manifest.content), (got.headers["content-type"], got.body))
            for child in children:
                self.assertEqual(200, (await client.manifest("multi/arch", child.manifest.digest)).status)

    async def test_head_equals_get(self) -> None:
        """HEAD gives the status and headers of GET, and no body."""
        client, content = self.client(), image("heads")
        await client.push("heads", "v1", content)
        paths = [
            "/v2/",
            "/v2/heads/manifests/v1",
            f"/v2/heads/manifests/{content.manifest.digest}",
            f"/v2/heads/blobs/{content.config.digest}",
            "/v2/heads/tags/list",
            "/v2/_catalog",
            "/v2/heads/manifests/none",
            f"/v2/heads/blobs/{EMPTY}",
            "/healthz",
        ]
        for path in paths:
            got, head = await client.ask("GET", path), await client.ask("HEAD", path)
            self.assertEqual((got.status, b""), (head.status, head.body), path)
            for name in ("content-type", "content-length", "docker-content-digest", "etag", "accept-ranges"):
                self.assertEqual(got.headers.get(name), head.headers.get(name), (path, name))

    async def test_empty_blob(self) -> None:
        """The blob of no bytes is pushed in one request and pulled again."""
        client = self.client()
        done = await client.ask("POST", f"/v2/empty/blobs/uploads/?digest={EMPTY}", b"")
        self.assertEqual(201, done.status)
        got = await client.blob("empty", EMPTY)
        self.assertEqual((200, "0", b""), (got.status, got.headers["content-length"], got.body))

    async def test_ranges(self) -> None:
        """A part of a blob comes as 206; a part that is not there is 416."""
        client, layer = self.client(), image("ranges").layers[0]
        await client.push_blob("ranges", layer)
        path, size = f"/v2/ranges/blobs/{layer.digest}", len(layer.content)
        table = [
            ("bytes=5-9", 206, f"bytes 5-9/{size}", layer.content[5:10]),
            (f"bytes={size - 3}-", 206, f"bytes {size - 3}-{size - 1}/{size}", layer.content[-3:]),
            ("bytes=-4", 206, f"bytes {size - 4}-{size - 1}/{size}", layer.content[-4:]),
            (f"bytes=2-{size + 99}", 206, f"bytes 2-{size - 1}/{size}", layer.content[2:]),
            (f"bytes={size}-", 416, f"bytes */{size}", None),
            ("bytes=9-5", 416, f"bytes */{size}", None),
            ("lines=1-2", 200, None, layer.content),
        ]
        for asked, status, content_range, body in table:
            got = await client.ask("GET", path, headers={"Range": asked})
            self.assertEqual((status, content_range), (got.status, got.headers.get("content-range")), asked)
            if body is not None:
                self.assertEqual(body, got.body, asked)

    async def test_not_modified(self) -> None:
        """A client that names what it has gets 304."""
        client, content = self.client(), image("etags")
        await client.push("etags", "v1", content)
        for path, digest in (
            ("/v2/etags/manifests/v1", content.manifest.digest),
            (f"/v2/etags/blobs/{content.config.digest}", content.config.digest),
        ):
            got = await client.ask("GET", path, headers={"If-None-Match": f'"{digest}"'})
            self.assertEqual((304, b""), (got.status, got.body), path)

    async def test_parallel_pushes(self) -> None:
        """Twenty pushes of one image at the same time all succeed, each under its tag."""
        client, content = self.client(), image("parallel")
        pushes = [Deferred.fromCoroutine(client.push("parallel", f"t{n:02}", content)) for n in range(20)]
        await gatherResults(pushes, consumeErrors=True)
        tags = (await client.ask("GET", "/v2/parallel/tags/list")).document["tags"]
        self.assertEqual([f"t{n:02}" for n in range(20)], tags)
        for tag in (tags[0], tags[-1]):
            self.assertEqual(content.manifest.content, (await client.pull("parallel", tag))[0])


class MountTests(RegistryTestCase):
    async def test_mount(self) -> None:
        """A blob of another repository is mounted without being sent."""
        client, layer = self.client(), image("mounts").layers[0]
        await client.push_blob("mount/source", layer)
        mounted = await client.begin_upload("mount/target", f"?mount={layer.digest}&from=mount/source")
        self.assertEqual(201, mounted.status)
        self.assertEqual(f"/v2/mount/target/blobs/{layer.digest}", mounted.headers["location"])
        self.assertEqual(layer.content, (await client.blob("mount/target", layer.digest)).body)

    async def test_mount_of_nothing(self) -> None:
        """A mount that finds nothing opens an ordinary session."""
        client = self.client()
        for query in (f"?mount={EMPTY}&from=never/seen", f"?mount={EMPTY}", "?mount=nonsense&from=a"):
            begun = await client.begin_upload("mount/none", query)
            self.assertEqual(202, begun.status, query)
            self.assertEqual(204, (await client.ask("DELETE", begun.headers["location"])).status)

    async def test_blob_of_other_repository(self) -> None:
        """A blob is unknown to a repository that it was neither pushed to nor mounted in."""
        client, layer = self.client(), image("apart").layers[0]
        await client.push_blob("apart/one", layer)
        await client.push_blob("apart/two", image("apart two").layers[0])
        self.assertEqual(404, (await client.blob("apart/two", layer.digest)).status)


class ListingTests(RegistryTestCase):
    async def _pages(self, path: str, key: str, size: int) -> list[list[str]]:
        client, pages, url = self.client(), [], f"{path}?n={size}"
        while url:
            got = await client.ask("GET", url)
            self.assertEqual(200, got.status, url)
            pages.append(got.document[key])
            link = re.fullmatch(r'<([^>]+)>; rel="next"', got.headers.get("link", ""))
            url = link[1] if link else ""
        return pages

    async def test_tags_by_page(self) -> None:
        """Tags come sorted by their bytes, in pages that link to the next one."""
        client, content = self.client(), image("tags")
        await client.push("tags", "a", content)
        for tag in ("b", "B", "_x", "1.10", "1.9"):
            await client.put_manifest("tags", tag, content.manifest)
        every = sorted(["a", "b", "B", "_x", "1.10", "1.9"])
        got = await client.ask("GET", "/v2/tags/tags/list")
        self.assertEqual({"name": "tags", "tags": every}, got.document)
        self.assertNotIn("link", got.headers)
        self.assertEqual([every[:4], every[4:]], await self._pages("/v2/tags/tags/list", "tags", 4))
        self.assertEqual([every[:3], every[3:]], await self._pages("/v2/tags/tags/list", "tags", 3))
        after = await client.ask("GET", "/v2/tags/tags/list?last=B")
        self.assertEqual(every[every.index("B") + 1 :], after.document["tags"])
        nothing = await client.ask("GET", "/v2/tags/tags/list?n=0")
        self.assertEqual(([], None), (nothing.document["tags"], nothing.headers.get("link")))

    async def test_catalog_by_page(self) -> None:
        """Repositories come sorted by their bytes, in pages that link to the next one."""
        client, content = self.client(), image("catalog", layers=1)
        names = ["cat/a", "cat-b", "cat", "cat/a-b", "cat/a/b"]
        for name in names:
            await client.push(name, "v1", content)
        pages = await self._pages("/v2/_catalog", "repositories", 2)
        found = [name for page in pages for name in page]
        self.assertEqual(sorted(found), found)
        self.assertEqual(sorted(names), [name for name in found if name.startswith("cat")])
        self.assertTrue(all(len(page) == 2 for page in pages[:-1]))

    async def test_bad_page_sizes(self) -> None:
        """A page size that is no number is refused by name."""
        client = self.client()
        await client.push("sizes", "v1", image("sizes", layers=1))
        for path in ("/v2/_catalog", "/v2/sizes/tags/list"):
            for size in ("-1", "x", "1.5"):
                got = await client.ask("GET", f"{path}?n={size}")
                self.assertEqual((400, "PAGINATION_NUMBER_INVALID"), (got.status, got.error), (path, size))

    async def test_unknown_repository(self) -> None:
        """Tags of a repository that was never pushed to are 404."""
        got = await self.client().ask("GET", "/v2/never/seen/tags/list")
        self.assertEqual((404, "NAME_UNKNOWN"), (got.status, got.error))


class DeletionTests(RegistryTestCase):
    async def test_delete_tag(self) -> None:
        """Deleting a tag keeps the manifest and its other tags."""
        client, content = self.client(), image("untag")
        await client.push("untag", "one", content)
        await client.put_manifest("untag", "two", content.manifest)
        self.assertEqual(202, (await client.ask("DELETE", "/v2/untag/manifests/one")).status)
        gone = await client.manifest("untag", "one")
        self.assertEqual((404, "MANIFEST_UNKNOWN"), (gone.status, gone.error))
        self.assertEqual(200, (await client.manifest("untag", "two")).status)
        self.assertEqual(200, (await client.manifest("untag", content.manifest.digest)).status)

    async def test_delete_manifest(self) -> None:
        """Deleting by digest removes every tag of the manifest."""
        client, content = self.client(), image("remove")
        await client.push("remove", "one", content)
        await client.put_manifest("remove", "two", content.manifest)
        path = f"/v2/remove/manifests/{content.manifest.digest}"
        self.assertEqual(202, (await client.ask("DELETE", path)).status)
        for reference in ("one", "two", content.manifest.digest):
            self.assertEqual(404, (await client.manifest("remove", reference)).status, reference)
        self.assertEqual([], (await client.ask("GET", "/v2/remove/tags/list")).document["tags"])
        self.assertEqual(404, (await client.ask("DELETE", path)).status)

    async def test_delete_blob(self) -> None:
        """Deleting a blob takes it from this repository at once."""
        client, layer = self.client(), image("unlink").layers[0]
        await client.push_blob("unlink", layer)
        path = f"/v2/unlink/blobs/{layer.digest}"
        self.assertEqual(202, (await client.ask("DELETE", path)).status)
        self.assertEqual(404, (await client.ask("HEAD", path)).status)
        again = await client.ask("DELETE", path)
        self.assertEqual((404, "BLOB_UNKNOWN"), (again.status, again.error))

    async def test_cancel_upload(self) -> None:
        """A cancelled session is gone."""
        client = self.client()
        location = (await client.begin_upload("cancel")).headers["location"]
        self.assertEqual(204, (await client.ask("DELETE", location)).status)
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            got = await client.ask(method, location + f"?digest={EMPTY}", None if method == "GET" else b"")
            self.assertEqual((404, "BLOB_UPLOAD_UNKNOWN"), (got.status, got.error), method)


class ManifestTests(RegistryTestCase):
    async def test_missing_layer(self) -> None:
        """A manifest whose layers are not there is refused, each missing digest by name."""
        client, content = self.client(), image("holes")
        await client.push_blob("holes", content.layers[0])
        got = await client.put_manifest("holes", "v1", content.manifest)
        self.assertEqual((400, "MANIFEST_BLOB_UNKNOWN"), (got.status, got.error))
        named = {entry["detail"]["digest"] for entry in got.document["errors"]}
        self.assertEqual({blob.digest for blob in content.blobs[1:]}, named)

    async def test_wrong_digest(self) -> None:
        """A manifest that does not hash to its address is refused."""
        client, content = self.client(), image("wrong", layers=1)
        await client.push("wrong", "v1", content)
        got = await client.put_manifest("wrong", sha256(b"else"), content.manifest)
        self.assertEqual((400, "DIGEST_INVALID"), (got.status, got.error))

    async def test_moved_tag(self) -> None:
        """A tag pushed again points at the new image; the old one stays by digest."""
        client, old, new = self.client(), image("old", layers=1), image("new", layers=1)
        await client.push("moved", "latest", old)
        await client.push("moved", "latest", new)
        self.assertEqual(new.manifest.content, (await client.manifest("moved", "latest")).body)
        self.assertEqual(200, (await client.manifest("moved", old.manifest.digest)).status)

    async def test_wrong_blob(self) -> None:
        """Bytes that do not hash to their digest are refused and leave nothing behind."""
        client = self.client()
        location = (await client.begin_upload("liar")).headers["location"]
        got = await client.ask("PUT", f"{location}?digest={sha256(b'truth')}", b"a lie")
        self.assertEqual((400, "DIGEST_INVALID"), (got.status, got.error))
        self.assertEqual(404, (await client.ask("GET", location)).status)
        self.assertEqual(404, (await client.blob("liar", sha256(b"truth"))).status)
