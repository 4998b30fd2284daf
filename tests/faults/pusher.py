"""A client under whose work the server meets its end."""

from __future__ import annotations

import random
from contextlib import suppress

from tests.faults.oracle import Promises, Session
from tests.integration.images import OCI_MANIFEST, Content, Image, image, sha256
from tests.integration.sockets import Answer, Connection

TAGS = 6
#: Few large ones: a root is used for many cycles.
NOISE_BYTES = (1, 5000, 5000, 70_000, 70_000, 300_000)
LARGE_BYTES, LARGE_CHANCE = 2_000_000, 0.04
#: Sessions are left open until there are so many.
OPEN_SESSIONS = 3


class Refused(Exception):
    """The server answered with something else than what acknowledges."""


class TooLate(OSError):
    """An answer came that would never have come from a machine without power."""


class Pusher:
    """Pushes images, mounts, moves and deletes tags and manifests, resumes uploads, until the server is gone.

    Each has a repository of its own, so it knows what every tag must be.
    """

    def __init__(self, *, port: int, authorization: str, number: int, seed: int, promises: Promises) -> None:
        self._port = port
        self._authorization = authorization
        self._repository = f"fault/worker-{number}"
        self._random = random.Random(seed)
        self._promises = promises
        self._live: list[Content] = []
        #: Why it stopped, when the server refused something it should not have refused.
        self.refusal = ""

    def run(self) -> None:
        """Work until something fails: that is how the fault looks from here."""
        try:
            with Connection(self._port, self._authorization, timeout_seconds=10) as client:
                self._resume(client)
                while True:
                    self._push(client)
        except Refused as refused:
            self.refusal = str(refused)
        except OSError:
            return

    def once(self, client: Connection) -> None:
        """Do every kind of request once, in an order that is always the same."""
        self._resume(client)
        first, second = self._image(), self._image()
        for way, blob in enumerate(first.blobs):
            self._push_blob(client, blob.content, way)
        self._push_blob(client, self._random.randbytes(50_000), 3)
        self._put_manifest(client, first, "tag-0")
        for way, blob in enumerate(second.blobs):
            self._push_blob(client, blob.content, 2 - way)
        self._put_manifest(client, second, "tag-1")
        self._put_manifest(client, first, "tag-1")
        self._mount(client)
        self._delete_tag(client, "tag-0")
        self._delete_manifest(client, second.manifest.digest)
        self._leave_open(client)

    def _ask(self, client: Connection, expected: int, method: str, path: str, body: bytes = b"") -> Answer:
        kind = {"Content-Type": OCI_MANIFEST} if "/manifests/" in path else {}
        answer = client.request(method, path, body, kind)
        if self._promises.is_dark:
            raise TooLate
        if answer.status != expected:
            raise Refused(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
        return answer

    def _image(self) -> Image:
        return image(f"{self._random.getrandbits(64)}", layers=self._random.choice((1, 1, 2)))

    def _push(self, client: Connection) -> None:
        content, chance = self._image(), self._random.random
        is_large = chance() < LARGE_CHANCE
        size_bytes = LARGE_BYTES if is_large else self._random.choice(NOISE_BYTES)
        for blob in (self._random.randbytes(size_bytes), *(each.content for each in content.blobs)):
            self._push_blob(client, blob, self._random.randrange(4))
        tag = f"tag-{self._random.randrange(TAGS)}"
        self._put_manifest(client, content, tag)
        if chance() < 0.3:
            self._put_manifest(client, content, f"tag-{self._random.randrange(TAGS)}")
        if chance() < 0.3:
            self._mount(client)
        if chance() < 0.2:
            self._delete_tag(client, tag)
        if chance() < 0.15:
            self._delete_manifest(client, content.manifest.digest)
        if chance() < 0.2:
            self._leave_open(client)

    def _put_manifest(self, client: Connection, content: Image, tag: str) -> None:
        manifest = content.manifest
        self._promises.manifest_may_come(self._repository, content)
        self._promises.tag_may_become(self._repository, tag, manifest.digest)
        self._ask(client, 201, "PUT", f"/v2/{self._repository}/manifests/{tag}", manifest.content)
        self._promises.manifest(self._repository, manifest)
        self._promises.tag_is(self._repository, tag, manifest.digest)

    def _delete_tag(self, client: Connection, tag: str) -> None:
        if self._promises.tags.get((self._repository, tag), {None}) == {None}:
            return
        self._promises.tag_may_become(self._repository, tag, None)
        self._ask(client, 202, "DELETE", f"/v2/{self._repository}/manifests/{tag}")
        self._promises.tag_is(self._repository, tag, None)

    def _delete_manifest(self, client: Connection, digest: str) -> None:
        self._promises.manifest_may_go(self._repository, digest)
        self._ask(client, 202, "DELETE", f"/v2/{self._repository}/manifests/{digest}")
        self._promises.manifest_is_gone(self._repository, digest)

    def _mount(self, client: Connection) -> None:
        """Mount a blob of somebody else; it is acknowledged there, so it must be there."""
        others = self._promises.of_others(self._repository)
        if not others:
            return
        source, digest = self._random.choice(others)
        size_bytes = self._promises.blobs[source, digest]
        path = f"/v2/{self._repository}/blobs/uploads/?mount={digest}&from={source}"
        self._ask(client, 201, "POST", path)
        self._promises.blob_is(self._repository, digest, size_bytes)

    def _push_blob(self, client: Connection, content: bytes, way: int) -> None:
        base, query = f"/v2/{self._repository}/blobs/uploads/", f"?digest={sha256(content)}"
        self._promises.blob_may_come(self._repository, content)
        if way == 0:
            self._ask(client, 201, "POST", base + query, content)
        else:
            location = self._ask(client, 202, "POST", base).headers["location"]
            if way == 1:
                self._ask(client, 201, "PUT", location + query, content)
            else:
                half = len(content) // 2 if way == 3 else len(content)
                parts = [part for part in (content[:half], content[half:]) if part]
                for part in parts:
                    self._ask(client, 202, "PATCH", location, part)
                self._ask(client, 201, "PUT", location + query)
        self._promises.blob(self._repository, content)

    def _leave_open(self, client: Connection) -> None:
        """Begin a chunked upload that is to be finished in another life of the server."""
        if len(self._promises.sessions) >= OPEN_SESSIONS:
            return
        content = self._random.randbytes(self._random.choice((9, 90_000, 400_000)))
        base = f"/v2/{self._repository}/blobs/uploads/"
        session = Session(self._repository, self._ask(client, 202, "POST", base).headers["location"], content)
        self._promises.session(session)
        self._send(client, session, len(content) // 3)
        self._send(client, session, len(content) * 2 // 3)

    def _send(self, client: Connection, session: Session, until_bytes: int) -> None:
        session.sent_bytes = until_bytes
        chunk = session.content[session.acknowledged_bytes : until_bytes]
        self._ask(client, 202, "PATCH", session.location, chunk)
        session.acknowledged_bytes = until_bytes

    def _resume(self, client: Connection) -> None:
        """Finish what was left open, from where the server says it is."""
        for session in self._promises.take_sessions(self._repository):
            self._promises.session(session)
            with suppress(Gone):
                self._finish(client, session)
            self._promises.end_session(session)

    def _finish(self, client: Connection, session: Session) -> None:
        answer = client.request("GET", session.location)
        if answer.status == 404 and session.may_be_gone:
            raise Gone
        if answer.status != 204:
            raise Refused(f"GET {session.location}: {answer.status}")
        offset = offset_of(answer, session)
        session.may_be_gone, session.sent_bytes = True, len(session.content)
        query = f"?digest={sha256(session.content)}"
        self._promises.blob_may_come(session.repository, session.content)
        self._ask(client, 201, "PUT", session.location + query, session.content[offset:])
        self._promises.blob(session.repository, session.content)


class Gone(Exception):
    """A session is gone that may be gone."""


def offset_of(answer: Answer, session: Session) -> int:
    """Return how many bytes the server says it has; an empty session says ``0-0``, as one of a byte does."""
    last = int(answer.headers["range"].removeprefix("bytes=").partition("-")[2])
    return 0 if last == 0 and not session.acknowledged_bytes else last + 1
