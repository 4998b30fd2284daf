"""One turn of the event loop, made cheap for connections of ours.

When several requests came at once, their answers leave together when all are ready: a client that sleeps is
woken once, and not again for each of its connections, which costs a good part of what an answer costs. And
what a connection brings is taken without a log context of its own, that nothing here uses.
"""

from __future__ import annotations

import select
from math import inf
from typing import Any

from twisted.internet import tcp
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

from dockreg_tx.web.outbox import Outbox
from dockreg_tx.web.short_channel import ShortChannel

#: epoll counts milliseconds in an int.
_LONGEST_SECONDS = 1_000_000.0
_log = Logger()


class TurnPoller:
    """Stands between an epoll reactor and its poller.

    Args:
        reactor: asked for what a descriptor belongs to.
        poller: the reactor's own.
        outbox: gathers the answers of a turn.
    """

    def __init__(self, reactor: Any, poller: Any, outbox: Outbox) -> None:
        self.poller = poller
        self._reactor = reactor
        self._selectables = reactor._selectables
        self._waker = reactor.waker
        self._outbox = outbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self.poller, name)

    def poll(self, timeout: float, limit: int) -> list[tuple[int, int]]:
        """Wait for events; those of plain connections with something to read are dealt with at once.

        As long as there is nothing else to do, it goes on with the next turn: the reactor's own round costs
        as much as a small request.
        """
        ends_at = inf if timeout < 0 else self._reactor.seconds() + timeout
        others = self._turn(timeout, limit)
        while timeout and not others and (wait_seconds := self._wait_seconds(ends_at)):
            others = self._turn(wait_seconds, len(self._selectables))
        return others

    def _wait_seconds(self, ends_at: float) -> float:
        """Return how long nobody but clients has anything to do, -1 for ever; 0: it is the reactor's turn.

        Args:
            ends_at: when the reactor wants its turn in any case.
        """
        reactor = self._reactor
        is_due = reactor.threadCallQueue or reactor._newTimedCalls or reactor._justStopped
        if is_due or not reactor.running or reactor._poller is not self:
            return 0.0
        calls = reactor._pendingTimedCalls
        if calls and calls[0].time < ends_at:
            ends_at = calls[0].time
        return -1.0 if ends_at == inf else min(max(ends_at - reactor.seconds(), 0.0), _LONGEST_SECONDS)

    def _read(self, connection: Any) -> None:
        """Take what came, and disconnect where that fails, as the reactor does."""
        try:
            why = connection.doRead()
        except Exception as error:  # noqa: BLE001 - it ends this connection alone
            _log.failure("a connection broke while it was read")
            why = error
        if why:
            self._reactor._disconnectSelectable(connection, why, True)

    def _turn(self, timeout: float, limit: int) -> list[tuple[int, int]]:
        events: list[tuple[int, int]] = self.poller.poll(timeout, limit)
        others = []
        if len(events) > 1:
            self._outbox.open()
        try:
            for fd, event in events:
                selectable = self._selectables.get(fd)
                if event != select.EPOLLIN:
                    others.append((fd, event))
                elif type(selectable) is tcp.Server and type(selectable.protocol) is ShortChannel:
                    self._read(selectable)
                elif selectable is self._waker and selectable is not None:
                    # Threads have called, and the reactor looks what for before it polls again.
                    selectable.doRead()
                else:
                    others.append((fd, event))
        finally:
            self._outbox.is_open = False
            self._outbox.send()
        return others


def share_turns(reactor: Any, outbox: Outbox) -> None:
    """Have answers of one turn leave together from now on, where the reactor's way is known."""
    if type(reactor) is EPollReactor:
        reactor._poller = TurnPoller(reactor, reactor._poller, outbox)


def end_sharing(reactor: Any, outbox: Outbox) -> None:
    """Give the reactor its poller back."""
    poller = getattr(reactor, "_poller", None)
    if isinstance(poller, TurnPoller) and poller._outbox is outbox:
        reactor._poller = poller.poller
