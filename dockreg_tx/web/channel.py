"""One HTTP/1.1 connection: limits on what is read, deadlines, and a reason for each time it does not read.

A channel serves one exchange at a time, and pipelined requests wait. An exchange is over when its answer
is finished *and* its body was read to the end; when a body will not be read, the connection lingers and
closes. Private parts of twisted.web are touched here and in few modules beside it, which the test of the
architecture names; they were read in Twisted 26.10.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IProducer
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from dockreg_tx.oci.errors import BodyBroken
from dockreg_tx.web import framing
from dockreg_tx.web.channel_state import ChannelState
from dockreg_tx.web.chunks import faster
from dockreg_tx.web.deadline import Deadline
from dockreg_tx.web.patience import Patience
from dockreg_tx.web.reader import Reader
from dockreg_tx.web.surroundings import Surroundings
from dockreg_tx.web.valve import Valve

if TYPE_CHECKING:
    from dockreg_tx.web.intake import RegistryRequest

#: A body makes progress when this much came; one byte a minute is no progress.
PROGRESS_BYTES = 1024
#: How much of pipelined requests is read while another one is being answered.
PIPELINE_BYTES = 16 * 1024


class RegistryChannel(ChannelState, HTTPChannel, Patience):
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
        self.reader = Reader(self._deadline, site.limits.stall_timeout_seconds)
        self._exchange = self._to_start = cast("RegistryRequest | None", None)
        self._header_bytes = self._discarded_bytes = self._unmoved_bytes = 0
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
        self._valve = Valve(self._networkProducer)
        self.site.channel_opened(self)
        self._await_first_request()

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
        self._valve.open()
        self._leave_transport()
        self.transport.loseConnection()
        close = self.reader.watch_goodbye if self.isSecure() else self.reader.watch
        close(self.transport, self.abort)

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
        self._valve.open()
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
            self._valve.hold("linger")

    # --- headers

    def _watch_header(self) -> None:
        is_inside = self.line_mode and (self._buffer or not self._is_at_start_line)
        if is_inside and not self._is_header_timed and not self._is_deaf:
            self._is_header_timed = True
            self._deadline.set(self._limits.header_timeout_seconds, partial(self._refuse, framing.TOO_SLOW))

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
        is_taken = bool(super()._maybeChooseTransferDecoder(header, data))
        self._transferDecoder = faster(self._transferDecoder)
        return is_taken

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
        self.persistent = framing.is_persistent(self._version, request.requestHeaders)
        request.start_line = (self._command, self._path, self._version)
        request.gotLength(self.length)
        self._exchange = self._to_start = request

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
        request_id = self.site.new_request_id()
        self.write(refusal.answer(request_id, http_version=http_version, with_body=with_body))
        self.site.refused(self, refusal, request_id)
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
            if sum(map(len, self._dataBuffer)) > PIPELINE_BYTES:
                self._valve.hold("pipeline")
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
        self._valve.release("body")
        was_answered = request.is_answered
        request.body.complete()
        if was_answered:
            self._end_exchange()

    def _reset_parser(self) -> None:
        self.length = 0
        self._receivedHeaderCount = self._receivedHeaderSize = 0
        self._HTTPChannel__first_line = 1
        self._transferDecoder = None
        del self._command, self._path, self._version

    def hold_body(self) -> None:
        """Stop reading the body (``body.Inlet``)."""
        self._stop_body_clock()
        if not self._is_closing:
            self._valve.hold("body")

    def open_body(self) -> None:
        """Read the body, and expect progress (``body.Inlet``)."""
        self._is_body_timed = True
        self._unmoved_bytes = 0
        self._deadline.set(self._limits.body_timeout_seconds, self._body_expired)
        self._valve.release("body")

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
        timeout_seconds = self._limits.body_timeout_seconds
        self._break_body(f"less than {PROGRESS_BYTES} bytes of the body came in {timeout_seconds:g} seconds")

    def _break_body(self, reason: str) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._is_body_timed = self.persistent = False
        self._is_deaf = True
        exchange.body.break_off(BodyBroken(reason))
        if exchange.is_answered:
            self._linger()

    # --- answers

    def answer_begins(self, request: RegistryRequest) -> None:
        """Decide whether the connection can be kept after the answer to ``request``."""
        if self.site.is_draining or not (request.body.is_complete or request.has_short_rest):
            self.persistent = False

    def requestDone(self, request: RegistryRequest) -> None:
        """Go on after an answer, when the body is done with too."""
        request.is_answered = True
        if request.body.is_complete:
            self._end_exchange()
        elif not self.persistent:
            self._linger()
        else:
            request.body.discard()
            self._valve.release("body")
            self._deadline.set(self._limits.linger_seconds, self._linger)

    def _end_exchange(self) -> None:
        if self._waitingForTransport and self.persistent:
            # Else a client that never reads could pile up answers to pipelined requests.
            self._is_next_waiting = True
            return
        self._exchange = None
        self.requests.clear()
        if not self.persistent or self.site.closes_idle:
            self.loseConnection()
            return
        self._handlingRequest = False
        self._deadline.set(self._limits.idle_timeout_seconds, self.loseConnection)
        data, self._dataBuffer = b"".join(self._dataBuffer), []
        self._valve.open()
        self.line_mode = 1
        if data:
            LineReceiver.dataReceived(self, data)
        if data or self._buffer:
            self._watch_header()

    def write(self, data: bytes) -> None:
        """Send bytes of an answer."""
        self.reader.sent(len(data))
        self.transport.write(data)

    def pauseProducing(self) -> None:
        """Stop answering: the client has to read first."""
        self._waitingForTransport = True
        self.reader.watch(self.transport, self.abort)
        if self._requestProducer is not None:
            self._requestProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on: everything is sent."""
        self._waitingForTransport = False
        self._unwatch_reader()
        if self._requestProducer is not None:
            self._requestProducer.resumeProducing()
        if self._is_next_waiting:
            self._is_next_waiting = False
            self._end_exchange()

    def _unwatch_reader(self) -> None:
        if not self._is_closing:
            self._deadline.clear()
            if self._is_body_timed:
                self.open_body()

    def lend_transport(self, producer: IProducer) -> None:
        """Let ``producer`` fill the socket itself: it is called whenever everything written is sent."""
        self._leave_transport()
        self.reader.watch(self.transport, self.abort)
        self.transport.registerProducer(producer, False)

    def take_transport_back(self) -> None:
        """Undo ``lend_transport``."""
        self._unwatch_reader()
        self.transport.unregisterProducer()
        if not self._is_closing:
            self._waitingForTransport = False
            self._is_registered = True
            self.transport.registerProducer(self, True)
