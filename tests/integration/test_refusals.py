"""What is refused: before a byte of the body is taken, and never with a 500."""

from __future__ import annotations

import contextlib  # trial takes a module's name "suppress" for its own
import json
from collections.abc import Mapping
from socket import SHUT_WR

from tests.integration.case import PUSHER, RegistryTestCase
from tests.integration.images import OCI_MANIFEST, as_json, image, sha256
from tests.integration.sockets import MIB, Connection, basic

HEX = "0" * 64
DIGEST = f"sha256:{HEX}"
GIB = str(1024 * MIB)
READER = ("reader", "reader-password")
WRITER = ("writer", "writer-password")


class EarlyAnswerTests(RegistryTestCase):
    """Headers of a huge body are sent, and no body: the answer comes all the same."""

    @classmethod
    def start_class(cls) -> None:
        """Add the users who may only pull and only push."""
        super().start_class()
        cls.server.add_user(*READER, "Docker.Download")
        cls.server.add_user(*WRITER, "Docker.Upload")

    def _early(
        self, status: int, code: str, method: str, path: str, who: str, **more: str
    ) -> Mapping[str, str]:
        headers = {"Content-Length": GIB, **{name.replace("_", "-"): value for name, value in more.items()}}
        with Connection(self.server.port, who, timeout_seconds=10) as client:
            client.send_head(method, path, headers)
            answer = client.answer()
        self.assertEqual(status, answer.status, (method, path, answer.body[:300]))
        self.assertEqual(code, json.loads(answer.body)["errors"][0]["code"])
        return answer.headers

    def _location(self, repository: str) -> str:
        return self.connect().request("POST", f"/v2/{repository}/blobs/uploads/").headers["location"]

    def test_unauthorized(self) -> None:
        """401 with a challenge."""
        location = self._location("early")
        for who in ("", basic("pusher", "wrong")):
            for method, path in (
                ("PATCH", location),
                ("PUT", f"{location}?digest={DIGEST}"),
                ("POST", f"/v2/early/blobs/uploads/?digest={DIGEST}"),
                ("PUT", "/v2/early/manifests/v1"),
            ):
                headers = self._early(401, "UNAUTHORIZED", method, path, who)
                self.assertIn("realm=", headers["www-authenticate"])

    def test_denied(self) -> None:
        """403, in words that say what is missing."""
        location = self._location("early")
        for method, path in (
            ("PATCH", location),
            ("POST", "/v2/early/blobs/uploads/"),
            ("PUT", "/v2/early/manifests/v1"),
        ):
            self._early(403, "DENIED", method, path, basic(*READER))
        with Connection(self.server.port, basic(*READER)) as client:
            answer = client.request("POST", "/v2/early/blobs/uploads/")
        self.assertIn("push", json.loads(answer.body)["errors"][0]["message"])

    def test_unknown_session(self) -> None:
        """404 for a session that is not there, or that belongs to another repository."""
        who, location = basic(*PUSHER), self._location("early")
        for path in (
            "/v2/early/blobs/uploads/11111111-2222-4333-8444-555555555555",
            location.replace("/early/", "/other/"),
        ):
            self._early(404, "BLOB_UPLOAD_UNKNOWN", "PATCH", path, who)

    def test_too_large(self) -> None:
        """413 for a manifest longer than the limit."""
        self._early(413, "MANIFEST_INVALID", "PUT", "/v2/early/manifests/v1", basic(*PUSHER))

    def test_wrong_range(self) -> None:
        """416 for a chunk at the wrong place, with Location and Range."""
        location = self._location("early")
        last = 5 + int(GIB) - 1
        headers = self._early(
            416, "BLOB_UPLOAD_INVALID", "PATCH", location, basic(*PUSHER), Content_Range=f"5-{last}"
        )
        self.assertEqual((location, "0-0"), (headers["location"], headers["range"]))

    def test_expectation(self) -> None:
        """A client that expects 100 gets it when its body is wanted, and only then."""
        location = self._location("early")
        with self.connect("") as client:
            client.send_head("PATCH", location, {"Content-Length": GIB, "Expect": "100-continue"})
            self.assertEqual(401, client.head().status)
        with self.connect() as client:
            client.send_head("PATCH", location, {"Content-Length": "3", "Expect": "100-continue"})
            self.assertEqual(100, client.head().status)
            client.socket.sendall(b"abc")
            self.assertEqual(202, client.answer().status)

    def test_answer_survives_a_body_on_its_way(self) -> None:
        """A client that sends its whole body before it reads finds the refusal, not a reset."""
        for _ in range(5):
            with self.connect("") as client:
                client.send_head("PUT", "/v2/early/manifests/v1", {"Content-Length": str(3 * MIB)})
                client.send_blocks(3 * MIB)
                self.assertEqual(401, client.answer().status)


