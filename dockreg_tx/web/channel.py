"""One HTTP/1.1 connection: limits on what is read, deadlines, and a reason for each time it does not read.

A channel serves one exchange at a time, and pipelined requests wait. An exchange is over when its answer
is finished *and* its body was read to the end; when a body will not be read, the connection lingers and
closes. With ``intake`` and ``outflow`` this is all that touches private parts of twisted.web; they were
read in Twisted 26.10.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IProducer, IReactorTime
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from dockreg_tx.oci.errors import BodyBroken
from dockreg_tx.ports import NewId, Now
from dockreg_tx.web import framing
from dockreg_tx.web.deadline import Deadline
from dockreg_tx.web.socket_queue import unsent_bytes

if TYPE_CHECKING:
    from dockreg_tx.web.intake import RegistryRequest

#: A body makes progress when this much came; one byte a minute is no progress.
PROGRESS_BYTES = 1024
#: The rest of an unwanted body is read, and the connection kept, when it is no longer than this.
SHORT_REST_BYTES = 64 * 1024
#: How much of pipelined requests is read while another one is being answered.
PIPELINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how large."""

    #: From the first byte of a request to the end of its headers.
    header_timeout_seconds: float = 10
    #: Without progress of a body that a handler wants to read.
    body_timeout_seconds: float = 60
    #: Between two requests.
    idle_timeout_seconds: float = 120
    #: Without progress of a client that reads an answer.
    stall_timeout_seconds: float = 60
    #: How long input is discarded after the answer to a request whose body is not read.
    linger_seconds: float = 2
    #: How much of it. Then reading stops and the time is waited out: a reset could destroy the answer.
    linger_bytes: int = 1024 * 1024
    request_line_bytes: int = 8 * 1024
    headers_bytes: int = 64 * 1024


class Surroundings(Protocol):
    """What a channel and its requests need of their site."""

    reactor: IReactorTime
    limits: Limits
    is_draining: bool
    requestFactory: Any

    new_request_id: NewId
    now: Now

    def channel_opened(self, channel: RegistryChannel) -> None:
        """Note a connection."""

    def channel_closed(self, channel: RegistryChannel) -> None:
        """Forget a connection."""

    def request_began(self, request: RegistryRequest) -> None:
        """Count a request in."""

    def request_ended(self, request: RegistryRequest) -> None:
        """Count it off: it is answered, or its client has gone."""

    def refused(self, channel: RegistryChannel, refusal: framing.Refusal) -> None:
        """Note an answer to something that did not become a request."""


