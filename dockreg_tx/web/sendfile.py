"""Bytes that the kernel copies from a file to a socket, once they are in memory.

``os.sendfile`` waits for a disk, and the reactor would wait with it. So the bytes are asked for a window at a
time: whether they are in memory costs next to nothing to know; those that are not are read in a thread first,
the next window while the one before leaves.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from dockreg_tx.ports import OpenBlob
from dockreg_tx.web.intake import RegistryRequest

#: What one connection may send before the others get their turn.
TURN_BYTES = 2 * 1024 * 1024
#: What is asked for, and read, at a time; beside it as much again may be on its way.
WINDOW_BYTES = 2 * 1024 * 1024


class ClientGone(Exception):
    """Nobody reads the answer any more."""


@implementer(IPullProducer)
class FileSender:
    """Lets the kernel copy from a file to a socket.

    It takes the channel's place as the transport's producer and calls itself a pull producer: the transport
    then calls ``resumeProducing`` each time the socket is writable and nothing waits in its own buffer.
    """

    def __init__(
        self, request: RegistryRequest, blob: OpenBlob, descriptor: int, start: int, length: int
    ) -> None:
        self._request = request
        self._blob = blob
        self._descriptor = descriptor
        self._position = start
        self._end = start + length
        #: Up to here the bytes are in memory, as far as one can know.
        self._ready_end = start
        self._is_reading = False
        self._is_cold = False
        self._done: Deferred[None] = Deferred()
        self._transport: Any = request.transport
        self._channel = request.channel_or_raise()
        self._has_begun = False
        self._is_gone = False

    async def run(self, *, ready_bytes: int, is_cold: bool) -> None:
        """Send everything.

        Args:
            ready_bytes: how many of the first bytes are known to be in memory.
            is_cold: the disk had to be asked for them.

        Raises:
            ClientGone: the connection was lost.
            OSError, StoreUnavailable: the file could not be read.
        """
        self._ready_end += ready_bytes
        self._is_cold = is_cold
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
            raise ClientGone

    def resumeProducing(self) -> None:
        """Send as much as the socket takes and memory has, but no more than one turn's worth."""
        if not self._has_begun or self._done.called:
            return
        self._look_ahead()
        if self._done.called or self._position >= self._ready_end:
            # The end of the reading goes on, or its failure has ended all.
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

    def _look_ahead(self) -> None:
        """Ask for the next window when this one has begun to leave."""
        window_bytes = min(WINDOW_BYTES, self._end - self._ready_end)
        if self._is_reading or not window_bytes or self._ready_end - self._position >= WINDOW_BYTES:
            return
        # The kernel begins its next reads of a file with whoever comes to certain bytes of the last ones.
        # Once the disk had to be asked, that must be a thread.
        if not self._is_cold and self._blob.is_cached(self._ready_end, window_bytes):
            self._ready_end += window_bytes
            return
        self._is_cold = self._is_reading = True
        reading = Deferred.fromCoroutine(self._blob.read_ahead(self._ready_end, window_bytes))
        reading.addCallbacks(self._have_read, self._could_not_read, callbackArgs=(window_bytes,))

    def _have_read(self, _result: None, window_bytes: int) -> None:
        self._is_reading = False
        self._ready_end += window_bytes
        if not self._done.called:
            self._transport.startWriting()

    def _could_not_read(self, failure: Failure) -> None:
        if not self._done.called:
            self._done.errback(failure)

    def _send_turn(self) -> bool:
        socket = self._transport.fileno()
        turn_end = min(self._ready_end, self._position + TURN_BYTES)
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
