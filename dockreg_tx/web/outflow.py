"""Answers on their way out: in one write when the body is known, else no faster than the client reads.

Blobs leave a plain connection by ``sendfile``, without passing through this process; over TLS, or from a
store without descriptors, by a push producer that reads one chunk ahead. Nothing here closes a blob: that
is the caller's, after ``send_blob`` has returned or raised, however it went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import OpenBlob
from dockreg_tx.web.channel import RegistryChannel
from dockreg_tx.web.framing import reason_phrase, rest_of_head
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.sendfile import WINDOW_BYTES, ClientGone, FileSender

Header = tuple[bytes, bytes]
#: Bytes of a blob: the blob, where they start, how many.
Slice = tuple[OpenBlob, int, int]

#: What a push producer reads at a time; two of them are in memory for each slow client.
CHUNK_BYTES = 256 * 1024

#: These have no body, and no headers that describe one.
_BODILESS = (204, 304)
_log = Logger()


def send(request: RegistryRequest, status: int, headers: Sequence[Header], body: bytes) -> None:
    """Finish an answer whose body is known; head and body leave in one write.

    A HEAD request gets the head alone, with the Content-Length of ``headers`` if there is one, else that of
    ``body``. Does nothing when the client has gone.
    """
    if request.is_over:
        return
    is_silent = request.method == b"HEAD" or status in _BODILESS
    payload = b"" if is_silent else body
    head = _head(request, status, headers, length_bytes=len(body), is_silent=is_silent)
    request.sentLength = len(payload)
    request.channel_or_raise().write(head + payload)
    request.finish()


def send_text(request: RegistryRequest, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
    """Finish an answer as ``send`` does, for headers as text."""
    if status in _BODILESS or not request.is_bare:
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        send(request, status, fields, body)
        return
    channel = request.channel
    if channel is None or request.is_over:
        return
    head = _bare_head(request, channel, status, headers, length_bytes=len(body))
    payload = b"" if request.method == b"HEAD" else body
    request.sentLength = len(payload)
    channel.write(head + payload)
    request.finish()


async def send_blob(
    request: RegistryRequest, status: int, headers: Sequence[Header], blob: OpenBlob, start: int, length: int
) -> None:
    """Send ``length`` bytes of a blob from ``start`` on, and finish the answer.

    Returns when the last byte was given to the connection, or silently when the client has gone; the caller
    closes the blob then. A store that fails in the middle cuts the connection, so that the client cannot
    take a part for the whole.

    Raises:
        StoreUnavailable: the disk failed before anything was sent.
    """
    await send_parts(request, status, headers, [(blob, start, length)])


async def send_parts(
    request: RegistryRequest, status: int, headers: Sequence[Header], parts: Sequence[bytes | Slice]
) -> None:
    """Send texts and slices of blobs one after the other, as multipart/byteranges needs it.

    Raises:
        StoreUnavailable: as ``send_blob``.
    """
    if _has_gone(request):
        return
    length_bytes = sum(len(part) if isinstance(part, bytes) else part[2] for part in parts)
    is_silent = request.method == b"HEAD" or status in _BODILESS
    first = _Beginning() if is_silent else await _beginning(request, parts)
    if _has_gone(request):
        return
    head = _head(request, status, headers, length_bytes=length_bytes, is_silent=is_silent)
    request.channel_or_raise().write(head)
    try:
        for part in () if is_silent else parts:
            await _send_part(request, part, first)
            first = _Beginning()
    except ClientGone:
        return
    except (OSError, StoreUnavailable, _TruncatedBlob) as error:
        _cut_off(request, parts, error)
        return
    except Exception:  # noqa: BLE001 - too late for an error answer
        _log.failure("request {request_id}: sending a blob failed", request_id=request.request_id)
        if not _has_gone(request):
            request.channel_or_raise().abort()
        return
    request.finish()


def _cut_off(request: RegistryRequest, parts: Sequence[bytes | Slice], error: Exception) -> None:
    """Break the connection: the head with its length is out, so nothing else tells that this is not all."""
    _log.error(
        "request {request_id}: cut off, for a blob cannot be read: {error}",
        request_id=request.request_id,
        error=error,
    )
    for part in parts:
        if not isinstance(part, bytes) and not isinstance(error, ConnectionError):
            part[0].suspect()
    if not _has_gone(request):
        request.channel_or_raise().abort()


def _has_gone(request: RegistryRequest) -> bool:
    return request.is_over


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What was read of a blob before the head went out: a chunk, or so much that sendfile need not wait."""

    chunk: bytes = b""
    ready_bytes: int = 0
    is_cold: bool = False


async def _beginning(request: RegistryRequest, parts: Sequence[bytes | Slice]) -> _Beginning:
    """Read the beginning while an error can still be answered."""
    if not parts or isinstance(parts[0], bytes):
        return _Beginning()
    blob, start, length = parts[0]
    try:
        if _descriptor_for(request, blob) is None:
            return _Beginning(await blob.read_at(start, min(length, CHUNK_BYTES)))
        ready_bytes = min(length, WINDOW_BYTES)
        if is_cold := not blob.is_cached(start, ready_bytes):
            await blob.read_ahead(start, ready_bytes)
        return _Beginning(b"", ready_bytes, is_cold)
    except StoreUnavailable:
        blob.suspect()
        raise