class PrivilegeTests(RegistryTestCase):
    """The two privileges, as a client sees them."""

    @classmethod
    def start_class(cls) -> None:
        """Add the users who may only pull and only push."""
        super().start_class()
        cls.server.add_user(*READER, "Docker.Download")
        cls.server.add_user(*WRITER, "Docker.Upload")

    async def test_download_only(self) -> None:
        """Docker.Download pulls and cannot push."""
        content = image("download")
        await self.client().push("download", "v1", content)
        reader = self.client(*READER)
        manifest, _ = await reader.pull("download", "v1")
        self.assertEqual(content.manifest.content, manifest)
        for got in (
            await reader.begin_upload("download"),
            await reader.put_manifest("download", "v2", content.manifest),
            await reader.ask("DELETE", "/v2/download/manifests/v1"),
        ):
            self.assertEqual((403, "DENIED"), (got.status, got.error))

    async def test_upload_only(self) -> None:
        """Docker.Upload pushes, sees what it pushed by HEAD, and cannot pull or delete."""
        writer, content = self.client(*WRITER), image("upload")
        await writer.push("upload", "v1", content)
        for got in (
            await writer.manifest("upload", "v1"),
            await writer.blob("upload", content.config.digest),
            await writer.ask("GET", "/v2/upload/tags/list"),
            await writer.ask("DELETE", "/v2/upload/manifests/v1"),
        ):
            self.assertEqual((403, "DENIED"), (got.status, got.error))
        self.assertEqual(200, (await writer.manifest("upload", "v1", "HEAD")).status)

    async def test_catalog_shows_what_may_be_pulled(self) -> None:
        """The catalog lists only repositories that the caller may pull."""
        await self.client().push("listed", "v1", image("listed", layers=1))
        seen = await self.client(*READER).ask("GET", "/v2/_catalog")
        self.assertIn("listed", seen.document["repositories"])
        hidden = await self.client(*WRITER).ask("GET", "/v2/_catalog")
        self.assertEqual([], hidden.document["repositories"])

    async def test_foreign_session(self) -> None:
        """A session belongs to the user who opened it."""
        location = (await self.client().begin_upload("mine")).headers["location"]
        got = await self.client(*WRITER).ask("PATCH", location, b"x")
        self.assertEqual((404, "BLOB_UPLOAD_UNKNOWN"), (got.status, got.error))

    async def test_changes_apply_at_once(self) -> None:
        """A user disabled, or a password changed, is refused with the next request."""
        self.server.add_user("brief", "one", "pull:**")
        client = self.client("brief", "one")
        self.assertEqual(200, (await client.ping()).status)
        self.server.dockreg("user", "passwd", "brief", "--password-stdin", text="two\n")
        self.assertEqual(401, (await client.ping()).status)
        self.assertEqual(200, (await self.client("brief", "two").ping()).status)
        self.server.dockreg("user", "disable", "brief")
        self.assertEqual(401, (await self.client("brief", "two").ping()).status)


