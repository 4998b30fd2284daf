"""A bad network: forwards connections to the registry and cuts one of them in the middle of a transfer."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress

RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-", re.IGNORECASE)


class Breaker:
    """Listens on ``port`` of 127.0.0.1 until ``close``; one connection is cut, all others are left alone.

    Args:
        target_port: where the registry listens on 127.0.0.1.
        download_bytes: a connection that brought this much from the registry is cut, once; None for never.
        upload_bytes: the same for the other direction.
    """

    def __init__(
        self, target_port: int, *, download_bytes: int | None = None, upload_bytes: int | None = None
    ) -> None:
        self._target_port = target_port
        self._download_bytes = download_bytes
        self._upload_bytes = upload_bytes
        self._lock = threading.Lock()
        #: Whether the connection was cut.
        self.has_cut = False
        #: Where the clients asked downloads to start, in their order; ordinary ones are not in it.
        self.offsets: list[int] = []
        #: Answers with a part of a blob, as their first lines say.
        self.parts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        """Host and port, as an image name begins."""
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Take no more connections."""
        # close alone would leave accept waiting in its thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                for pair, limit in (
                    ((client, server), self._upload_bytes),
                    ((server, client), self._download_bytes),
                ):
                    threading.Thread(target=self._forward, args=(*pair, limit), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, limit_bytes: int | None) -> None:
        passed_bytes = 0
        with suppress(OSError):  # the other direction has closed both
            while piece := source.recv(65536):
                self.offsets += [int(offset) for offset in RANGE.findall(piece)]
                self.parts += piece.count(b"HTTP/1.1 206 ")
                passed_bytes += len(piece)
                if limit_bytes is not None and passed_bytes > limit_bytes and self._may_cut():
                    break
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _may_cut(self) -> bool:
        with self._lock:
            first = not self.has_cut
            self.has_cut = True
            return first
