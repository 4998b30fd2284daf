"""``/v2/<name>/blobs/<digest>`` (spec: end-2, end-10)."""

from __future__ import annotations

from collections.abc import Sequence

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.oci.ranges import ByteRange, parse_range
from dockreg_tx.ports import BlobRecord, NewId, OpenBlob
from dockreg_tx.registry.pull import Pull
from dockreg_tx.registry.remove import Remove
from dockreg_tx.web.answers import Answer, AnyAnswer, BlobAnswer, Headers, PartsAnswer
from dockreg_tx.web.calls import Call
from dockreg_tx.web.conditions import is_not_modified

CONTENT_TYPE = "application/octet-stream"
#: Blobs up to this leave in one write.
WHOLE_LIMIT_BYTES = 64 * 1024
#: Ranges may overlap, but not so that a short request makes us send more than this many times the blob.
AMPLIFICATION_LIMIT = 2


class Blobs:
    """Blobs of a repository; ``new_boundary`` makes what separates the parts of a multi-range answer."""

    def __init__(self, *, pull: Pull, remove: Remove, new_boundary: NewId) -> None:
        self._pull = pull
        self._remove = remove
        self._new_boundary = new_boundary

    async def get(self, call: Call) -> AnyAnswer:
        """Answer the blob, or the ranges that were asked for."""
        find = self._pull.promise_blob if call.is_head else self._pull.find_blob
        record = await find(call.repository, Digest.parse(call.parts["digest"]))
        headers = _headers(record)
        if is_not_modified(call.headers.get("If-None-Match"), record.digest):
            return Answer(304, headers)
        if call.is_head:
            return Answer(200, (*headers, ("Content-Length", str(record.size_bytes))))
        wanted = _ranges(call, record)
        blob = await self._pull.open_blob(record)
        if not wanted and record.size_bytes <= WHOLE_LIMIT_BYTES:
            return await _whole(headers, blob)
        if not wanted:
            return BlobAnswer(200, headers, blob, 0, record.size_bytes)
        if len(wanted) > 1:
            return multipart_answer(headers, blob, wanted, self._new_boundary())
        content_range = ("Content-Range", wanted[0].content_range(record.size_bytes))
        return BlobAnswer(206, (*headers, content_range), blob, wanted[0].start, wanted[0].length)

    async def delete(self, call: Call) -> Answer:
        """Unlink the blob from this repository only."""
        await self._remove.blob(call.repository, Digest.parse(call.parts["digest"]), by=call.owner)
        return Answer(202)


async def _whole(headers: Headers, blob: OpenBlob) -> AnyAnswer:
    """Return a small blob in one piece, with its head in one write."""
    try:
        content = await blob.read_at(0, blob.size_bytes)
    except StoreUnavailable:
        blob.suspect()
        blob.close()
        raise
    except BaseException:
        blob.close()
        raise
    if len(content) < blob.size_bytes:
        # Cut short under our eyes: sending it in pieces ends as it must.
        return BlobAnswer(200, headers, blob, 0, blob.size_bytes)
    blob.close()
    return Answer(200, headers, content)


def _headers(record: BlobRecord) -> Headers:
    return (
        ("Content-Type", CONTENT_TYPE),
        ("Docker-Content-Digest", str(record.digest)),
        ("ETag", f'"{record.digest}"'),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "private, max-age=31536000, immutable"),
    )


def _ranges(call: Call, record: BlobRecord) -> tuple[ByteRange, ...]:
    """Return the ranges to send in their order, none to send the whole blob."""
    condition = call.headers.get("If-Range")
    if condition is not None and condition.strip() != f'"{record.digest}"':
        return ()
    ranges = parse_range(call.headers.get("Range"), record.size_bytes) or ()
    is_too_much = sum(part.length for part in ranges) > AMPLIFICATION_LIMIT * record.size_bytes
    return () if is_too_much else ranges


def multipart_answer(
    headers: Headers, blob: OpenBlob, ranges: Sequence[ByteRange], boundary: str
) -> PartsAnswer:
    """Return multipart/byteranges: podman and stargz match the parts with their ranges by order."""
    parts: list[bytes | ByteRange] = []
    for part in ranges:
        lines = (
            f"--{boundary}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Range: {part.content_range(blob.size_bytes)}",
        )
        line_break = "\r\n" if parts else ""
        parts += [(line_break + "\r\n".join(lines) + "\r\n\r\n").encode("ascii"), part]
    parts.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    others = tuple(header for header in headers if header[0] != "Content-Type")
    kind = ("Content-Type", f"multipart/byteranges; boundary={boundary}")
    return PartsAnswer(206, (kind, *others), blob, tuple(parts))