class HostileInputTests(RegistryTestCase):
    """Every odd request has a documented answer."""

    def _table(self, rows: list[tuple[set[int], str, str, bytes, dict[str, str]]]) -> None:
        for expected, method, path, body, headers in rows:
            with self.connect() as client:
                answer = client.request(method, path, body, headers)
            self.assertIn(answer.status, expected, (method, path, headers, answer.body[:300]))
            if answer.status >= 400 and method != "HEAD" and path.startswith("/v2/"):
                self.assertEqual("application/json", answer.headers["content-type"].partition(";")[0], path)
                entry = json.loads(answer.body)["errors"][0]
                self.assertTrue(entry["code"].isupper(), entry)
                self.assertNotIn(b"Traceback", answer.body)

    def test_names(self) -> None:
        """Names outside the grammar are refused; nothing escapes the root."""
        names = [
            "UPPER", "a//b", "/a", "a/", "-a", "a-", "a..b", "a___b", "..", "../..", "a/../b", "%2e%2e/a",
            "a%00b", "a%2F..%2F..%2Fetc", "a%20b", "%ff%fe", "a%0d%0aX-Injected:%201", "%C3%A9", "a" * 256,
            "a/" * 200 + "a", ".", "a:b", "a@b", "a?b%3f", "_a", "a%5cb",
        ]  # fmt: skip
        rows: list[tuple[set[int], str, str, bytes, dict[str, str]]] = []
        for name in names:
            rows += [
                ({400, 404, 405}, "GET", f"/v2/{name}/tags/list", b"", {}),
                ({400, 404, 405}, "POST", f"/v2/{name}/blobs/uploads/", b"", {}),
                ({400, 404, 405}, "PUT", f"/v2/{name}/manifests/v1", b"{}", {"Content-Type": OCI_MANIFEST}),
                ({400, 404, 405}, "GET", f"/v2/{name}/blobs/{DIGEST}", b"", {}),
            ]
        # "a?b…" begins a query: the path is then /v2/a, which nothing answers.
        self._table(rows)

    def test_keywords_as_names(self) -> None:
        """Components named like the protocol's own words are ordinary names."""
        for name in ("manifests", "blobs/uploads", "tags/list", "a/manifests/b", "v2", "referrers"):
            with self.connect() as client:
                self.assertEqual(202, client.request("POST", f"/v2/{name}/blobs/uploads/").status, name)

    def test_references(self) -> None:
        """Digests and tags outside the grammar are 400 or 404."""
        digests = ["sha256:", "sha256:abc", "sha256:" + "A" * 64, "sha256:" + "g" * 64, "md5:" + "0" * 32]
        digests += [
            "sha256:" + "0" * 65,
            "sha256%3A" + "0" * 63,
            ":",
            "sha999:" + "0" * 64,
            "sha256:../../x",
            "%00",
        ]
        rows: list[tuple[set[int], str, str, bytes, dict[str, str]]] = []
        for digest in digests:
            rows += [
                ({400, 404}, "GET", f"/v2/hostile/blobs/{digest}", b"", {}),
                ({400, 404}, "HEAD", f"/v2/hostile/blobs/{digest}", b"", {}),
                ({400, 404}, "GET", f"/v2/hostile/manifests/{digest}", b"", {}),
                ({400, 404}, "PUT", f"/v2/hostile/manifests/{digest}", b"{}", {"Content-Type": OCI_MANIFEST}),
                ({400}, "POST", f"/v2/hostile/blobs/uploads/?digest={digest}", b"x", {}),
                ({202}, "POST", f"/v2/hostile/blobs/uploads/?mount={digest}&from=../x", b"", {}),
            ]
        for tag in (".INVALID_MANIFEST_NAME", "-x", "a" * 129, "a%2Fb%2F..", "%C3%A9", "a%0Ab"):
            rows += [
                ({400, 404}, "GET", f"/v2/hostile/manifests/{tag}", b"", {}),
                ({400, 404}, "DELETE", f"/v2/hostile/manifests/{tag}", b"", {}),
                ({400, 404}, "PUT", f"/v2/hostile/manifests/{tag}", b"{}", {"Content-Type": OCI_MANIFEST}),
            ]
        self._table(rows)

    def test_upload_ids(self) -> None:
        """Session ids that were never given out are 404, whatever they spell."""
        rows: list[tuple[set[int], str, str, bytes, dict[str, str]]] = []
        for session in ("x", "..", "%2e%2e%2fregistry.db", "a" * 300, "%00", "~", "1;DROP"):
            rows += [
                ({400, 404}, "GET", f"/v2/hostile/blobs/uploads/{session}", b"", {}),
                ({400, 404}, "PATCH", f"/v2/hostile/blobs/uploads/{session}", b"x", {}),
                ({400, 404}, "PUT", f"/v2/hostile/blobs/uploads/{session}?digest={DIGEST}", b"x", {}),
                ({400, 404}, "DELETE", f"/v2/hostile/blobs/uploads/{session}", b"", {}),
            ]
        self._table(rows)

    def test_content_ranges(self) -> None:
        """Ranges that make no sense are 416, a wrong length is 400, and the session lives on."""
        location = self.connect().request("POST", "/v2/hostile/blobs/uploads/").headers["location"]
        table: list[tuple[int, str]] = [
            (416, "1-3"), (416, "x-y"), (416, "-"), (416, "2-0"), (416, "-1-1"), (416, "0"), (400, "0-9"),
            (400, "0-0"), (416, "0-2, 3-4"), (416, "9" * 40 + "-" + "9" * 41),
        ]  # fmt: skip
        rows: list[tuple[set[int], str, str, bytes, dict[str, str]]] = [
            ({status}, "PATCH", location, b"abc", {"Content-Range": text}) for status, text in table
        ]
        rows.append(({204}, "GET", location, b"", {}))
        rows.append(({202}, "PATCH", location, b"abc", {"Content-Range": "0-2"}))
        self._table(rows)

    def test_put_without_digest(self) -> None:
        """A PUT without a usable digest is 400, and the session lives on."""
        location = self.connect().request("POST", "/v2/hostile/blobs/uploads/").headers["location"]
        rows: list[tuple[set[int], str, str, bytes, dict[str, str]]] = [
            ({400}, "PUT", location, b"", {}),
            ({400}, "PUT", location + "?digest=", b"", {}),
            ({400}, "PUT", location + "?digest=nonsense", b"", {}),
            ({400}, "PUT", location + "?digest=md5:" + "0" * 32, b"", {}),
            ({204}, "GET", location, b"", {}),
        ]
        self._table(rows)

    def test_manifests(self) -> None:
        """Documents that are no manifests are refused."""
        good = json.loads(image("hostile").manifest.content)
        deep = b'{"schemaVersion":2,"layers":' + b"[" * 5000 + b"]" * 5000 + b"}"
        bodies = [
            b"", b"{", b"null", b"[]", b'"x"', b"1", b"{}", b"\xff\xfe", b'{"schemaVersion":1}', deep,
            b'{"schemaVersion":2,"schemaVersion":2}', as_json({**good, "layers": "x"}),
            as_json({**good, "layers": [None]}), as_json({**good, "config": None}),
            as_json({**good, "config": {**good["config"], "size": -1}}),
            as_json({**good, "config": {**good["config"], "size": "1"}}),
            as_json({**good, "config": {**good["config"], "digest": "sha256:x"}}),
            as_json({**good, "manifests": []}), as_json({**good, "mediaType": "text/plain"}),
            as_json({**good, "subject": 5}), as_json({**good, "annotations": {"a": 1}}),
        ]  # fmt: skip
        rows: list[tuple[set[int], str, str, bytes, dict[str, str]]] = [
            ({400}, "PUT", "/v2/hostile/manifests/v1", body, {"Content-Type": OCI_MANIFEST})
            for body in bodies
        ]
        good_bytes = as_json(good)
        rows += [
            ({400, 415}, "PUT", "/v2/hostile/manifests/v1", good_bytes, {"Content-Type": kind})
            for kind in ("text/html", "application/vnd.docker.distribution.manifest.v1+json", "x")
        ]
        rows.append(({404}, "GET", "/v2/hostile/manifests/v1", b"", {}))
        self._table(rows)

    def test_methods(self) -> None:
        """Methods that a resource does not have are 405 with Allow."""
        for method, path in (
            ("POST", "/v2/"),
            ("PUT", "/v2/_catalog"),
            ("DELETE", "/v2/hostile/tags/list"),
            ("PATCH", "/v2/hostile/manifests/v1"),
            ("PUT", f"/v2/hostile/blobs/{DIGEST}"),
            ("GET", "/v2/hostile/blobs/uploads/"),
            ("BREW", "/v2/"),
        ):
            with self.connect() as client:
                answer = client.request(method, path)
            self.assertEqual(405, answer.status, (method, path))
            self.assertIn("GET" if "uploads" not in path else "POST", answer.headers["allow"])
            self.assertIn(b"UNSUPPORTED", answer.body)

    def test_paths(self) -> None:
        """Paths that nobody serves are 404, and JSON below /v2/ and /v1/."""
        rows: list[tuple[set[int], str, str, bytes, dict[str, str]]] = [
            ({404}, "GET", path, b"", {})
            for path in ("/v2/a", "/v2/a/b/c", "/v1/x", "/v3/", "/none", "/v2/_x/y")
        ]
        self._table(rows)

    def test_digest_of_other_content(self) -> None:
        """One blob pushed under the digest of another is refused."""
        with self.connect() as client:
            answer = client.request("POST", f"/v2/hostile/blobs/uploads/?digest={sha256(b'a')}", b"b")
        self.assertEqual(400, answer.status)
        self.assertIn(b"DIGEST_INVALID", answer.body)

    def test_malformed_http(self) -> None:
        """What is no HTTP is answered with 400, or ended; the server goes on."""
        head = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"
        upload = b"POST /v2/hostile/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\n"
        authorized = upload % basic(*PUSHER).encode()
        requests = [
            head + b"Content-Length: -1\r\n\r\n", head + b"Content-Length: 1e3\r\n\r\n",
            head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            head + b"Transfer-Encoding: gzip\r\n\r\n",
            head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET\r\n\r\n", b"\x00\x01\x02\r\n\r\n",
            head + b"no colon\r\n\r\n", b"GET /v2/ HTTP/9.9\r\n\r\n", head + b": empty\r\n\r\n",
            authorized + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 70_000,
            authorized + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        ]  # fmt: skip
        for request in requests:
            with Connection(self.server.port, timeout_seconds=15) as client:
                client.socket.sendall(request)
                client.socket.shutdown(SHUT_WR)
                received = b""
                with contextlib.suppress(ConnectionResetError):
                    while part := client.socket.recv(65536):
                        received += part
            statuses = [
                int(line.split()[1]) for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.")
            ]
            self.assertTrue(all(200 <= status < 500 for status in statuses), (request[:200], received[:300]))
        self.assertEqual(200, self.connect().request("GET", "/healthz").status)

    def test_download_ranges(self) -> None:
        """Odd and huge Range headers never break a download."""
        content = bytes(range(200))
        with self.connect() as client:
            client.request("POST", f"/v2/hostile/blobs/uploads/?digest={sha256(content)}", content)
        many = "bytes=" + ",".join(f"{n % 200}-{n % 200}" for n in range(1024))
        ranges = [
            many,
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-2,",
            "bytes=--1",
            "bytes=0-" + "9" * 5000,
            "x",
        ]
        ranges += ["bytes=-0", "bytes=" + "9" * 5000 + "-", "bytes=0-0,-1,199-"]
        rows: list[tuple[set[int], str, str, bytes, dict[str, str]]] = [
            ({200, 206, 400, 416}, "GET", f"/v2/hostile/blobs/{sha256(content)}", b"", {"Range": text})
            for text in ranges
        ]
        self._table(rows)
