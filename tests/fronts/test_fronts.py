"""Pushes and pulls through nginx, Caddy and HAProxy with the configurations of ``etc/``."""

from __future__ import annotations

import hashlib
import select
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.fronts.front import CADDY, HAPROXY, NGINX, Front, Kind, missing
from tests.integration.images import Image, image
from tests.integration.server import RegistryProcess
from tests.integration.shared import SharedByClass
from tests.integration.sockets import MIB, Connection, basic, blocks

PUSHER = ("pusher", "pusher-password")
CHUNK_BYTES = 150 * MIB


class FrontCase(SharedByClass):
    """A registry and a front for all tests of the class."""

    timeout = 180
    kind: ClassVar[Kind]
    front: ClassVar[Front]
    server: ClassVar[RegistryProcess]
    _temporary: ClassVar[tempfile.TemporaryDirectory[str]]

    @classmethod
    def start_class(cls) -> None:
        """Start both."""
        cls._temporary = tempfile.TemporaryDirectory(prefix="dockreg-front-", ignore_cleanup_errors=True)
        directory = Path(cls._temporary.name)
        # nginx's workers, another user, must reach their folders.
        directory.chmod(0o755)
        cls.server = RegistryProcess(directory / "root")
        cls.server.start()
        cls.server.add_user(*PUSHER, "*:**")
        (directory / "front").mkdir()
        cls.front = Front(cls.kind, cls.server.port, directory / "front")
        cls.front.start()

    @classmethod
    def stop_class(cls) -> None:
        """Stop both; the registry must end well."""
        try:
            cls.front.stop()
            cls.server.stop()
        finally:
            cls.server.kill()
            cls._temporary.cleanup()

    def connect(self, authorization: str | None = None) -> Connection:
        """Return a connection to the front that is closed after the test."""
        client = self.front.connect(basic(*PUSHER) if authorization is None else authorization)
        self.addCleanup(client.close)
        return client


if TYPE_CHECKING:
    _Mixed = FrontCase
else:
    # A mixin, so that nothing runs without a front.
    _Mixed = object