async def _send_part(request: RegistryRequest, part: bytes | Slice, beginning: _Beginning) -> None:
    if _has_gone(request):
        raise ClientGone
    if isinstance(part, bytes):
        request.channel_or_raise().write(part)
        request.sentLength += len(part)
        return
    blob, start, length = part
    descriptor = _descriptor_for(request, blob)
    if descriptor is None:
        await _Pump(request, blob, start, length).run(beginning.chunk)
    elif length:
        sender = FileSender(request, blob, descriptor, start, length)
        await sender.run(ready_bytes=beginning.ready_bytes, is_cold=beginning.is_cold)


def _descriptor_for(request: RegistryRequest, blob: OpenBlob) -> int | None:
    """Return the blob's descriptor if the kernel can send it over this connection."""
    transport: object = request.transport
    if isinstance(transport, tcp.Connection) and not getattr(transport, "TLS", False):
        return blob.fileno()
    return None


class _TruncatedBlob(Exception):
    """A blob has fewer bytes than its size says."""


@implementer(IPushProducer)
class _Pump:
    """Reads a slice of a blob and writes it, pausing when the connection is full."""

    def __init__(self, request: RegistryRequest, blob: OpenBlob, start: int, length: int) -> None:
        self._request = request
        self._blob = blob
        self._position = start
        self._end = start + length
        self._is_paused = False
        self._is_gone = False
        self._wake: Deferred[None] | None = None

    async def run(self, chunk: bytes) -> None:
        """Send everything.

        Args:
            chunk: the first bytes of the slice if they were read already, else empty.

        Raises:
            ClientGone: the connection was lost.
        """
        request = self._request
        channel = request.channel_or_raise()
        channel.registerProducer(self, True)
        request.output_lost = self.stopProducing
        try:
            while self._position < self._end:
                chunk = chunk or await self._read(self._position)
                if self._is_gone:
                    raise ClientGone
                chunk = await self._write(chunk)
        finally:
            request.output_lost = None
            channel.unregisterProducer()

    async def _write(self, chunk: bytes) -> bytes:
        """Write a chunk, and read the next one while it leaves."""
        self._request.channel_or_raise().write(chunk)
        self._request.sentLength += len(chunk)
        self._position += len(chunk)
        if self._position >= self._end:
            return b""
        ahead = Deferred.fromCoroutine(self._read(self._position))
        if self._is_paused and not self._is_gone:
            self._wake = Deferred()
            await self._wake
        # Waited for even if nobody wants it now: the blob may be closed only after it.
        return await ahead

    async def _read(self, position: int) -> bytes:
        chunk = await self._blob.read_at(position, min(CHUNK_BYTES, self._end - position))
        if not chunk:
            raise _TruncatedBlob(f"{self._end - position} bytes are missing")
        return chunk

    def pauseProducing(self) -> None:
        """Write no more for now."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Go on writing."""
        self._is_paused = False
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    def stopProducing(self) -> None:
        """End: the client has gone."""
        self._is_gone = True
        self.resumeProducing()


def _head(
    request: RegistryRequest,
    status: int,
    headers: Sequence[Header],
    *,
    length_bytes: int,
    is_silent: bool,
) -> bytes:
    request.setResponseCode(status)
    added = request.responseHeaders
    request.begin_answer()
    fields: dict[bytes, list[Header]] = {}
    for name, values in added.getAllRawHeaders():
        fields[name.lower()] = [(name, value) for value in values]
    for name in dict.fromkeys(name.lower() for name, _ in headers):
        fields[name] = [header for header in headers if header[0].lower() == name]
    if not is_silent or b"content-length" not in fields:
        fields[b"content-length"] = [(b"Content-Length", b"%d" % length_bytes)]
    if status in _BODILESS:
        fields.pop(b"content-type", None)
        fields.pop(b"content-length")
    lines = [b"%b %d %b" % (request.clientproto, status, reason_phrase(status))]
    lines += [_line(name, value) for values in fields.values() for name, value in values]
    return request.started(b"\r\n".join([*lines, b"", b""]))


def _bare_head(
    request: RegistryRequest,
    channel: RegistryChannel,
    status: int,
    headers: Sequence[tuple[str, str]],
    *,
    length_bytes: int,
) -> bytes:
    """Return the head of an answer to which nothing was added but what ``headers`` say."""
    request.code = status
    request.begin_answer()
    rest = rest_of_head(headers, length_bytes=length_bytes)
    closing = "" if channel.persistent else "Connection: close\r\n"
    lines = f"{_status_line(status)}Date: {request.site.date_text}\r\n{closing}{rest}"
    return request.started(lines.encode("latin-1"))


@cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {reason_phrase(status).decode('ascii')}\r\n"


def _line(name: bytes, value: bytes) -> bytes:
    if b"\n" in value or b"\r" in value:
        raise ValueError("a header value must not contain line breaks")
    return name + b": " + value
