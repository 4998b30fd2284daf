"""A client that takes as little processor time as Python allows: it shares the cores with what it measures.

What is said on a connection is a generator that yields the bytes of a request and is sent the answer. Nothing
is computed while the clock runs that could be computed before.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from bench.connection import WrongAnswer
from bench.content import MANIFEST_TYPE, Image, digest_of, path_of

_READ_BYTES = 65536


class Reply(NamedTuple):
    """One answer, its head unparsed."""

    status: int
    head: bytes
    body: bytes

    def field(self, name: bytes) -> str:
        """Return a header that has to be there."""
        start = self.head.lower().index(b"\r\n" + name + b":") + len(name) + 3
        return self.head[start : self.head.index(b"\r\n", start)].decode("latin-1").strip()


#: Its result is how many pieces of work it was.
Talk = Generator[bytes, Reply, int]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image whose requests are as good as written."""

    repository: str
    blobs: tuple[tuple[str, bytes], ...]
    manifest: bytes


def prepared(image: Image, repository: str) -> Prepared:
    """Return an image that is ready to be pushed."""
    blobs = tuple((digest_of(blob), blob) for blob in (image.layer, image.config))
    return Prepared(repository, blobs, image.manifest)


def until(end: float, images: Iterable[Prepared]) -> Iterator[Prepared]:
    """Yield images until a moment of the monotonic clock."""
    return takewhile(lambda _: time.monotonic() < end, images)


def pushing(images: Iterable[Prepared], fixed: Mapping[str, str]) -> Talk:
    """Push images, each by five requests, and return how many there were."""
    lines = {"Host": "bench", **fixed}
    common = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    count = 0
    for image in images:
        begin = f"POST /v2/{image.repository}/blobs/uploads/ HTTP/1.1\r\n{common}Content-Length: 0\r\n\r\n"
        for digest, blob in image.blobs:
            opened = expect(202, (yield begin.encode()))
            path = path_of(opened.field(b"location"))
            path += ("&" if "?" in path else "?") + f"digest={digest}"
            head = f"PUT {path} HTTP/1.1\r\n{common}Content-Length: {len(blob)}\r\n"
            octets = "Content-Type: application/octet-stream\r\n\r\n"
            stored = expect(201, (yield (head + octets).encode() + blob))
            if stored.field(b"docker-content-digest") != digest:
                raise WrongAnswer(f"PUT {path}: stored under another digest")
        head = f"PUT /v2/{image.repository}/manifests/latest HTTP/1.1\r\n{common}"
        kind = f"Content-Type: {MANIFEST_TYPE}\r\nContent-Length: {len(image.manifest)}\r\n\r\n"
        expect(201, (yield (head + kind).encode() + image.manifest))
        count += 1
    return count


def expect(status: int, reply: Reply) -> Reply:
    """Return a reply.

    Raises:
        WrongAnswer: it has another status.
    """
    if reply.status != status:
        raise WrongAnswer(f"{reply.status} instead of {status}: {reply.body[:300]!r}")
    return reply


class _Peer:
    """One connection and what is talked about on it."""

    def __init__(self, port: int, talk: Talk) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.count: int | None = None
        self._talk = talk
        self._rest = b""

    def begin(self) -> None:
        """Send the first request, if there is one."""
        request = next(self._talk, None)
        if request is None:
            self.count = 0
        else:
            self.socket.sendall(request)

    def read(self) -> None:
        """Take what came, and answer a whole reply by the next request; at the end there is a count."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise WrongAnswer("the server closed the connection")
        self._rest += data
        reply = self._whole()
        if reply is None:
            return
        try:
            self.socket.sendall(self._talk.send(reply))
        except StopIteration as end:
            self.count = end.value

    def _whole(self) -> Reply | None:
        head, end, rest = self._rest.partition(b"\r\n\r\n")
        if not end:
            return None
        reply = Reply(int(head[9:12]), head + b"\r\n", b"")
        length = 0 if reply.status == 204 else int(reply.field(b"content-length"))
        if len(rest) < length:
            return None
        self._rest = rest[length:]
        return reply._replace(body=rest[:length])


def hold(port: int, talks: Iterable[Talk]) -> int:
    """Hold all talks at once, each on its own connection, to their ends; return the sum of their counts."""
    peers = [_Peer(port, talk) for talk in talks]
    with selectors.EpollSelector() as selector:
        for peer in peers:
            peer.begin()
            if peer.count is None:
                selector.register(peer.socket, selectors.EVENT_READ, peer)
        while selector.get_map():
            for key, _ in selector.select():
                key.data.read()
                if key.data.count is not None:
                    selector.unregister(key.fd)
    for peer in peers:
        peer.socket.close()
    return sum(peer.count or 0 for peer in peers)
