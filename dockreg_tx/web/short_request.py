"""Requests that cost little: light objects, and handlers that run by hand until they have to wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from dockreg_tx.web.body import EmptyBody, RequestBody
from dockreg_tx.web.heads import Fields
from dockreg_tx.web.intake import RegistryRequest


class ShortRequest(RegistryRequest):
    """A request whose head came whole; it makes only what it needs of a Twisted one."""

    requestHeaders: Any
    body: RequestBody = EmptyBody()
    content = None
    cookies: Any = ()
    notifications: Any = ()
    startedWriting = 0
    sentLength = 0
    code = 200
    clientproto = b"HTTP/1.1"

    channel: Any

    # As the stock request has it, in C.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, channel: Any, method: bytes, target: bytes, fields: Fields) -> None:
        self.channel = channel
        self.transport = channel.transport
        self.site = site = channel.site
        self.method = method
        self.uri = target
        self.client, self.host = channel.addresses
        self.requestHeaders = fields
        self.request_id = site.new_request_id()
        self.began_at = site.reactor.seconds()
        self.started_at = site.now()

    @property
    def path(self) -> bytes:  # type: ignore[override]  # nobody sets it
        """The target without its query."""
        return self.uri.partition(b"?")[0]

    @property
    def responseHeaders(self) -> Headers:  # type: ignore[override]  # nobody sets it
        """Fields that are sent with any answer, made when something sets one."""
        headers = self.__dict__.get("_response_headers")
        if headers is None:
            headers = self.__dict__["_response_headers"] = Headers({b"Date": [self.site.date_header()]})
        return headers

    def getHeader(self, key: Any) -> Any:
        """Return the last value of a field."""
        values = self.requestHeaders.getRawHeaders(key)
        return values[-1] if values else None

    def described(self) -> tuple[str, str]:
        """Return the Referer and the User-Agent, empty where the client sent none."""
        described: tuple[str, str] = self.requestHeaders.described
        return described

    def isSecure(self) -> bool:
        """Tell whether the connection is encrypted."""
        return self.channel is not None and self.channel.is_secure

    @property
    def is_bare(self) -> bool:
        """Whether nothing but the date, and perhaps the end of the connection, is added to an answer."""
        return "_response_headers" not in self.__dict__

    def begin_answer(self) -> None:
        """Decide whether the connection can be kept."""
        channel = self.channel_or_raise()
        if self.site.is_draining or not self.body.is_complete:
            channel.answer_begins(self)
            if not (channel.persistent or self.is_bare):
                self.setHeader(b"Connection", b"close")

    def finish(self) -> None:
        """End the answer; no error when the client has gone."""
        channel = self.channel
        if channel is None or self.is_over:
            return
        if self.producer is not None:
            super().finish()
            return
        self.finished = 1
        self.site.log(self)
        self.channel = None
        channel.requestDone(self)
        waiting, self.notifications = self.notifications, ()
        for notification in waiting:
            notification.callback(None)
        self.site.request_ended(self)

    def notifyFinish(self) -> Deferred[None]:
        """Return what fires when the answer is finished, or fails when the client has gone before."""
        self.notifications = [*self.notifications]
        return super().notifyFinish()


def begin(request: RegistryRequest, work: Coroutine[Any, Any, object]) -> None:
    """Run what answers a request: by hand up to its end, or to where it has to wait.

    It is shielded: nothing ends it when the client has gone.
    """
    try:
        waiting = work.send(None)
    except StopIteration:
        return
    except Exception:  # noqa: BLE001 - the last net: whatever broke, the client gets an answer
        request.processingFailed(Failure())
        return
    site = request.site
    site.handler_began()

    def ended(failure: Failure | None) -> None:
        site.handler_ended()
        if failure is not None:
            request.processingFailed(failure)

    waiting.addBoth(Rest(work, ended).come)


class Rest:
    """What is left of a coroutine that has come to its first wait.

    Twisted's own way through coroutines costs three times as much for each wait. A coroutine waits only for
    Deferreds that have no result yet, so nothing here calls itself.

    Args:
        work: the coroutine.
        ended: told once of its end, with the exception if that was one.
    """

    __slots__ = ("_ended", "_work")

    def __init__(self, work: Coroutine[Any, Any, object], ended: Callable[[Failure | None], None]) -> None:
        self._work = work
        self._ended = ended

    def come(self, result: object) -> None:
        """Give the coroutine what it waited for, and wait for what it wants next."""
        failure: Failure | None = None
        try:
            if isinstance(result, Failure):
                following = result.throwExceptionIntoGenerator(self._work)
            else:
                following = self._work.send(result)
        except StopIteration:
            pass
        except Exception:  # noqa: BLE001 - it belongs to whoever is told
            failure = Failure()
        else:
            following.addBoth(self.come)
            return
        self._ended(failure)
