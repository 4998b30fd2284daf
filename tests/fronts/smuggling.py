"""Requests that a proxy and the server behind it could read differently; each has names of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.integration.sockets import basic

AUTHORIZATION = basic("pusher", "pusher-password")

#: Ways to say "chunked", or to seem to.
CODINGS = (
    "Transfer-Encoding: chunked", "Transfer-Encoding : chunked", "X: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding:\tchunked", "Transfer-Encoding: xchunked", "Transfer-Encoding:chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:\x0bchunked", "Transfer-Encoding: \x00chunked", "Transfer_Encoding: chunked",
    "Transfer-Encoding\n: chunked", "X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked",
    "transfer-encoding: CHUNKED", 'Transfer-Encoding: "chunked"', "Transfer-Encoding: chunked;a=b",
    "Transfer-Encoding:", "Transfer-Encoding: gzip, chunked", "TE: chunked", "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chunked\x7f", "\x0bTransfer-Encoding: chunked", "Transfer-Encoding: \xa0chunked",
)  # fmt: skip
#: Ways to give a length; ``#`` stands for that of everything behind the head.
LENGTHS = (
    "Content-Length: #", "Content-Length: 0", "Content-Length: +#", "Content-Length: -1",
    "Content-Length: #, #",
    "Content-Length: #\r\nContent-Length: #", "Content-Length: 0\r\nContent-Length: #",
    "Content-Length: #\r\nContent-Length: 0", "Content-Length:\t#", "Content-Length: # ",
    "Content-Length: 0x5",
    "Content-Length: #.0", "Content-Length : #", "Content_Length: #", "X: y\r\n Content-Length: #",
    "Content-Length: 00#", "Content-Length: 99999999999999999999", "Content-Length: 0, #",
    "Content-Length:",
    "Content-Length: # #", "Content-Length: 0\x0b", "Content-Length: \x00#", "Content-Length\t: #",
    "Length: #",
)  # fmt: skip
#: First chunks, each of which should be ``hello``.
CHUNKS = (
    b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b'5;a="\r\n"\r\nhello\r\n', b"0x5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b" 5\r\nhello\r\n", b"+5\r\nhello\r\n", b"-5\r\nhello\r\n", b"0000000000005\r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\r\nhello\n", b"5\rhello\r\n", b"5\r\nhello", b"5\r\nhelloXX", b"5;\n\r\nhello\r\n",
    b"5;\x00\r\nhello\r\n",
    b"10000000000000005\r\nhello\r\n", b"5\r\n\r\nhello\r\n", b"\r\n5\r\nhello\r\n", b"5,5\r\nhello\r\n",
    b"G\r\nhello\r\n", b"\r\nhello\r\n", b"5;" + b"x" * 5000 + b"\r\nhello\r\n", b"5\t;a\r\nhello\r\n",
)  # fmt: skip
#: Ends of a chunked body.
ENDS = (
    b"0\r\n\r\n", b"0\n\n", b"00\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 50\r\n\r\n",
    b"0\r\n",
    b"0;a\r\n\r\n", b"0 \r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"-0\r\n\r\n",
    b"0\r\n \r\n\r\n",
    b"0\r\nbroken\r\n\r\n",
)  # fmt: skip
#: Heads that are odd beside their framing; ``@`` stands for the path.
HEADS = (
    "GET @ HTTP/1.1\r\nHost: h\r\n", "\r\nGET @ HTTP/1.1\r\nHost: h\r\n", "GET  @ HTTP/1.1\r\nHost: h\r\n",
    "GET\t@ HTTP/1.1\r\nHost: h\r\n", "GET @  HTTP/1.1\r\nHost: h\r\n", "GET @ HTTP/1.1 \r\nHost: h\r\n",
    "GET @ HTTP/1.1\nHost: h\n", "GET @ HTTP/1.0\r\nHost: h\r\n",
    "GET @ HTTP/1.0\r\nConnection: keep-alive\r\n",
    "GET @ HTTP/2.0\r\nHost: h\r\n", "GET @ HTTP/1.1\r\nHost: h\r\nHost: i\r\n", "GET @ HTTP/1.1\r\n",
    "GET http://other@ HTTP/1.1\r\nHost: h\r\n", "GET @ HTTP/1.1\r\nHost: h\r\nno colon here\r\n",
    "GET @ HTTP/1.1\r\nHost: h\r\n: empty name\r\n", "GET @ HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n",
    "GET @ HTTP/1.1\r\nHost: h\r\nX: a\rb: c\r\n", "GET @ HTTP/1.1\r\nHost: h\r\nX: a\n b\r\n",
    "GET @ HTTP/1.1\r\nHost: h\r\nConnection: Content-Length\r\nContent-Length: 6\r\n",
    "GET @ HTTP/1.1\r\nHost: h\r\nConnection: Transfer-Encoding\r\n", "get @ HTTP/1.1\r\nHost: h\r\n",
    "GET @ HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade,HTTP2-Settings\r\n",
    "GET @ HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "GET @#x HTTP/1.1\r\nHost: h\r\n",
    "OPTIONS @ HTTP/1.1\r\nHost: h\r\n", "CONNECT @ HTTP/1.1\r\nHost: h\r\n",
    "TRACE @ HTTP/1.1\r\nHost: h\r\n",
    "GET @%0d%0aX:%20y HTTP/1.1\r\nHost: h\r\n", "GET @ HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n",
    "GET @ FOO/1.1\r\nHost: h\r\n", "GET @ HTTP/1.1\r\nHost: h i\r\n", "GET @/../x HTTP/1.1\r\nHost: h\r\n",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """One attack: what is sent on a fresh connection; ``number`` is in its paths."""

    number: int
    data: bytes

    @property
    def outer(self) -> str:
        """What every path of the first request contains."""
        return f"outer-{self.number:03}x"

    @property
    def smuggled(self) -> str:
        """The path that a wrong reading turns into a request."""
        return f"/smuggled-{self.number:03}x"


def variants() -> list[Variant]:
    """Return all of them."""
    found: list[Variant] = []
    for build in (_codings, _lengths, _chunks, _heads):
        for data in build():
            number = len(found)
            found.append(Variant(number, data.replace(b"NNN", b"%03d" % number)))
    return found


#: What hides; the outer name and this one are made whole by ``variants``.
_HIDDEN = b"GET /smuggled-NNNx HTTP/1.1\r\nHost: h\r\n\r\n"


def _post(*fields: str, method: str = "POST") -> bytes:
    path = "/v2/outer-NNNx/blobs/uploads/" if method == "POST" else "/v2/outer-NNNx/manifests/v1"
    lines = [f"{method} {path} HTTP/1.1", "Host: h", f"Authorization: {AUTHORIZATION}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _codings() -> Iterator[bytes]:
    """Two framings that disagree: the hidden request behind the last chunk, or inside the length."""
    body = b"5\r\nhello\r\n0\r\n\r\n" + _HIDDEN
    for number, coding in enumerate(CODINGS):
        method = ("POST", "PUT")[number % 2]
        yield _post(coding, method=method) + body
        yield _post(coding, f"Content-Length: {len(body)}", method=method) + body
        yield _post("Content-Length: 4", coding, method=method) + body


def _lengths() -> Iterator[bytes]:
    """Lengths that one side may not read as the other: the hidden request is the body."""
    for number, length in enumerate(LENGTHS):
        yield _post(length.replace("#", str(len(_HIDDEN))), method=("POST", "PUT")[number % 2]) + _HIDDEN
        yield _post(length.replace("#", "5")) + b"hello" + _HIDDEN


def _chunks() -> Iterator[bytes]:
    """Chunks that one side may cut where the other does not."""
    for number, chunk in enumerate(CHUNKS):
        method = ("POST", "PUT")[number % 2]
        yield _post("Transfer-Encoding: chunked", method=method) + chunk + b"0\r\n\r\n" + _HIDDEN
    for end in ENDS:
        yield _post("Transfer-Encoding: chunked", method="PUT") + b"5\r\nhello\r\n" + end + _HIDDEN


def _heads() -> Iterator[bytes]:
    """Heads that one side may end where the other does not; then a request of its own."""
    for head in HEADS:
        end = b"\n" if "\r" not in head else b"\r\n"
        yield head.replace("@", "/outer-NNNx").encode("latin-1") + end + _HIDDEN
