"""A small HTTP/1.1 client that costs little and believes nothing: every answer is checked by its caller."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

_READ_BYTES = 256 * 1024
_WRITE_BYTES = 1024 * 1024

#: What a request carries: in one piece, or in several that belong together.
RequestBody = bytes | memoryview | Sequence[memoryview]


class WrongAnswer(Exception):
    """A server answered something else than it must: the benchmark is void."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    #: Bytes of head and body as they came.
    wire_bytes: int


class Connection:
    """One keep-alive connection, used by one task at a time."""

    def __init__(self, peer: socket.socket, fixed: Mapping[str, str]) -> None:
        self._socket = peer
        self._loop = asyncio.get_running_loop()
        lines = {"Host": "bench", "User-Agent": "bench", **fixed}
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._rest = b""

    @classmethod
    async def open(cls, port: int, fixed: Mapping[str, str] | None = None) -> Self:
        """Connect to 127.0.0.1; ``fixed`` headers go with every request."""
        peer = socket.socket()
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", port))
        return cls(peer, fixed or {})

    def close(self) -> None:
        """Close."""
        self._socket.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: RequestBody = b"",
        expect: int | tuple[int, ...] = 200,
    ) -> Response:
        """Send a request and return its answer.

        Raises:
            WrongAnswer: its status is not one of ``expect``.
        """
        await self._send(method, path, headers, body)
        return await self._answer(method, path, expect)

    async def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        parts: Sequence[bytes | memoryview],
        expect: int | tuple[int, ...] = 200,
        is_chunked: bool = False,
    ) -> Response:
        """Send a body in parts, without a copy of the whole, and return the answer.

        With ``is_chunked`` its length stays unsaid (RFC 9112 section 7.1).

        Raises:
            WrongAnswer: its status is not one of ``expect``.
        """
        length_bytes = sum(map(len, parts))
        framing = {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str(length_bytes)}
        await self._loop.sock_sendall(self._socket, self._request_head(method, path, headers, framing))
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), _WRITE_BYTES):
                piece = view[start : start + _WRITE_BYTES]
                if is_chunked:
                    await self._loop.sock_sendall(self._socket, b"%x\r\n" % len(piece))
                await self._loop.sock_sendall(self._socket, piece)
                if is_chunked:
                    await self._loop.sock_sendall(self._socket, b"\r\n")
        if is_chunked:
            await self._loop.sock_sendall(self._socket, b"0\r\n\r\n")
        return await self._answer(method, path, expect)

    async def _answer(self, method: str, path: str, expect: int | tuple[int, ...]) -> Response:
        status, found, head_bytes = await self._head()
        is_bodiless = method == "HEAD" or status in (204, 304)
        length = 0 if is_bodiless else int(found.get("content-length", "0"))
        if "chunked" in found.get("transfer-encoding", "") and not is_bodiless:
            content, wire_bytes = await self._chunked()
        else:
            content, wire_bytes = await self._exactly(length), length
        allowed = (expect,) if isinstance(expect, int) else expect
        if status not in allowed:
            raise WrongAnswer(f"{method} {path}: {status} instead of {expect}: {content[:300]!r}")
        return Response(status, found, content, head_bytes + wire_bytes)

    async def download(self, path: str, *, length_bytes: int, digest: str = "") -> None:
        """Read a large body and throw it away.

        Raises:
            WrongAnswer: it is not as long as expected, or hashes to something else than ``digest``.
        """
        await self._send("GET", path, None, b"")
        status, found, _ = await self._head()
        announced = int(found.get("content-length", "-1"))
        if status != 200 or announced != length_bytes:
            raise WrongAnswer(f"GET {path}: {status} with {announced} bytes, not {length_bytes}")
        hasher = hashlib.sha256(self._rest) if digest else None
        left_bytes = length_bytes - len(self._rest)
        self._rest = b""
        buffer = memoryview(bytearray(_WRITE_BYTES))
        while left_bytes:
            count = await self._loop.sock_recv_into(self._socket, buffer[: min(left_bytes, _WRITE_BYTES)])
            if not count:
                raise WrongAnswer(f"GET {path}: {left_bytes} bytes are missing")
            if hasher is not None:
                hasher.update(buffer[:count])
            left_bytes -= count
        if hasher is not None and f"sha256:{hasher.hexdigest()}" != digest:
            raise WrongAnswer(f"GET {path}: the bytes do not hash to {digest}")

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: RequestBody
    ) -> None:
        views = [memoryview(body)] if isinstance(body, bytes | memoryview) else body
        length_bytes = sum(map(len, views))
        has_length = length_bytes or method in ("POST", "PUT", "PATCH")
        framing = {"Content-Length": str(length_bytes)} if has_length else {}
        head = self._request_head(method, path, headers, framing)
        if length_bytes <= _READ_BYTES:
            await self._loop.sock_sendall(self._socket, b"".join((head, *views)))
            return
        await self._loop.sock_sendall(self._socket, head)
        for view in views:
            for start in range(0, len(view), _WRITE_BYTES):
                await self._loop.sock_sendall(self._socket, view[start : start + _WRITE_BYTES])

    def _request_head(
        self, method: str, path: str, headers: Mapping[str, str] | None, framing: Mapping[str, str]
    ) -> bytes:
        lines = [f"{method} {path} HTTP/1.1\r\n{self._fixed}"]
        lines += [f"{name}: {value}\r\n" for name, value in {**(headers or {}), **framing}.items()]
        return ("".join(lines) + "\r\n").encode("latin-1")

    async def _head(self) -> tuple[int, dict[str, str], int]:
        while b"\r\n\r\n" not in self._rest:
            await self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split(" ", 2)[1]), found, len(head) + 4

    async def _exactly(self, length: int) -> bytes:
        while len(self._rest) < length:
            await self._more()
        taken, self._rest = self._rest[:length], self._rest[length:]
        return taken

    async def _chunked(self) -> tuple[bytes, int]:
        content, wire_bytes = b"", 0
        while True:
            while b"\r\n" not in self._rest:
                await self._more()
            line, _, self._rest = self._rest.partition(b"\r\n")
            size = int(line, 16)
            content += (await self._exactly(size + 2))[:size]
            wire_bytes += len(line) + size + 4
            if not size:
                return content, wire_bytes

    async def _more(self) -> None:
        data = await self._loop.sock_recv(self._socket, _READ_BYTES)
        if not data:
            raise WrongAnswer("the server closed the connection")
        self._rest += data
