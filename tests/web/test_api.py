"""The endpoints under /v2/ as a client sees them: status, code, headers."""

from __future__ import annotations

import json
from typing import cast

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.web.calls import Call
from dockreg_tx.web.health import Health
from tests.registry.world import OCI_INDEX, OCI_MANIFEST
from tests.web.api import ApiCase, Reply

BLOB = b"a layer of an image"
DIGEST = Digest.of(BLOB)
ABSENT = Digest.of(b"never pushed")
JSON = "application/json"


class FilledCase(ApiCase):
    """A registry with the image ``team/app:v1``."""

    async def fill(self) -> None:
        """Push it."""
        self.manifest = await self.world.image(BLOB)
        self.manifest_digest = await self.world.put("v1", self.manifest)

    def assert_error(self, status: int, code: str, reply: Reply) -> None:
        """Check that an answer is an error in the OCI form."""
        self.assertEqual((status, JSON), (reply.status, reply.header("Content-Type")))
        self.assertEqual(code, reply.code)
        self.assertIn("request_id", reply.json["errors"][0]["detail"])
        self.assertEqual("registry/2.0", reply.header("Docker-Distribution-API-Version"))


class TableTests(FilledCase):
    """One line for each endpoint, method and kind of target."""

    async def test_table(self) -> None:
        """Every call of the table gets the documented status and code, errors always in the OCI form."""
        app, none, bad = "/v2/team/app", "/v2/no/where", "/v2/Bad!Name"
        uploads = f"{app}/blobs/uploads"
        rows = [
            ("GET", "/v2/", 200, None),
            ("GET", "/v2", 200, None),
            ("GET", "/v2?x=1", 200, None),
            ("HEAD", "/v2/", 200, None),
            ("POST", "/v2/", 405, "UNSUPPORTED"),
            ("OPTIONS", "/v2/", 200, None),
            ("GET", "/v2/_catalog", 200, None),
            ("GET", "/v2/_catalog?n=0", 200, None),
            ("GET", "/v2/_catalog?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
            ("GET", "/v2/_catalog?n=x", 400, "PAGINATION_NUMBER_INVALID"),
            ("GET", f"{app}/tags/list", 200, None),
            ("GET", f"{app}/tags/list?n=99999999999999999999999", 200, None),
            ("GET", f"{app}/tags/list?n=" + "9" * 5000, 200, None),
            ("GET", f"{none}/tags/list", 404, "NAME_UNKNOWN"),
            ("GET", f"{bad}/tags/list", 400, "NAME_INVALID"),
            ("GET", "/v2/" + "a" * 300 + "/tags/list", 400, "NAME_INVALID"),
            ("PUT", f"{app}/tags/list", 405, "UNSUPPORTED"),
            ("GET", f"{app}/manifests/v1", 200, None),
            ("HEAD", f"{app}/manifests/v1", 200, None),
            ("GET", f"{app}/manifests/{self.manifest_digest}", 200, None),
            ("GET", f"{app}/manifests/v2", 404, "MANIFEST_UNKNOWN"),
            ("GET", f"{app}/manifests/.bad", 404, "MANIFEST_UNKNOWN"),
            ("GET", f"{app}/manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN"),
            ("GET", f"{app}/manifests/sha256:bad", 400, "DIGEST_INVALID"),
            ("GET", f"{none}/manifests/v1", 404, "NAME_UNKNOWN"),
            ("GET", f"{bad}/manifests/v1", 400, "NAME_INVALID"),
            ("POST", f"{app}/manifests/v1", 405, "UNSUPPORTED"),
            ("PUT", f"{app}/manifests/v1", 400, "MANIFEST_INVALID"),
            ("PUT", f"{app}/manifests/.bad", 400, "TAG_INVALID"),
            ("PUT", f"{app}/manifests/sha256:bad", 400, "DIGEST_INVALID"),
            ("PUT", f"{app}/manifests/{ABSENT}", 400, "DIGEST_INVALID"),
            ("DELETE", f"{app}/manifests/v2", 404, "MANIFEST_UNKNOWN"),
            ("DELETE", f"{none}/manifests/v1", 404, "NAME_UNKNOWN"),
            ("DELETE", f"{app}/manifests/sha256:bad", 400, "DIGEST_INVALID"),
            ("GET", f"{app}/blobs/{DIGEST}", 200, None),
            ("HEAD", f"{app}/blobs/{DIGEST}", 200, None),
            ("GET", f"{app}/blobs/{ABSENT}", 404, "BLOB_UNKNOWN"),
            ("GET", f"{none}/blobs/{DIGEST}", 404, "BLOB_UNKNOWN"),
            ("GET", f"{app}/blobs/nonsense", 400, "DIGEST_INVALID"),
            ("GET", f"{app}/blobs/sha384:{'a' * 96}", 404, "BLOB_UNKNOWN"),
            ("PUT", f"{app}/blobs/{DIGEST}", 405, "UNSUPPORTED"),
            ("DELETE", f"{app}/blobs/{ABSENT}", 404, "BLOB_UNKNOWN"),
            ("POST", f"{uploads}/", 202, None),
            ("POST", uploads, 202, None),
            ("POST", f"{none}/blobs/uploads/", 202, None),
            ("POST", f"{bad}/blobs/uploads/", 400, "NAME_INVALID"),
            ("POST", f"{uploads}/?digest=sha256:bad", 400, "DIGEST_INVALID"),
            ("POST", f"{uploads}/?digest-algorithm=md5", 400, "UNSUPPORTED"),
            ("POST", f"{uploads}/?digest-algorithm=sha512", 202, None),
            ("POST", f"{uploads}/?mount={DIGEST}&from=team/app", 201, None),
            ("POST", f"{uploads}/?mount={ABSENT}&from=team/app", 202, None),
            ("POST", f"{uploads}/?mount=x&from=!", 202, None),
            ("GET", f"{uploads}/", 405, "UNSUPPORTED"),
            ("GET", f"{uploads}/nonesuch", 404, "BLOB_UPLOAD_UNKNOWN"),
            ("PATCH", f"{uploads}/nonesuch", 404, "BLOB_UPLOAD_UNKNOWN"),
            ("PUT", f"{uploads}/nonesuch?digest={DIGEST}", 404, "BLOB_UPLOAD_UNKNOWN"),
            ("DELETE", f"{uploads}/nonesuch", 404, "BLOB_UPLOAD_UNKNOWN"),
            ("POST", f"{uploads}/nonesuch", 405, "UNSUPPORTED"),
            ("GET", "/nowhere", 404, "NAME_UNKNOWN"),
            ("GET", "/v2//manifests/v1", 404, "NAME_UNKNOWN"),
            ("GET", "/v2/team//app/manifests/v1", 400, "NAME_INVALID"),
            ("GET", "/v2/team/../app/manifests/v1", 400, "NAME_INVALID"),
            ("GET", "/v2/team/app/manifests/v1/", 404, "NAME_UNKNOWN"),
        ]
        for method, path, status, code in rows:
            reply = await self.call(method, path)
            self.assertEqual(status, reply.status, (method, path, reply.body))
            if code is not None:
                self.assert_error(status, code, reply)
            if status == 405:
                self.assertIn("OPTIONS", str(reply.header("Allow")))

    async def test_right_most_keyword_wins(self) -> None:
        """Repositories may be called like the endpoints."""
        for name in ("a/manifests/b", "blobs/uploads", "tags/list", "manifests", "a/blobs/uploads/x"):
            await self.world.push_blob(BLOB, RepositoryName(name))
            self.assertEqual(200, (await self.call("GET", f"/v2/{name}/blobs/{DIGEST}")).status, name)
            self.assertEqual(200, (await self.call("GET", f"/v2/{name}/tags/list")).status, name)
            opened = await self.call("POST", f"/v2/{name}/blobs/uploads/")
            self.assertEqual(202, opened.status, name)
            session = await self.call("GET", str(opened.header("Location")))
            self.assertEqual(204, session.status, name)


class DownloadTests(FilledCase):
    """GET and HEAD of content."""

    async def test_manifest_headers(self) -> None:
        """GET and HEAD carry type, length, digest and ETag, by tag and by digest."""
        for reference in ("v1", str(self.manifest_digest)):
            got = await self.call("GET", f"/v2/team/app/manifests/{reference}")
            head = await self.call("HEAD", f"/v2/team/app/manifests/{reference}")
            self.assertEqual(self.manifest, got.body)
            self.assertEqual(b"", head.body)
            self.assertEqual(len(self.manifest), got.length)
            self.assertEqual(str(len(self.manifest)), head.header("Content-Length"))
            for reply in (got, head):
                self.assertEqual(OCI_MANIFEST, reply.header("Content-Type"))
                self.assertEqual(str(self.manifest_digest), reply.header("Docker-Content-Digest"))
                self.assertEqual(f'"{self.manifest_digest}"', reply.header("ETag"))
                self.assertFalse(reply.header("Content-Encoding"))

    async def test_head_renews(self) -> None:
        """Being told that a blob exists begins its grace period anew; reading it does not."""
        self.world.time += 10 * 24 * 3600.0
        for method, touched_at in (("GET", 1000.0), ("HEAD", self.world.time)):
            await self.call(method, f"/v2/team/app/blobs/{DIGEST}")
            record = await self.world.pull.find_blob(RepositoryName("team/app"), Digest.of(BLOB))
            self.assertEqual(touched_at, record.touched_at)

    async def test_not_modified(self) -> None:
        """A client that has the content already gets 304 and no body."""
        for etag in (f'"{DIGEST}"', str(DIGEST), f'"other", "{DIGEST}"', "*"):
            reply = await self.call("GET", f"/v2/team/app/blobs/{DIGEST}", headers={"If-None-Match": etag})
            self.assertEqual((304, b""), (reply.status, reply.body))
        reply = await self.call("GET", "/v2/team/app/manifests/v1", headers={"If-None-Match": '"x"'})
        self.assertEqual(200, reply.status)

    async def test_ranges(self) -> None:
        """A single range is answered with just those bytes."""
        size = len(BLOB)
        for wanted, start, end in (
            ("bytes=0-3", 0, 3),
            ("bytes=2-", 2, size - 1),
            ("bytes=-4", size - 4, size - 1),
            ("bytes=5-5000", 5, size - 1),
        ):
            reply = await self.call("GET", f"/v2/team/app/blobs/{DIGEST}", headers={"Range": wanted})
            self.assertEqual(
                (206, BLOB[start : end + 1], f"bytes {start}-{end}/{size}"),
                (reply.status, reply.body, reply.header("Content-Range")),
            )

    async def test_unsatisfiable_ranges(self) -> None:
        """A range outside the blob, or backward, is 416 with the size; garbage is ignored, by HEAD any."""
        for wanted in ("bytes=5000-", "bytes=9-2", "bytes=-0"):
            reply = await self.call("GET", f"/v2/team/app/blobs/{DIGEST}", headers={"Range": wanted})
            self.assertEqual((416, f"bytes */{len(BLOB)}"), (reply.status, reply.header("Content-Range")))
        for wanted in ("lines=1-2", "bytes=a-b", "nonsense"):
            reply = await self.call("GET", f"/v2/team/app/blobs/{DIGEST}", headers={"Range": wanted})
            self.assertEqual((200, BLOB), (reply.status, reply.body))
        head = await self.call("HEAD", f"/v2/team/app/blobs/{DIGEST}", headers={"Range": "bytes=0-1"})
        self.assertEqual((200, str(len(BLOB))), (head.status, head.header("Content-Length")))

    async def test_if_range(self) -> None:
        """A range counts only while the content is the one that the client knows."""
        for etag, status in ((f'"{DIGEST}"', 206), ('"other"', 200)):
            headers = {"Range": "bytes=0-3", "If-Range": etag}
            reply = await self.call("GET", f"/v2/team/app/blobs/{DIGEST}", headers=headers)
            self.assertEqual(status, reply.status)

    async def test_pages(self) -> None:
        """N and last page through tags and catalog, with a Link while there is more."""
        for tag in ("v2", "v3"):
            await self.world.put(tag, self.manifest)
        path: str | None = "/v2/team/app/tags/list?n=2"
        seen: list[str] = []
        while path is not None:
            reply = await self.call("GET", path)
            seen += reply.json["tags"]
            link = reply.header("Link")
            path = None if link is None else link[1 : link.index(">")]
        self.assertEqual(["v1", "v2", "v3"], seen)
        reply = await self.call("GET", "/v2/_catalog?n=1&last=a")
        self.assertEqual(["team/app"], reply.json["repositories"])


class UploadTests(FilledCase):
    """The dialogue of an upload."""

    async def test_out_of_order_dialogue(self) -> None:
        """Refused chunks carry Location and Range, and the session goes on."""
        opened = await self.call("POST", "/v2/r/blobs/uploads/")
        location = str(opened.header("Location"))
        self.assertEqual("0-0", opened.header("Range"))
        steps = [
            ("PATCH", "", "4-7", BLOB[4:8], 416, "0-0"),
            ("GET", "", None, None, 204, "0-0"),
            ("PATCH", "", "0-3", BLOB[:4], 202, "0-3"),
            ("PATCH", "", "0-3", BLOB[:4], 416, "0-3"),
            ("PATCH", "", "4-7", BLOB[4:6], 400, None),
            ("PUT", f"?digest={DIGEST}", "0-1", BLOB[:2], 416, "0-3"),
            ("GET", f"?digest={DIGEST}", None, None, 204, "0-3"),
            ("PUT", "", None, b"", 400, None),
            ("PUT", f"?digest={DIGEST}", f"4-{len(BLOB) - 1}", BLOB[4:], 201, None),
            ("GET", "", None, None, 404, None),
        ]
        for method, query, content_range, data, status, held in steps:
            headers = {"Content-Range": content_range} if content_range else {}
            reply = await self.call(method, location + query, headers=headers, data=data)
            self.assertEqual(status, reply.status, (method, query, content_range, reply.body))
            if held is not None:
                self.assertEqual((location, held), (reply.header("Location"), reply.header("Range")))
                self.assertEqual(location.rsplit("/", 1)[1], reply.header("Docker-Upload-UUID"))
        self.assertEqual(BLOB, (await self.call("GET", f"/v2/r/blobs/{DIGEST}")).body)

    async def test_single_post(self) -> None:
        """A POST with digest and body makes the blob; the empty blob too; a mere announcement a session."""
        made = await self.call("POST", f"/v2/r/blobs/uploads/?digest={DIGEST}", data=BLOB)
        self.assertEqual((201, f"/v2/r/blobs/{DIGEST}"), (made.status, made.header("Location")))
        empty = Digest.of(b"")
        self.assertEqual(201, (await self.call("POST", f"/v2/r/blobs/uploads/?digest={empty}")).status)
        self.assertEqual(202, (await self.call("POST", f"/v2/r/blobs/uploads/?digest={DIGEST}")).status)
        wrong = await self.call("POST", f"/v2/r/blobs/uploads/?digest={ABSENT}", data=BLOB)
        self.assert_error(400, "DIGEST_INVALID", wrong)

    async def test_manifest_push(self) -> None:
        """A manifest push answers Location, digest, subject and tags; missing layers are named."""
        document = json.loads(self.manifest)
        document["subject"] = {"mediaType": OCI_MANIFEST, "digest": str(ABSENT), "size": 3}
        content = json.dumps(document).encode()
        digest = Digest.of(content)
        headers = {"Content-Type": f"{OCI_MANIFEST}; charset=utf-8"}
        path = f"/v2/team/app/manifests/{digest}?tag=x&tag=y"
        reply = await self.call("PUT", path, headers=headers, data=content)
        self.assertEqual((201, str(digest)), (reply.status, reply.header("Docker-Content-Digest")))
        self.assertEqual(f"/v2/team/app/manifests/{digest}", reply.header("Location"))
        self.assertEqual(str(ABSENT), reply.header("OCI-Subject"))
        missing = await self.call("PUT", "/v2/other/manifests/v1", headers=headers, data=content)
        self.assert_error(400, "MANIFEST_BLOB_UNKNOWN", missing)
        self.assertEqual(2, len(missing.json["errors"]))


class ConditionTests(FilledCase):
    """Conditional pushes, and clients that read no index."""

    async def test_conditional_push(self) -> None:
        """A tag moves only from where the client believes it to be, and comes into being only once."""
        other = await self.world.image(b"another layer")
        rows = [
            ("v1", {"If-None-Match": "*"}, 412),
            ("v1", {"If-Match": f'"{ABSENT}"'}, 412),
            ("v2", {"If-Match": "*"}, 412),
            ("v2", {"If-None-Match": "*"}, 201),
            ("v2", {"If-None-Match": "*"}, 412),
            ("v1", {"If-Match": f'"{self.manifest_digest}"'}, 201),
            ("v1", {"If-Match": f'"{self.manifest_digest}"'}, 412),
            ("v1", {"If-None-Match": f'"{ABSENT}"'}, 201),
        ]
        for tag, headers, status in rows:
            path = f"/v2/team/app/manifests/{tag}"
            typed = {"Content-Type": OCI_MANIFEST, **headers}
            reply = await self.call("PUT", path, headers=typed, data=other)
            self.assertEqual(status, reply.status, (tag, headers, reply.body))
            if status == 412:
                self.assert_error(412, "DENIED", reply)

    async def test_announced_digest(self) -> None:
        """A digest beside a tag is verified, and the manifest is stored under it."""
        digest = Digest.of(self.manifest, "sha512")
        for announced, status in ((ABSENT, 400), ("sha256:bad", 400), (digest, 201)):
            path = f"/v2/team/app/manifests/v5?digest={announced}"
            reply = await self.call("PUT", path, headers={"Content-Type": OCI_MANIFEST}, data=self.manifest)
            self.assertEqual(status, reply.status, reply.body)
        got = await self.call("HEAD", "/v2/team/app/manifests/v5")
        self.assertEqual(str(digest), got.header("Docker-Content-Digest"))

    async def test_too_many_tags(self) -> None:
        """Ten tags at once are taken, more than the limit refused."""
        for count, status in ((10, 201), (46, 201), (47, 414)):
            query = "&".join(f"tag=t{number}" for number in range(count))
            path = f"/v2/team/app/manifests/{self.manifest_digest}?{query}"
            reply = await self.call("PUT", path, headers={"Content-Type": OCI_MANIFEST}, data=self.manifest)
            self.assertEqual(status, reply.status, reply.body)

    async def test_image_for_clients_without_indexes(self) -> None:
        """By tag, a client that lists no index type gets the linux/amd64 image; by digest, never."""
        descriptor = {
            "mediaType": OCI_MANIFEST,
            "digest": str(self.manifest_digest),
            "size": len(self.manifest),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}
        digest = await self.world.put("multi", json.dumps(index).encode(), content_type=OCI_INDEX)
        for reference, accept, wanted in (
            ("multi", OCI_MANIFEST, self.manifest_digest),
            ("multi", f"{OCI_MANIFEST}, {OCI_INDEX}", digest),
            ("multi", "text/plain", digest),
            (str(digest), OCI_MANIFEST, digest),
        ):
            path = f"/v2/team/app/manifests/{reference}"
            reply = await self.call("GET", path, headers={"Accept": accept})
            self.assertEqual(str(wanted), reply.header("Docker-Content-Digest"))


class ReferrerTests(FilledCase):
    """Listing what refers to a manifest."""

    async def fill(self) -> None:
        """Push two referrers of a manifest that does not exist."""
        await super().fill()
        self.referrers: dict[str, str] = {}
        for artifact_type in ("application/x.sbom+json", "application/x.signature"):
            document = json.loads(self.manifest)
            document["subject"] = {"mediaType": OCI_MANIFEST, "digest": str(ABSENT), "size": 3}
            document["artifactType"] = artifact_type
            document["annotations"] = {"a": "b"}
            content = json.dumps(document).encode()
            digest = Digest.of(content)
            await self.world.put(str(digest), content)
            self.referrers[artifact_type] = str(digest)

    async def test_list(self) -> None:
        """Referrers come as an index with type, size, artifact type and annotations."""
        reply = await self.call("GET", f"/v2/team/app/referrers/{ABSENT}")
        self.assertEqual("application/vnd.oci.image.index.v1+json", reply.header("Content-Type"))
        self.assertIsNone(reply.header("OCI-Filters-Applied"))
        self.assertEqual(
            (2, reply.header("Content-Type")), (reply.json["schemaVersion"], reply.json["mediaType"])
        )
        listed = {entry["artifactType"]: entry["digest"] for entry in reply.json["manifests"]}
        self.assertEqual(self.referrers, listed)
        self.assertEqual({"a": "b"}, reply.json["manifests"][0]["annotations"])

    async def test_filter(self) -> None:
        """A filter is applied, several are joined by or, and an unescaped plus sign is understood."""
        path = f"/v2/team/app/referrers/{ABSENT}?artifactType="
        for query, count in (
            ("application/x.sbom+json", 1),
            ("application%2Fx.sbom%2Bjson", 1),
            ("application/x.sbom%2Bjson&artifactType=application/x.signature", 2),
            ("application/none", 0),
        ):
            reply = await self.call("GET", path + query)
            self.assertEqual(
                (count, "artifactType"), (len(reply.json["manifests"]), reply.header("OCI-Filters-Applied"))
            )

    async def test_pages(self) -> None:
        """A page that is not the last has a Link, which keeps the filter."""
        path = f"/v2/team/app/referrers/{ABSENT}?n=1&artifactType=application/x.signature"
        path += "&artifactType=application/x.sbom%2Bjson"
        seen = []
        for _ in range(2):
            reply = await self.call("GET", path)
            self.assertEqual("artifactType", reply.header("OCI-Filters-Applied"))
            seen += [entry["digest"] for entry in reply.json["manifests"]]
            link = reply.header("Link")
            path = "" if link is None else link[1 : link.index(">")]
        self.assertEqual((sorted(self.referrers.values()), ""), (seen, path))

    async def test_nothing(self) -> None:
        """Unknown repositories, subjects and algorithms have no referrers; a malformed digest is an error."""
        for path in (
            f"/v2/no/where/referrers/{ABSENT}",
            f"/v2/team/app/referrers/{DIGEST}",
            f"/v2/team/app/referrers/sha384:{'a' * 96}",
            f"/v2/team/app/referrers/sha256:{'0' * 64}",
        ):
            reply = await self.call("GET", path)
            self.assertEqual((200, []), (reply.status, reply.json["manifests"]))
        self.assert_error(400, "DIGEST_INVALID", await self.call("GET", "/v2/team/app/referrers/sha256:bad"))


class RightsTests(FilledCase):
    """Who may do what."""

    async def test_without_credentials(self) -> None:
        """Strangers get one challenge and the same answer whether or not the target exists."""
        for path in ("/v2/", "/v2/team/app/manifests/v1", "/v2/no/where/manifests/v1", "/v2/Bad!/tags/list"):
            reply = await self.call("GET", path, user=None)
            self.assert_error(401, "UNAUTHORIZED", reply)
            self.assertEqual('Basic realm="dockreg"', reply.header("WWW-Authenticate"))

    async def test_wrong_password(self) -> None:
        """A wrong password is never taken for anonymous."""
        reply = await self.call("GET", "/v2/", password="wrong")
        self.assert_error(401, "UNAUTHORIZED", reply)

    async def test_privileges(self) -> None:
        """Each user may do what the grants say; a refusal names the missing right."""
        app = "/v2/team/app"
        blob, manifest = f"{app}/blobs/{DIGEST}", f"{app}/manifests/v1"
        rows = [
            ("puller", "GET", manifest, 200),
            ("puller", "GET", blob, 200),
            ("puller", "GET", f"{app}/tags/list", 200),
            ("puller", "POST", f"{app}/blobs/uploads/", 403),
            ("puller", "PUT", manifest, 403),
            ("puller", "DELETE", manifest, 403),
            ("pusher", "GET", manifest, 403),
            ("pusher", "HEAD", manifest, 200),
            ("pusher", "HEAD", blob, 200),
            ("pusher", "GET", blob, 403),
            ("pusher", "POST", f"{app}/blobs/uploads/", 202),
            ("pusher", "DELETE", blob, 403),
            ("nobody", "GET", "/v2/", 200),
            ("nobody", "GET", "/v2/_catalog", 200),
            ("nobody", "HEAD", blob, 403),
            ("team", "GET", manifest, 200),
            ("team", "GET", "/v2/teams/app/manifests/v1", 403),
            ("team", "POST", "/v2/other/blobs/uploads/", 403),
        ]
        for user, method, path, status in rows:
            reply = await self.call(method, path, user=user)
            self.assertEqual(status, reply.status, (user, method, path, reply.body))
            if status == 403 and method != "HEAD":
                self.assert_error(403, "DENIED", reply)
                self.assertIn(user, reply.json["errors"][0]["message"])

    async def test_mount_needs_pull_on_the_source(self) -> None:
        """Who may push but not pull gets a session instead of somebody's layer."""
        reply = await self.call("POST", f"/v2/x/blobs/uploads/?mount={DIGEST}&from=team/app", user="pusher")
        self.assertEqual(202, reply.status)
        self.assertEqual(404, (await self.call("HEAD", f"/v2/x/blobs/{DIGEST}", user="pusher")).status)

    async def test_creator_cannot_move_a_tag(self) -> None:
        """A right to create is no right to overwrite."""
        other = await self.world.image(b"another layer")
        headers = {"Content-Type": OCI_MANIFEST}
        for tag, status in (("v9", 201), ("v1", 403)):
            reply = await self.call(
                "PUT", f"/v2/team/app/manifests/{tag}", user="creator", headers=headers, data=other
            )
            self.assertEqual(status, reply.status, reply.body)

    async def test_catalog_shows_own(self) -> None:
        """The catalog lists what the caller may pull."""
        await self.world.push_blob(BLOB, RepositoryName("other/app"))
        for user, names in (("team", ["team/app"]), ("nobody", []), ("admin", ["other/app", "team/app"])):
            self.assertEqual(names, (await self.call("GET", "/v2/_catalog", user=user)).json["repositories"])

    async def test_sessions_are_private(self) -> None:
        """Nobody drives another user's upload, with any method."""
        location = str((await self.call("POST", "/v2/team/app/blobs/uploads/")).header("Location"))
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            reply = await self.call(method, f"{location}?digest={DIGEST}", user="team")
            self.assert_error(404, "BLOB_UPLOAD_UNKNOWN", reply)

    async def test_access_log(self) -> None:
        """Each request is logged with its user, its status and the id that an error body shows."""
        reply = await self.call("GET", "/v2/team/app/manifests/v2", user="puller")
        (entry,) = [entry for entry in self.accesses if entry.uri.endswith("v2")]
        self.assertEqual(("puller", 404), (entry.user, entry.status))
        self.assertEqual(entry.request_id, reply.json["errors"][0]["detail"]["request_id"])


class AnonymousPullTests(FilledCase):
    """``--anonymous pull``."""

    anonymous_mode = "pull"

    async def test_anonymous_pull(self) -> None:
        """Anyone pulls; pushing asks for credentials."""
        for path in ("/v2/", "/v2/_catalog", "/v2/team/app/manifests/v1"):
            self.assertEqual(200, (await self.call("GET", path, user=None)).status)
        reply = await self.call("POST", "/v2/team/app/blobs/uploads/", user=None)
        self.assert_error(401, "UNAUTHORIZED", reply)


class AnonymousPushTests(FilledCase):
    """``--anonymous push``."""

    anonymous_mode = "push"

    async def test_anonymous_push(self) -> None:
        """Anyone pushes; deleting asks for credentials."""
        self.assertEqual(200, (await self.call("GET", "/v2/", user=None)).status)
        made = await self.call("POST", f"/v2/x/blobs/uploads/?digest={DIGEST}", user=None, data=BLOB)
        self.assertEqual(201, made.status)
        for path in (f"blobs/{DIGEST}", "manifests/v1"):
            reply = await self.call("DELETE", f"/v2/team/app/{path}", user=None)
            self.assert_error(401, "UNAUTHORIZED", reply)


class HealthTests(ApiCase):
    """Signs of life."""

    async def test_no_credentials(self) -> None:
        """Health needs no credentials, and is never text/html."""
        for path in ("/", "/healthz", "/readyz", "/debug/health"):
            reply = await self.call("GET", path, user=None)
            self.assertEqual(200, reply.status)
            self.assertNotIn("html", str(reply.header("Content-Type")))

    async def test_debug_health(self) -> None:
        """``/debug/health`` is an empty object while all is well, else 503 with each check that fails."""
        self.assertEqual({}, (await self.call("GET", "/debug/health", user=None)).json)

        async def check() -> None:
            raise StoreUnavailable("the disk is gone")

        failing = Health(checks={"database": check})
        answer = await failing.debug(cast("Call", None))
        self.assertEqual((503, b'{"database":"the disk is gone"}'), (answer.status, answer.body))