class RegistryChannel(HTTPChannel):
    """One connection of a ``RegistrySite``."""

    site: Surroundings
    transport: Any  # TCP, UNIX or TLS; Twisted's interfaces do not tell what they have in common
    totalHeadersSize = sys.maxsize  # counted here instead
    timeOut = None  # timed here instead

    def __init__(self, site: Surroundings) -> None:
        super().__init__()
        self.site = self.factory = site
        self.requestFactory = site.requestFactory
        self._limits = site.limits
        self._deadline = Deadline(site.reactor)
        #: Why nothing is read at the moment.
        self._holds: set[str] = set()
        self._exchange: RegistryRequest | None = None
        self._to_start: RegistryRequest | None = None
        self._header_bytes = 0
        self._pipelined_bytes = 0
        self._discarded_bytes = 0
        self._unmoved_bytes = 0
        self._written_bytes = 0
        self._acknowledged_bytes = 0
        self._has_heard = False
        self._is_header_timed = False
        self._is_body_timed = False
        #: Input is discarded: the connection is going to close.
        self._is_deaf = False
        self._is_closing = False
        self._is_registered = False
        #: The exchange is over, but the client has to read its answer before the next one begins.
        self._is_next_waiting = False

    # --- the connection

    @property
    def MAX_LENGTH(self) -> int:  # type: ignore[override]  # a class attribute in LineReceiver
        """How long the line may be that is being read."""
        return self._limits.request_line_bytes if self._is_at_start_line else self._limits.headers_bytes

    @property
    def _is_at_start_line(self) -> bool:
        return bool(self._HTTPChannel__first_line)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return not (self._exchange or self._is_deaf or self._buffer) and self._is_at_start_line

    def connectionMade(self) -> None:
        """Wait for a request."""
        super().connectionMade()
        self._is_registered = True
        self.site.channel_opened(self)
        self._deadline.set(self._limits.idle_timeout_seconds, self.loseConnection)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # as HTTPChannel has it
        """Tell the exchange."""
        self._deadline.stop()
        self._is_deaf = self._is_closing = True
        self._is_registered = False
        exchange, self._exchange = self._exchange, None
        self.requests.clear()
        if exchange is not None:
            exchange.connectionLost(reason)
        self.site.channel_closed(self)

    def loseConnection(self) -> None:
        """Close when everything is written; abort when the client does not read it."""
        if self._is_closing:
            return
        self._is_deaf = self._is_closing = True
        # TLS closes only after it has read the other side's goodbye.
        self._release_all()
        self._leave_transport()
        self.transport.loseConnection()
        self.watch_reader()

    def abort(self) -> None:
        """Close now, dropping what is not sent."""
        self._is_deaf = self._is_closing = True
        self.transport.abortConnection()

    def _linger(self) -> None:
        # Closing with unread input sends a reset, and a reset can destroy an answer that is not read yet.
        if self._is_closing:
            return
        self._is_deaf = True
        self._leave_transport()
        # Without a way to half-close inside TLS, the answer's Content-Length has to be enough.
        if not self.isSecure() and hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()
        self._release_all()
        self._deadline.set(self._limits.linger_seconds, self.loseConnection)

    def _leave_transport(self) -> None:
        # A paused streaming producer would keep the transport from closing.
        if self._is_registered:
            self._is_registered = False
            self.transport.unregisterProducer()

    # --- what is read, and when nothing is

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._is_deaf:
            self._discard(data)
            return
        if not self._has_heard:
            self._has_heard = True
            if data[0] == framing.TLS_HANDSHAKE and not self.isSecure():
                self._refuse(framing.TLS_ON_PLAIN_PORT, http_version=b"HTTP/1.0")
                return
        LineReceiver.dataReceived(self, data)
        self._watch_header()

    def _discard(self, data: bytes) -> None:
        self._discarded_bytes += len(data)
        if self._discarded_bytes > self._limits.linger_bytes and not self._is_closing:
            self._networkProducer.pauseProducing()

    def _hold(self, why: str) -> None:
        if self._is_closing:
            return
        if not self._holds:
            self._networkProducer.pauseProducing()
        self._holds.add(why)

    def _release(self, why: str) -> None:
        if why in self._holds:
            self._holds.remove(why)
            if not self._holds:
                self._networkProducer.resumeProducing()

    def _release_all(self) -> None:
        self._holds.clear()
        self._networkProducer.resumeProducing()

    # --- headers

    def _watch_header(self) -> None:
        is_inside = self.line_mode and (self._buffer or not self._is_at_start_line)
        if is_inside and not self._is_header_timed and not self._is_deaf:
            self._is_header_timed = True
            self._deadline.set(self._limits.header_timeout_seconds, self._header_expired)

    def _header_expired(self) -> None:
        self._refuse(framing.TOO_SLOW)

    def lineReceived(self, line: bytes) -> None:
        """Take one line of a request's head, and start the handler after the last."""
        if self._is_deaf:
            return
        refusal = self._line_refusal(line)
        if refusal is not None:
            self._refuse(refusal)
            return
        super().lineReceived(line)
        # Not from inside allHeadersReceived: only now is the parser ready for what follows.
        request, self._to_start = self._to_start, None
        if request is not None:
            request.start()

    def _line_refusal(self, line: bytes) -> framing.Refusal | None:
        if self._is_at_start_line:
            self._header_bytes = 0
            return None
        self._header_bytes += len(line) + len(self.delimiter)
        if self._header_bytes > self._limits.headers_bytes + len(self.delimiter):
            return framing.HEADERS_TOO_LARGE
        return framing.FOLDED_HEADER if line[:1] in (b" ", b"\t") else None

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request line or header that is too long."""
        self._refuse(framing.TARGET_TOO_LONG if self._is_at_start_line else framing.HEADERS_TOO_LARGE)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Content-Length" and len(data) > framing.CONTENT_LENGTH_DIGITS:
            self._refuse(framing.BAD_LENGTH)
            return False
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def allHeadersReceived(self) -> None:
        """Accept a request, or refuse it."""
        if self._is_deaf:
            return
        self._is_header_timed = False
        self._deadline.clear()
        request: RegistryRequest = self.requests[-1]
        self._path = framing.origin_form(self._path)
        refusal = framing.refusal_of(self._command, self._path, self._version, request.requestHeaders)
        if refusal is not None:
            self._refuse(refusal)
            return
        request.parseCookies()
        self.persistent = self.checkPersistence(request, self._version)
        request.start_line = (self._command, self._path, self._version)
        request.gotLength(self.length)
        self._exchange = self._to_start = request

    def checkPersistence(self, request: RegistryRequest, version: bytes) -> bool:
        """Tell whether the client wants to keep the connection; HTTP/1.0 never does."""
        fields = request.requestHeaders.getRawHeaders(b"Connection", [])
        tokens = {token.strip(b" \t").lower() for field in fields for token in field.split(b",")}
        return version == b"HTTP/1.1" and b"close" not in tokens

    def _respondToBadRequestAndDisconnect(self) -> None:
        if self._exchange is None:
            self._refuse(framing.MALFORMED)
        else:
            self._break_body("the chunked encoding of the body is broken")

    def _refuse(self, refusal: framing.Refusal, *, http_version: bytes = b"HTTP/1.1") -> None:
        if self._is_deaf:
            return
        self.requests.clear()
        self._exchange = self._to_start = None
        self.setRawMode()
        with_body = self.refused_start_line[0] != b"HEAD"
        self.write(refusal.answer(http_version=http_version, with_body=with_body))
        self.site.refused(self, refusal)
        self._linger()

    @property
    def refused_start_line(self) -> tuple[bytes, bytes, bytes]:
        """Method, target and version as far as they were understood, else empty."""
        return (getattr(self, "_command", b""), getattr(self, "_path", b""), getattr(self, "_version", b""))

    # --- bodies

    def rawDataReceived(self, data: bytes) -> None:
        """Take bytes of a body, or of requests that have to wait."""
        if self._is_deaf:
            self._discard(data)
        elif self._handlingRequest:
            self._dataBuffer.append(data)
            self._pipelined_bytes += len(data)
            if self._pipelined_bytes > PIPELINE_BYTES:
                self._hold("pipeline")
        else:
            self._note_progress(len(data))
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        """End the body."""
        request = self._exchange
        if request is None:
            return
        self._reset_parser()
        self._handlingRequest = True
        # What follows is kept until the exchange is over.
        self.setRawMode()
        self._stop_body_clock()
        self._release("body")
        was_answered = request.is_answered
        request.body.complete()
        if was_answered:
            self._end_exchange()

    def _reset_parser(self) -> None:
        self.length = 0
        self._receivedHeaderCount = 0
        self._receivedHeaderSize = 0
        self._HTTPChannel__first_line = 1
        self._transferDecoder = None
        del self._command, self._path, self._version

    def hold_body(self) -> None:
        """Stop reading the body (``body.Inlet``)."""
        self._stop_body_clock()
        self._hold("body")

    def open_body(self) -> None:
        """Read the body, and expect progress (``body.Inlet``)."""
        self._is_body_timed = True
        self._unmoved_bytes = 0
        self._deadline.set(self._limits.body_timeout_seconds, self._body_expired)
        self._release("body")

    def ask_for_body(self) -> None:
        """Send ``100 Continue`` if the client waits for it (``body.Inlet``)."""
        if self._exchange is not None:
            self._exchange.send_continue()

    def _note_progress(self, received_bytes: int) -> None:
        self._unmoved_bytes += received_bytes
        if self._is_body_timed and self._unmoved_bytes >= PROGRESS_BYTES:
            self._unmoved_bytes = 0
            self._deadline.set(self._limits.body_timeout_seconds, self._body_expired)

    def _stop_body_clock(self) -> None:
        if self._is_body_timed:
            self._is_body_timed = False
            self._deadline.clear()

    def _body_expired(self) -> None:
        self._break_body(f"no bytes of the body came for {self._limits.body_timeout_seconds:g} seconds")

    def _break_body(self, reason: str) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._is_body_timed = False
        self._is_deaf = True
        self.persistent = False
        exchange.body.break_off(BodyBroken(reason))
        if exchange.is_answered:
            self._linger()

    # --- answers

    def answer_begins(self, request: RegistryRequest) -> None:
        """Decide whether the connection can be kept after the answer to ``request``."""
        if self.site.is_draining or not (request.body.is_complete or self._has_short_rest(request)):
            self.persistent = False

    def _has_short_rest(self, request: RegistryRequest) -> bool:
        length_bytes = request.body.length_bytes
        return (
            length_bytes is not None
            and not request.body.is_over
            and not request.awaits_continue
            and length_bytes - request.body.received_bytes <= SHORT_REST_BYTES
        )

    def requestDone(self, request: RegistryRequest) -> None:
        """Go on after an answer, when the body is done with too."""
        request.is_answered = True
        if request.body.is_complete:
            self._end_exchange()
        elif not self.persistent:
            self._linger()
        else:
            request.body.discard()
            self._release("body")
            self._deadline.set(self._limits.linger_seconds, self._linger)

    def _end_exchange(self) -> None:
        if self._waitingForTransport and self.persistent:
            # Else a client that never reads could pile up answers to pipelined requests.
            self._is_next_waiting = True
            return
        self._exchange = None
        self.requests.clear()
        if not self.persistent or self.site.is_draining:
            self.loseConnection()
            return
        self._handlingRequest = False
        self._deadline.set(self._limits.idle_timeout_seconds, self.loseConnection)
        data = b"".join(self._dataBuffer)
        self._dataBuffer = []
        self._pipelined_bytes = 0
        self._release_all()
        self.line_mode = 1
        if data:
            LineReceiver.dataReceived(self, data)
        self._watch_header()

    def write(self, data: bytes) -> None:
        """Send bytes of an answer."""
        self._written_bytes += len(data)
        self.transport.write(data)

    def note_sent(self, sent_bytes: int) -> None:
        """Count bytes that were given to the socket without passing ``write``."""
        self._written_bytes += sent_bytes

    def pauseProducing(self) -> None:
        """Stop answering: the client has to read first."""
        self._waitingForTransport = True
        self.watch_reader()
        if self._requestProducer is not None:
            self._requestProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on: everything is sent."""
        self._waitingForTransport = False
        self.unwatch_reader()
        if self._requestProducer is not None:
            self._requestProducer.resumeProducing()
        if self._is_next_waiting:
            self._is_next_waiting = False
            self._end_exchange()

    def lend_transport(self, producer: IProducer) -> None:
        """Let ``producer`` fill the socket itself: it is called whenever everything written is sent."""
        self._leave_transport()
        self.watch_reader()
        self.transport.registerProducer(producer, False)

    def take_transport_back(self) -> None:
        """Undo ``lend_transport``."""
        self.unwatch_reader()
        self.transport.unregisterProducer()
        if not self._is_closing:
            self._waitingForTransport = False
            self._is_registered = True
            self.transport.registerProducer(self, True)

    def watch_reader(self) -> None:
        """Abort unless the client reads some of what is being sent, again and again."""
        self._acknowledged_bytes = self._written_bytes - unsent_bytes(self.transport)
        self._deadline.set(self._limits.stall_timeout_seconds, self._check_reader)

    def unwatch_reader(self) -> None:
        """Expect nothing of the reader."""
        if not self._is_closing:
            self._deadline.clear()

    def _check_reader(self) -> None:
        acknowledged_bytes = self._written_bytes - unsent_bytes(self.transport)
        if acknowledged_bytes > self._acknowledged_bytes:
            self.watch_reader()
        else:
            self.abort()
