"""Requests as they arrive: a handler starts when the headers are complete, its body is a push producer.

twisted.web would collect every body in a temporary file before any resource runs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server

from dockreg_tx.metrics import RequestPlace
from dockreg_tx.oci.errors import BodyBroken, ErrorCode
from dockreg_tx.web.body import RequestBody
from dockreg_tx.web.channel import RegistryChannel
from dockreg_tx.web.framing import Refusal

#: The rest of an unwanted body is read, and the connection kept, when it is no longer than this.
SHORT_REST_BYTES = 64 * 1024

if TYPE_CHECKING:
    from dockreg_tx.web.site import AccessEntry

P = ParamSpec("P")
T = TypeVar("T")

_log = Logger()


class RegistryRequest(server.Request):
    """A request whose ``body`` has not been read yet.

    ``request_id`` is new for each request; the guard sets ``user_name`` for the access log.
    """

    defaultContentType = None
    channel: RegistryChannel | None = None  # type: ignore[assignment]  # Twisted deletes it, or sets None
    body: RequestBody
    site: Any = None
    request_id = ""
    user_name = ""
    #: The client's, once an endpoint knows it: behind a trusted proxy as that names it.
    client_address = ""
    #: Of the clock, for durations; and of the wall, for the log.
    began_at = 0.0
    started_at = 0.0
    #: Set by the endpoint that was found for it.
    counted_at: RequestPlace | None = None
    #: All that the answer depends on, for requests that are light enough to be asked again.
    question: Hashable = None
    #: What was written to the access log.
    logged: AccessEntry | None = None
    start_line: tuple[bytes, bytes, bytes]
    awaits_continue = False
    is_answered = False
    #: Called when the connection is lost in the middle of an answer that ``outflow`` sends.
    output_lost: Callable[[], object] | None = None

    def __init__(self, channel: RegistryChannel, queued: object = None) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be answered: it was, or the client has gone."""
        return bool(self.finished or self._disconnected)

    def described(self) -> tuple[str, str]:
        """Return the Referer and the User-Agent, empty where the client sent none."""
        referer, agent = (self.getHeader(name) or b"" for name in (b"referer", b"user-agent"))
        return referer.decode("latin-1"), agent.decode("latin-1")

    # --- from the channel

    def gotLength(self, length: int | None) -> None:
        """Set up the body; the headers are complete."""
        channel = self.channel_or_raise()
        self.site = site = channel.site
        self.body = RequestBody(length_bytes=length, inlet=channel)
        self.method, self.uri, self.clientproto = self.start_line
        expectation = self.requestHeaders.getRawHeaders(b"Expect", [b""])[0].lower()
        is_possible = self.clientproto == b"HTTP/1.1" and length != 0
        self.awaits_continue = expectation == b"100-continue" and is_possible
        self.requestHeaders.removeHeader(b"Expect")
        self.request_id = site.new_request_id()
        self.began_at = site.reactor.seconds()
        self.started_at = site.now()

    def start(self) -> None:
        """Run the handler."""
        self.site.request_began(self)
        self.requestReceived(*self.start_line)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Route the request; its body may still be on the way, so no form is parsed."""
        self.path, _, query = path.partition(b"?")
        self.args = http.parse_qs(query, keep_blank_values=True) if query else {}
        self.process()

    def process(self) -> None:
        """Render the resource, without the banner of the stock server."""
        self.prepath = []
        self.postpath = [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]
        self.setHeader(b"Date", self.site.date_header())
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:  # noqa: BLE001 - the last net: whatever broke, the client gets an answer
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500 with an OCI error body; the failure goes to the log only."""
        if not (self.is_over and reason.check(BodyBroken)):
            self._log.failure("request {request_id} failed", failure=reason, request_id=self.request_id)
        if self.is_over:
            return reason
        if self.startedWriting:
            # What has been announced cannot be sent: the client must not take it for the whole.
            self.channel_or_raise().abort()
            return reason
        message = "internal error: the registry's log has more under this request id"
        body = Refusal(500, ErrorCode.UNKNOWN, message).body(self.request_id)
        self.setResponseCode(500)
        self.setHeader(b"Content-Type", b"application/json")
        self.setHeader(b"Docker-Distribution-API-Version", b"registry/2.0")
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()
        return reason

    def handleContentChunk(self, data: bytes) -> None:
        """Hand bytes of the body on."""
        self.body.receive(data)

    def send_continue(self) -> None:
        """Send ``100 Continue`` if the client waits for it and no answer has begun."""
        if self.awaits_continue and not self.startedWriting and self.channel is not None:
            self.awaits_continue = False
            self.channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def connectionLost(self, reason: Failure) -> None:
        """Tell whoever still works on the request, the reader of the body first."""
        was_over = self.is_over
        self._disconnected = True
        self.channel = None
        if was_over or self.site is None:
            return
        self.body.break_off(BodyBroken())
        lost, self.output_lost = self.output_lost, None
        if lost is not None:
            lost()
        self.site.log(self)
        waiting, self.notifications = self.notifications, []
        for notification in waiting:
            notification.errback(reason)
        self.site.request_ended(self)

    # --- the answer

    @property
    def is_bare(self) -> bool:
        """Whether nothing but the date, and perhaps the end of the connection, is added to an answer."""
        return False

    @property
    def has_short_rest(self) -> bool:
        """Whether what is missing of the body is little, and on its way."""
        length_bytes = self.body.length_bytes
        if length_bytes is None or self.body.is_over or self.awaits_continue:
            return False
        return length_bytes - self.body.received_bytes <= SHORT_REST_BYTES

    def channel_or_raise(self) -> RegistryChannel:
        """Return the channel of a request that is not over."""
        if self.channel is None:
            raise RuntimeError("the request is over")
        return self.channel

    def begin_answer(self) -> None:
        """Decide whether the connection can be kept; called before the first byte of an answer."""
        channel = self.channel_or_raise()
        channel.answer_begins(self)
        if not channel.persistent:
            self.setHeader(b"Connection", b"close")

    def started(self, head: bytes) -> bytes:
        """Note that an answer begins, with this head; return it."""
        self.startedWriting = 1
        if self.site.wire is not None:
            self.site.wire(self, head)
        return head

    def write(self, data: bytes) -> None:
        """Write a part of an answer; no error when the client has gone."""
        if self._disconnected:
            return
        if not self.startedWriting:
            self.begin_answer()
        super().write(data)

    def finish(self) -> None:
        """End the answer; no error when the client has gone."""
        if self.is_over:
            return
        super().finish()
        self.site.request_ended(self)


def shielded(
    handler: Callable[Concatenate[RegistryRequest, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[RegistryRequest, P], Deferred[T]]:
    """Let a handler run to its end although its client has gone; every route is registered through this.

    Klein cancels what a handler waits for when the connection is lost. Cancelled in the wrong moment, it
    would leave received bytes written but not recorded. A shielded handler learns of the loss from its
    body (``BodyBroken``), keeps what arrived, and its answer goes nowhere. ``RegistrySite.drain`` waits
    for it.
    """

    @wraps(handler)
    def run(request: RegistryRequest, /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        site = request.site
        site.handler_began()
        # What Klein cancels is ``seen``, which nobody else waits for.
        seen: Deferred[T] = Deferred()

        def pass_on(result: T | Failure) -> None:
            site.handler_ended()
            if not seen.called:
                seen.callback(result)
            elif isinstance(result, Failure) and not result.check(BodyBroken):
                _log.failure("handler failed after its client had gone", failure=result)

        Deferred.fromCoroutine(handler(request, *args, **kwargs)).addBoth(pass_on)
        return seen

    return run
