"""Connections that take a plain request, whose head came in one piece, to its endpoint without detours.

A head that ``heads`` can read, for a target that the ``shortcut`` knows, becomes a light request here; all
else is parsed line by line. The endpoint is the same, and so are deadlines, pipelining and the access log.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any

from twisted.internet import tcp
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from dockreg_tx.web.body import RequestBody, WholeBody
from dockreg_tx.web.channel import RegistryChannel
from dockreg_tx.web.chunks import ChunkDecoder
from dockreg_tx.web.heads import BLOCK_LIMIT_BYTES
from dockreg_tx.web.outbox import send_now
from dockreg_tx.web.short_request import ShortRequest, begin

#: What one read takes from the socket, at other times and while a body comes.
READ_BYTES = 64 * 1024
BODY_READ_BYTES = 256 * 1024
#: What one read of a body in chunks takes; it is copied once more, before it leaves the processor's cache.
SCRATCH_BYTES = 512 * 1024
_HEAD_END = b"\r\n\r\n"
#: How requests begin that do no more than ask.
_ASKING = frozenset({b"GET /", b"HEAD "})


class ShortChannel(RegistryChannel):
    """One connection of a ``RegistrySite``."""

    @cached_property
    def addresses(self) -> tuple[Any, Any]:
        """The addresses of the client and of ours."""
        return self.getPeer(), self.getHost()

    @cached_property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted; it stays what it is."""
        return bool(self.isSecure())

    @cached_property
    def _is_plain(self) -> bool:
        return isinstance(self.transport, tcp.Connection) and not getattr(self.transport, "TLS", False)

    def open_body(self) -> None:
        """Read the body, in larger pieces than requests come in."""
        self.transport.bufferSize = BODY_READ_BYTES
        if self._is_plain:
            self.transport.doRead = self._read_body
        super().open_body()

    def allContentReceived(self) -> None:
        """End the body."""
        self.transport.bufferSize = READ_BYTES
        self._read_as_usual()
        super().allContentReceived()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # as HTTPChannel has it
        """Tell the exchange."""
        self._read_as_usual()
        super().connectionLost(reason)

    def _read_as_usual(self) -> None:
        if self._is_plain:
            self.transport.__dict__.pop("doRead", None)

    def _read_body(self) -> Exception | None:
        """Do what the transport's ``doRead`` does, into the memory of whoever takes the body."""
        room = self._body_room()
        if room is not None:
            return self._read_into(room, self._take_filled)
        decoder = self._transferDecoder
        if self._is_reading_body and type(decoder) is ChunkDecoder and decoder.is_inside:
            return self._read_into(self.site.scratch, self._take_chunks)
        transport = self.transport
        read: Callable[[Any], Exception | None] = type(transport).doRead
        return read(transport)

    def _read_into(self, memory: Any, take: Callable[[int], None]) -> Exception | None:
        """Read from the socket, and have as many bytes taken as came."""
        try:
            count = self.transport.socket.recv_into(memory)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not count:
            return CONNECTION_DONE
        self._note_progress(count)
        take(count)
        return None

    def _take_filled(self, count: int) -> None:
        # There is room only while both are there.
        self._transferDecoder.contentLength -= count  # type: ignore[union-attr]
        self._exchange.body.filled(count)  # type: ignore[union-attr]

    def _take_chunks(self, count: int) -> None:
        """Hand the content of chunks on, and what is not plain to the parser."""
        read = memoryview(self.site.scratch)[:count]
        pieces, end = self._transferDecoder.split(read)  # type: ignore[union-attr]
        if pieces:
            self._exchange.body.gather(pieces, read_bytes=count)  # type: ignore[union-attr]
        if end < count:
            self.dataReceived(bytes(read[end:]))

    @property
    def _is_reading_body(self) -> bool:
        """Whether what comes next is of a body, and somebody's."""
        return not (self._exchange is None or self._is_deaf or self._buffer)

    def _body_room(self) -> memoryview | None:
        """Return where to read to; None when chunked, and at the end, which the parser has to see."""
        left_bytes = getattr(self._transferDecoder, "contentLength", None) or 0
        if not self._is_reading_body or left_bytes <= BODY_READ_BYTES:
            return None
        room = self._exchange.body.room()  # type: ignore[union-attr]
        return None if room is None else room[: left_bytes - 1]

    def write(self, data: bytes) -> None:
        """Send bytes of an answer: when none wait before them at once, or with others of the same turn."""
        transport = self.transport
        if not (self._is_plain and transport.connected) or self._is_closing or _waits(transport):
            super().write(data)
            return
        self.reader.sent(len(data))
        if self.site.outbox.is_open:
            self.site.outbox.put(transport, data)
        else:
            send_now(transport, data)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the client."""
        # As ``is_idle``, without two calls for each request.
        is_busy = self._exchange or self._is_deaf or self._buffer
        if self.line_mode and not is_busy and self._HTTPChannel__first_line:
            question = self._question(data)
            if (question is not None and self._answer_again(question)) or self._begin_short(data, question):
                return
        super().dataReceived(data)

    def _question(self, data: bytes) -> Hashable:
        """Return all that the answer depends on; None for what does more than ask, or is long."""
        if data[:5] not in _ASKING or len(data) > BLOCK_LIMIT_BYTES:
            return None
        return self.site.heads.name_of(data), self._place

    @cached_property
    def _place(self) -> Hashable:
        # With no proxy before us the client's port decides nothing.
        return getattr(self.addresses[0], "host", None), self.is_secure

    def _answer_again(self, question: Hashable) -> bool:
        """Give the answer that the same question got a moment ago; without one False, and nothing is done."""
        site = self.site
        given = site.given(question)
        if given is None or self._is_held_up():
            return False
        began_at, started_at = site.reactor.seconds(), site.now()
        self._has_heard = True
        self.write(site.status_and_date(int(started_at)) + given.rest)
        site.log_again(given, began_at, started_at)
        if self._is_held_up():
            # As after any answer, the next one has to wait.
            self._handlingRequest = self._is_next_waiting = True
            self.setRawMode()
        else:
            self._deadline.set(self._limits.idle_timeout_seconds, self.loseConnection)
        return True

    def _is_held_up(self) -> bool:
        """Whether the client has to read what it was sent before."""
        return bool(self._waitingForTransport)

    def _begin_short(self, data: bytes, question: Hashable) -> bool:
        """Answer a request; False, and nothing is done, when it is none of the plain ones."""
        first_end, head_end = data.find(b"\r\n"), data.find(_HEAD_END)
        words = data[:first_end].split(b" ") if head_end >= 0 else ()
        if len(words) != 3 or words[2] != b"HTTP/1.1" or first_end > self._limits.request_line_bytes:
            return False
        serve = self.site.short_way(words[0], words[1])
        fields = None if serve is None else self.site.heads.fields(data[first_end + 2 : head_end + 2])
        body_at = head_end + len(_HEAD_END)
        missing_bytes = 0 if fields is None else fields.length_bytes - (len(data) - body_at)
        # Nothing else may be here.
        if serve is None or fields is None or missing_bytes < 0:
            return False
        request = ShortRequest(self, words[0], words[1], fields)
        self._has_heard = True
        self._deadline.clear()
        self._exchange = request
        self.persistent = True
        # Body or not, what follows is no head: it is kept until the exchange is over.
        self.setRawMode()
        if missing_bytes:
            self._expect_body(request, words, fields.length_bytes)
        else:
            self._handlingRequest = True
            if fields.length_bytes:
                request.body = WholeBody(data[body_at:])
            elif not self.site.is_draining:
                request.question = question
        self.site.request_began(request)
        begin(request, serve(request))
        if missing_bytes and len(data) > body_at:
            super().dataReceived(data[body_at:])
        return True

    def _expect_body(self, request: ShortRequest, words: Sequence[bytes], length_bytes: int) -> None:
        """Be where the parser is after a head."""
        request.body = RequestBody(length_bytes=length_bytes, inlet=self)
        self._HTTPChannel__first_line = 0
        self._command, self._path, self._version = words
        self.requests.append(request)
        self._maybeChooseTransferDecoder(b"Content-Length", b"%d" % length_bytes)


def _waits(transport: Any) -> bool:
    """Tell whether a transport has bytes to send, or may not send any more."""
    return bool(
        transport.dataBuffer
        or transport._tempDataBuffer
        or transport.disconnecting
        or transport._writeDisconnected
        or transport._writeDisconnecting
    )
