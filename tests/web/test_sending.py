"""Answers that carry blobs."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.web.answers import BlobAnswer
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.sending import send_content
from tests.web.wire import MemoryBlob, MemoryWire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class SendContentTests(SynchronousTestCase):
    def answer_with(self, blob: MemoryBlob) -> MemoryWire:
        """Return the wire on which a request was answered with a blob."""

        async def handle(request: RegistryRequest) -> None:
            await send_content(request, BlobAnswer(200, (("ETag", '"e"'),), blob, 0, blob.size_bytes))

        wire = MemoryWire(handle)
        wire.send(GET)
        return wire

    def test_whole(self) -> None:
        """A blob is sent with its headers, and closed."""
        blob = MemoryBlob(b"content")
        (answer,) = self.answer_with(blob).answers
        self.assertEqual((200, b"content", '"e"'), (answer.status, answer.body, answer.headers["etag"]))
        self.assertEqual(1, blob.times_closed)

    def test_unreadable(self) -> None:
        """One that cannot be read from the first byte on is a refusal in the OCI form, no failure of ours."""

        class Unreadable(MemoryBlob):
            async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
                raise StoreUnavailable("the disk failed")

        blob = Unreadable(b"content")
        (answer,) = self.answer_with(blob).answers
        self.assertEqual((503, "UNAVAILABLE"), (answer.status, json.loads(answer.body)["errors"][0]["code"]))
        self.assertNotIn("etag", answer.headers)
        self.assertEqual((1, 1), (blob.times_closed, blob.times_suspected))
