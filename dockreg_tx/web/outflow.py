"""Answers on their way out: in one write when the body is known, else no faster than the client reads.

Blobs leave a plain connection by ``sendfile``, without passing through this process; over TLS, or from a
store without descriptors, by a push producer that reads one chunk ahead. Nothing here closes a blob: that
is the caller's, after ``send_blob`` has returned or raised, however it went.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import OpenBlob
from dockreg_tx.web.framing import reason_phrase, rest_of_head
from dockreg_tx.web.intake import RegistryRequest

Header = tuple[bytes, bytes]
#: Bytes of a blob: the blob, where they start, how many.
Slice = tuple[OpenBlob, int, int]

#: What a push producer reads at a time; two of them are in memory for each slow client.
CHUNK_BYTES = 256 * 1024
#: What one connection may send before the others get their turn.
TURN_BYTES = 2 * 1024 * 1024

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
    if request.is_over:
        return
    head = _bare_head(request, status, headers, length_bytes=len(body))
    payload = b"" if request.method == b"HEAD" else body
    request.sentLength = len(payload)
    request.channel_or_raise().write(head + payload)
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
    first = b"" if is_silent else await _first_chunk(request, parts)
    if _has_gone(request):
        return
    head = _head(request, status, headers, length_bytes=length_bytes, is_silent=is_silent)
    request.channel_or_raise().write(head)
    try:
        for part in () if is_silent else parts:
            await _send_part(request, part, first)
            first = b""
    except _ClientGone:
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


async def _first_chunk(request: RegistryRequest, parts: Sequence[bytes | Slice]) -> bytes:
    """Read the first chunk while an error can still be answered; sendfile has no such chance."""
    if not parts or isinstance(parts[0], bytes) or _descriptor_for(request, parts[0][0]) is not None:
        return b""
    blob, start, length = parts[0]
    try:
        return await blob.read_at(start, min(length, CHUNK_BYTES))
    except StoreUnavailable:
        blob.suspect()
        raise


async def _send_part(request: RegistryRequest, part: bytes | Slice, first: bytes) -> None:
    if _has_gone(request):
        raise _ClientGone
    if isinstance(part, bytes):
        request.channel_or_raise().write(part)
        request.sentLength += len(part)
        return
    blob, start, length = part
    descriptor = _descriptor_for(request, blob)
    if descriptor is None:
        await _Pump(request, blob, start, length).run(first)
    elif length:
        await _FileSender(request, descriptor, start, length).run()


def _descriptor_for(request: RegistryRequest, blob: OpenBlob) -> int | None:
    """Return the blob's descriptor if the kernel can send it over this connection."""
    transport: object = request.transport
    if isinstance(transport, tcp.Connection) and not getattr(transport, "TLS", False):
        return blob.fileno()
    return None


class _ClientGone(Exception):
    """Nobody reads the answer any more."""


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
            _ClientGone: the connection was lost.
        """
        request = self._request
        channel = request.channel_or_raise()
        channel.registerProducer(self, True)
        request.output_lost = self.stopProducing
        try:
            while self._position < self._end:
                chunk = chunk or await self._read(self._position)
                if self._is_gone:
                    raise _ClientGone
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


@implementer(IPullProducer)
class _FileSender:
    """Lets the kernel copy from a file to a socket.

    It takes the channel's place as the transport's producer and calls itself a pull producer: the transport
    then calls ``resumeProducing`` each time the socket is writable and nothing waits in its own buffer.
    """

    def __init__(self, request: RegistryRequest, descriptor: int, start: int, length: int) -> None:
        self._request = request
        self._descriptor = descriptor
        self._position = start
        self._end = start + length
        self._done: Deferred[None] = Deferred()
        self._transport: Any = request.transport
        self._channel = request.channel_or_raise()
        self._has_begun = False
        self._is_gone = False
        self._advised_end = start

    async def run(self) -> None:
        """Send everything.

        Raises:
            _ClientGone: the connection was lost.
            OSError: the file could not be read.
        """
        self._request.output_lost = self.stopProducing
        # This calls resumeProducing once, before the headers are out.
        self._channel.lend_transport(self)
        self._has_begun = True
        self._transport.startWriting()
        try:
            await self._done
        finally:
            self._request.output_lost = None
            if not self._is_gone:
                self._channel.take_transport_back()
        if self._is_gone:
            raise _ClientGone

    def resumeProducing(self) -> None:
        """Send as much as the socket takes, but no more than one turn's worth."""
        if not self._has_begun or self._done.called:
            return
        try:
            is_finished = self._send_turn()
        except OSError as error:
            self._end_with(error)
            return
        if is_finished:
            self._done.callback(None)
        else:
            self._transport.startWriting()

    def _send_turn(self) -> bool:
        socket = self._transport.fileno()
        turn_end = min(self._end, self._position + TURN_BYTES)
        self._advise(turn_end)
        while self._position < turn_end:
            try:
                sent_bytes = os.sendfile(socket, self._descriptor, self._position, turn_end - self._position)
            except BlockingIOError:
                break
            if not sent_bytes:
                raise OSError(f"the blob ends {self._end - self._position} bytes too early")
            self._position += sent_bytes
            self._request.sentLength += sent_bytes
            self._channel.reader.sent(sent_bytes)
        return self._position >= self._end

    def _advise(self, turn_end: int) -> None:
        # The next turn's bytes come from the disk while this turn's leave.
        if turn_end > self._advised_end:
            self._advised_end = turn_end + TURN_BYTES
            os.posix_fadvise(self._descriptor, turn_end, TURN_BYTES, os.POSIX_FADV_WILLNEED)

    def _end_with(self, error: OSError) -> None:
        if isinstance(error, ConnectionError):
            # The transport has not noticed yet that the client has gone.
            self._transport.abortConnection()
            return
        self._done.errback(Failure(error))

    def stopProducing(self) -> None:
        """End: the client has gone."""
        self._is_gone = True
        if not self._done.called:
            self._done.callback(None)


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
    request: RegistryRequest, status: int, headers: Sequence[tuple[str, str]], *, length_bytes: int
) -> bytes:
    """Return the head of an answer to which nothing was added but what ``headers`` say."""
    request.code = status
    request.begin_answer()
    rest = rest_of_head(headers, length_bytes=length_bytes)
    closing = "" if request.channel_or_raise().persistent else "Connection: close\r\n"
    lines = f"{_status_line(status)}Date: {request.site.date_text}\r\n{closing}{rest}"
    return request.started(lines.encode("latin-1"))


@cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {reason_phrase(status).decode('ascii')}\r\n"


def _line(name: bytes, value: bytes) -> bytes:
    if b"\n" in value or b"\r" in value:
        raise ValueError("a header value must not contain line breaks")
    return name + b": " + value