class FrontTests(_Mixed):
    """What must work through every front; mixed into a case for each."""

    def test_large_layer(self) -> None:
        """A chunked PATCH, a PATCH with a length and a PUT carry 300 MB in; GET gives them back."""
        client = self.connect()
        size = 2 * CHUNK_BYTES + MIB
        location = client.request("POST", "/v2/big/blobs/uploads/").headers["location"]
        whole = [*blocks(CHUNK_BYTES, 1), *blocks(CHUNK_BYTES, 2), *blocks(MIB, 3)]
        client.send_head("PATCH", location, {"Transfer-Encoding": "chunked"})
        client.send_blocks(CHUNK_BYTES, 1, chunked=True)
        self.assertEqual((202, f"0-{CHUNK_BYTES - 1}"), status_and_range(client))
        client.send_head("PATCH", location, {"Content-Length": str(CHUNK_BYTES)})
        client.send_blocks(CHUNK_BYTES, 2)
        self.assertEqual((202, f"0-{2 * CHUNK_BYTES - 1}"), status_and_range(client))
        digest = digest_of(whole)
        client.send_head("PUT", f"{location}?digest={digest}", {"Content-Length": str(MIB)})
        client.send_blocks(MIB, 3)
        self.assertEqual(201, client.answer().status)
        client.send_head("GET", f"/v2/big/blobs/{digest}")
        head = client.head()
        self.assertEqual((200, str(size)), (head.status, head.headers.get("content-length")))
        self.assertEqual(digest, client.digest_of_body(size))

    def test_nothing_is_collected(self) -> None:
        """Bytes reach the registry while the rest of the body is still to come."""
        client = self.connect()
        location = client.request("POST", "/v2/slow/blobs/uploads/").headers["location"]
        client.send_head("PATCH", location, {"Transfer-Encoding": "chunked"})
        for block in blocks(8 * MIB, 4):
            client.socket.sendall(b"%x\r\n" % len(block) + block + b"\r\n")
        staged = self.server.root / "uploads" / location.rsplit("/", 1)[1]
        end = time.monotonic() + 20
        while not (staged.exists() and staged.stat().st_size >= 4 * MIB):
            self.assertLess(time.monotonic(), end, "the front keeps the bytes")
            time.sleep(0.05)
        client.socket.sendall(b"0\r\n\r\n")
        self.assertEqual((202, f"0-{8 * MIB - 1}"), status_and_range(client))

    def test_image(self) -> None:
        """An image with its manifest goes in and comes out; Location stays relative; ranges work."""
        client, content = self.connect(), image("front", layers=2)
        push(client, "team/app", "v1", content)
        got = client.request("GET", "/v2/team/app/manifests/v1")
        self.assertEqual((200, content.manifest.content), (got.status, got.body))
        self.assertEqual(content.manifest.media_type, got.headers["content-type"])
        self.assertEqual(content.manifest.digest, got.headers["docker-content-digest"])
        head = client.request("HEAD", "/v2/team/app/manifests/v1")
        self.assertEqual(str(len(content.manifest.content)), head.headers["content-length"])
        blob = content.blobs[0]
        wanted = "bytes=" + ",".join(["0-1", "4-5"] + ["100000-100000"] * 1500)
        part = client.request("GET", f"/v2/team/app/blobs/{blob.digest}", headers={"Range": wanted})
        self.assertEqual(206, part.status)
        self.assertIn("multipart/byteranges", part.headers["content-type"])

    def test_early_refusals(self) -> None:
        """A refusal arrives although most of the body was never sent, and says why."""
        for who, method, path, size, status, code in (
            ("", "POST", "/v2/x/blobs/uploads/?digest=" + digest_of([]), 300 * MIB, 401, "UNAUTHORIZED"),
            (basic("pusher", "wrong"), "PUT", "/v2/x/manifests/v1", 300 * MIB, 401, "UNAUTHORIZED"),
            (basic(*PUSHER), "PUT", "/v2/x/manifests/v1", 300 * MIB, 413, "MANIFEST_INVALID"),
        ):
            client = self.connect(who)
            # What TLS has to say beside the answers comes with the first one.
            client.request("GET", "/healthz")
            client.send_head(method, path, {"Content-Length": str(size)})
            sent = send_until_answered(client, size)
            answer = client.answer()
            self.assertEqual(status, answer.status, (method, path, answer))
            self.assertIn(code.encode(), answer.body)
            self.assertLess(sent, 100 * MIB, "the front read the whole body first")
            if status == 401:
                self.assertIn("www-authenticate", answer.headers)

    def test_continue(self) -> None:
        """Expect: 100-continue ends in an answer, whoever says "continue"."""
        client = self.connect()
        location = client.request("POST", "/v2/x/blobs/uploads/").headers["location"]
        client.send_head("PATCH", location, {"Content-Length": "3", "Expect": "100-continue"})
        select.select([client.socket], [], [], 5)
        client.socket.sendall(b"abc")
        self.assertEqual((202, "0-2"), status_and_range(client))


def status_and_range(client: Connection) -> tuple[int, str | None]:
    """Read an answer of an upload session."""
    answer = client.answer()
    return answer.status, answer.headers.get("range")


def digest_of(parts: list[bytes]) -> str:
    """Return the digest of parts one after the other."""
    running = hashlib.sha256()
    for part in parts:
        running.update(part)
    return "sha256:" + running.hexdigest()


def push(client: Connection, repository: str, tag: str, content: Image) -> None:
    """Push an image."""
    for blob in content.blobs:
        target = f"/v2/{repository}/blobs/uploads/?digest={blob.digest}"
        answer = client.request("POST", target, blob.content)
        assert answer.status == 201, answer
        assert answer.headers["location"].startswith("/v2/"), answer
    kind = {"Content-Type": content.manifest.media_type}
    answer = client.request("PUT", f"/v2/{repository}/manifests/{tag}", content.manifest.content, kind)
    assert answer.status == 201, answer


def send_until_answered(client: Connection, size: int) -> int:
    """Send a body until something comes back, as HTTP libraries do; return how much was sent."""
    sent = 0
    try:
        for block in blocks(size):
            if select.select([client.socket], [], [], 0.005)[0]:
                break
            client.socket.sendall(block)
            sent += len(block)
    except (ConnectionError, OSError):
        pass
    return sent


class NginxTests(FrontTests, FrontCase):
    """``etc/nginx.conf``."""

    kind = NGINX
    skip = missing(NGINX) or None


class CaddyTests(FrontTests, FrontCase):
    """``etc/Caddyfile``."""

    kind = CADDY
    skip = missing(CADDY) or None


class HaproxyTests(FrontTests, FrontCase):
    """``etc/haproxy.cfg``."""

    kind = HAPROXY
    skip = missing(HAPROXY) or None
