"""Several ranges in one request, as podman (zstd:chunked) and the stargz snapshotter send them."""

from __future__ import annotations

import dataclasses
from email import message_from_bytes
from email.message import Message
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.ranges import ByteRange
from dockreg_tx.ports import OpenBlob
from dockreg_tx.web.answers import PartsAnswer
from dockreg_tx.web.table import Endpoints
from dockreg_tx.web.v2.blobs import multipart_answer
from tests.web.api import ApiCase, Reply
from tests.web.wire import FileBlob, MemoryBlob

BLOB = bytes(range(256)) * 40
DIGEST = Digest.of(BLOB)
PATH = f"/v2/team/app/blobs/{DIGEST}"


def parts_of(content_type: str, body: bytes) -> list[tuple[str, str, bytes]]:
    """Return type, Content-Range and bytes of each part, as a client that trusts MIME would read them."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    assert not message.defects, message.defects
    found = []
    for part in cast("list[Message]", message.get_payload()):
        content = cast("bytes", part.get_payload(decode=True))
        found.append((part.get_content_type(), str(part["Content-Range"]), content))
    return found


class FileStore:
    """Blobs with descriptors, so that the kernel sends them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.opened: list[FileBlob] = []

    async def open(self, digest: Digest) -> OpenBlob:
        """Open the one blob."""
        self.opened.append(FileBlob(self.path, BLOB))
        return self.opened[-1]


class MultiRangeCase(ApiCase):
    """A registry with one blob."""

    async def fill(self) -> None:
        """Push it."""
        await self.world.push_blob(BLOB)

    async def get(self, wanted: str, **headers: str) -> Reply:
        """Ask for ranges."""
        return await self.call("GET", PATH, headers={"Range": wanted, **headers})

    async def check(self, wanted: str, *slices: tuple[int, int]) -> None:
        """Ask, and expect these slices, each from its first byte to its last."""
        reply = await self.get(wanted)
        self.assertEqual(206, reply.status, reply.body)
        expected = [
            ("application/octet-stream", f"bytes {start}-{end}/{len(BLOB)}", BLOB[start : end + 1])
            for start, end in slices
        ]
        self.assertEqual(expected, parts_of(str(reply.header("Content-Type")), reply.body))
        self.assertEqual(len(reply.body), reply.length)
        self.assertIsNone(reply.header("Content-Range"))


class MultiRangeTests(MultiRangeCase):
    """GET of a blob with several ranges."""

    async def test_order_is_kept(self) -> None:
        """Each range has its part, in the order asked for, also when they touch or overlap."""
        size = len(BLOB)
        await self.check("bytes=0-3,10-19", (0, 3), (10, 19))
        await self.check("bytes=500-599, 0-9", (500, 599), (0, 9))
        await self.check("bytes=0-9,10-19,5-14", (0, 9), (10, 19), (5, 14))
        await self.check("bytes=-3,9000-", (size - 3, size - 1), (9000, size - 1))
        await self.check(f"bytes=0-0,{size}-,1-1", (0, 0), (1, 1))

    async def test_thousand_ranges(self) -> None:
        """The 1,024 ranges of podman fit, in one header of many kilobytes."""
        slices = [(start * 10, start * 10 + 8) for start in range(1024)]
        await self.check("bytes=" + ",".join(f"{start}-{end}" for start, end in slices), *slices)

    async def test_too_many(self) -> None:
        """More than 2,048 are refused with 400: then clients ask for fewer."""
        reply = await self.get("bytes=" + ",".join(f"{start}-{start}" for start in range(2049)))
        self.assertEqual((400, "UNSUPPORTED"), (reply.status, reply.code))

    async def test_amplification(self) -> None:
        """Ranges that sum up to more than twice the blob are answered with the blob, once."""
        twice = await self.get("bytes=0-,0-")
        self.assertEqual(206, twice.status)
        for wanted in ("bytes=0-,0-,0-0", "bytes=" + ",".join(["0-"] * 2000)):
            reply = await self.get(wanted)
            self.assertEqual((200, BLOB), (reply.status, reply.body))
            self.assertEqual("application/octet-stream", reply.header("Content-Type"))

    async def test_single_range_is_no_multipart(self) -> None:
        """One range, or one that is left of several, is an ordinary 206."""
        for wanted in ("bytes=0-3", "bytes=0-3,99999-"):
            reply = await self.get(wanted)
            self.assertEqual((206, BLOB[:4]), (reply.status, reply.body))
            self.assertEqual(f"bytes 0-3/{len(BLOB)}", reply.header("Content-Range"))

    async def test_other_headers(self) -> None:
        """Digest, ETag and caching are those of the blob; If-Range of other content gets all of it."""
        reply = await self.get("bytes=0-3,5-6")
        self.assertEqual(str(DIGEST), reply.header("Docker-Content-Digest"))
        self.assertEqual(f'"{DIGEST}"', reply.header("ETag"))
        self.assertEqual("multipart/byteranges; boundary=boundary-of-the-tests", reply.header("Content-Type"))
        other = await self.get("bytes=0-3,5-6", **{"If-Range": '"other"'})
        self.assertEqual((200, BLOB), (other.status, other.body))

    async def test_unsatisfiable(self) -> None:
        """When no range touches the blob: 416 with its size."""
        reply = await self.get("bytes=99999-,88888-")
        self.assertEqual((416, f"bytes */{len(BLOB)}"), (reply.status, reply.header("Content-Range")))

    async def test_head_ignores_ranges(self) -> None:
        """HEAD tells of the whole blob."""
        reply = await self.call("HEAD", PATH, headers={"Range": "bytes=0-3,5-6"})
        self.assertEqual((200, str(len(BLOB))), (reply.status, reply.header("Content-Length")))


class FromFilesTests(MultiRangeCase):
    """The same when the kernel sends the slices."""

    def _endpoints(self) -> Endpoints:
        self.store = FileStore(self.mktemp())
        self.world.pull = dataclasses.replace(self.world.pull, blobs=self.store)  # type: ignore[arg-type]  # open only
        return super()._endpoints()

    async def test_slices_of_a_file(self) -> None:
        """Parts arrive whole and in order, connection after answer is good, the blob is closed once."""
        slices = [(start * 20, start * 20 + 18) for start in range(500)]
        for _ in range(2):
            await self.check("bytes=" + ",".join(f"{start}-{end}" for start, end in slices), *slices)
        self.assertEqual([1, 1], [blob.times_closed for blob in self.store.opened])


class MultipartPropertyTests(SynchronousTestCase):
    """``multipart_answer`` for any ranges."""

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=2, max_size=9))
    def test_any_ranges(self, wanted: list[tuple[int, int]]) -> None:
        """A MIME parser finds exactly the ranges in their order."""
        blob = MemoryBlob(BLOB[:50])
        ranges = [ByteRange(start, length) for start, length in wanted]
        answer: PartsAnswer = multipart_answer((), blob, ranges, "b0")
        body = b"".join(
            part if isinstance(part, bytes) else blob.content[part.start : part.start + part.length]
            for part in answer.parts
        )
        expected = [
            ("application/octet-stream", part.content_range(50), blob.content[part.start :][: part.length])
            for part in ranges
        ]
        self.assertEqual(expected, parts_of(answer.headers[0][1], body))
