"""What a connection and its requests are given by their site."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IReactorTime

from dockreg_tx.ports import NewId, Now
from dockreg_tx.web.framing import Refusal
from dockreg_tx.web.heads import Heads
from dockreg_tx.web.outbox import Outbox

if TYPE_CHECKING:
    from dockreg_tx.web.channel import RegistryChannel
    from dockreg_tx.web.intake import RegistryRequest
    from dockreg_tx.web.recent import Given


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
    #: Each answer is its connection's last, and says so.
    is_draining: bool
    #: So is one that began too early to say it.
    closes_idle: bool
    requestFactory: Any

    new_request_id: NewId
    now: Now
    heads: Heads
    outbox: Outbox
    #: Memory for what is read and copied on before anything else is read.
    scratch: bytearray

    def short_way(self, method: bytes, target: bytes) -> Any:
        """Return what answers a request for a target, None when it has to be parsed and rendered."""

    def given(self, question: Hashable) -> Given | None:
        """Return the answer to a question that still holds, None when the question must be asked."""

    def status_and_date(self, second: int) -> bytes:
        """Return the beginning of a good answer."""

    def log_again(self, given: Given, began_at: float, started_at: float) -> None:
        """Report a request that got an answer which had been given before."""

    def channel_opened(self, channel: RegistryChannel) -> None:
        """Note a connection."""

    def channel_closed(self, channel: RegistryChannel) -> None:
        """Forget a connection."""

    def request_began(self, request: RegistryRequest) -> None:
        """Count a request in."""

    def request_ended(self, request: RegistryRequest) -> None:
        """Count it off: it is answered, or its client has gone."""

    def refused(self, channel: RegistryChannel, refusal: Refusal, request_id: str) -> None:
        """Note an answer to something that did not become a request."""
