"""Plain blocking HTTP over a socket: for what no HTTP library lets one send, and for bodies of any size."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

MIB = 1024 * 1024
#: One block of noise; big bodies repeat it with a counter in front, so that no two blocks are equal.
NOISE = os.urandom(MIB)


def basic(user: str, password: str) -> str:
    """Return the value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def blocks(size_bytes: int, seed: int = 0) -> Iterator[bytes]:
    """Yield a body of ``size_bytes`` in blocks of 1 MiB; nothing of it is kept."""
    sent = 0
    while sent < size_bytes:
        head = seed.to_bytes(8, "big") + sent.to_bytes(8, "big")
        block = (head + NOISE[16:])[: size_bytes - sent]
        yield block
        sent += len(block)


def digest_of_blocks(size_bytes: int, seed: int = 0) -> str:
    """Return the sha256 digest of such a body."""
    running = hashlib.sha256()
    for block in blocks(size_bytes, seed):
        running.update(block)
    return "sha256:" + running.hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers with lower-case names, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One connection to the registry.

    Args:
        port: on 127.0.0.1.
        authorization: sent with every request unless empty.
        timeout_seconds: for each wait.
        receive_buffer_bytes: size of the kernel's buffer for what comes back, None for the usual.
        wrap: puts TLS around the connected socket.
        source: the address to come from, any of 127.0.0.0/8; the usual one when empty.
    """

    def __init__(
        self,
        port: int,
        authorization: str = "",
        *,
        timeout_seconds: float = 60.0,
        receive_buffer_bytes: int | None = None,
        wrap: Callable[[socket.socket], socket.socket] | None = None,
        source: str = "",
    ) -> None:
        self._authorization = authorization
        self.socket = socket.socket()
        self.socket.settimeout(timeout_seconds)
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        # As every client does: head and body leave in two writes, and the second one may not wait.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if wrap is not None:
            self.socket = wrap(self.socket)
        self._unread = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send_head(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Send request line and headers, and nothing of a body."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        fields = dict(headers or {})
        if self._authorization:
            fields.setdefault("Authorization", self._authorization)
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def send_blocks(self, size_bytes: int, seed: int = 0, *, chunked: bool = False) -> None:
        """Send a body of blocks; the end of a chunked one included."""
        for block in blocks(size_bytes, seed):
            if chunked:
                self.socket.sendall(b"%x\r\n" % len(block) + block + b"\r\n")
            else:
                self.socket.sendall(block)
        if chunked:
            self.socket.sendall(b"0\r\n\r\n")

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a whole request and return the whole answer."""
        self.send_head(method, path, {"Content-Length": str(len(body)), **(headers or {})})
        if body:
            self.socket.sendall(body)
        return self.answer(has_body=method != "HEAD")

    def answer(self, *, has_body: bool = True) -> Answer:
        """Read one answer; an interim 100 is passed over."""
        while True:
            status, headers = self._head()
            if status != 100:
                break
        if not has_body or status in (204, 304):
            return Answer(status, headers, b"")
        if "content-length" in headers:
            return Answer(status, headers, self._exactly(int(headers["content-length"])))
        return Answer(status, headers, self._rest())

    def head(self) -> Answer:
        """Read status and headers only; the body stays in the socket."""
        status, headers = self._head()
        return Answer(status, headers, b"")

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._unread:
            received = self.socket.recv(65536)
            if not received:
                raise ConnectionError(f"the server closed the connection after {self._unread[:200]!r}")
            self._unread += received
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}

    def _exactly(self, size_bytes: int) -> bytes:
        parts, missing = [self._unread[:size_bytes]], size_bytes - len(self._unread)
        self._unread = self._unread[size_bytes:]
        while missing > 0:
            received = self.socket.recv(min(missing, MIB))
            if not received:
                raise ConnectionError(f"the server closed the connection, {missing} bytes missing")
            parts.append(received)
            missing -= len(received)
        return b"".join(parts)

    def _rest(self) -> bytes:
        parts, self._unread = [self._unread], b""
        while received := self.socket.recv(65536):
            parts.append(received)
        return b"".join(parts)

    def digest_of_body(self, size_bytes: int) -> str:
        """Read a body of this size and return its digest, keeping none of it."""
        running = hashlib.sha256(self._unread[:size_bytes])
        missing = size_bytes - len(self._unread)
        self._unread = self._unread[size_bytes:]
        while missing > 0:
            received = self.socket.recv(min(missing, MIB))
            if not received:
                raise ConnectionError(f"the server closed the connection, {missing} bytes missing")
            running.update(received)
            missing -= len(received)
        return "sha256:" + running.hexdigest()
