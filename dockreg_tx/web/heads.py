"""Heads of requests that came whole, read at once: the plain ones that nearly all clients send.

Whatever is not plain (an odd field, a broken line) is left to the parser that reads line by line, which alone
decides what is refused. Clients send the same fields with each request, so what was read of them is kept, but
for the credentials: those are read anew, and fields are known again by a keyed hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dockreg_tx.web import framing

#: Longer heads go the long way.
BLOCK_LIMIT_BYTES = 4096
#: Most blocks of fields that are remembered; then all are forgotten.
BLOCKS_LIMIT = 1024

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(rb"[0-9]{1,9}")
#: Fields that say something of a body or of the connection, or that nobody may repeat.
_NOT_PLAIN = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer", b"cookie"})
_MAY_REPEAT = frozenset({b"accept"})


@dataclass(frozen=True, slots=True)
class _Block:
    """What was read of a block of fields; ``authorization`` is where the credentials stand in its bytes."""

    values: Mapping[bytes, list[bytes]]
    authorization: slice | None
    length_bytes: int = 0
    #: Referer and User-Agent, as the log has them.
    described: tuple[str, str] = ("", "")


class Fields:
    """The fields of one head, with the credentials that this request brought."""

    __slots__ = ("_authorization", "_values", "described", "length_bytes")

    def __init__(self, block: _Block, authorization: bytes | None) -> None:
        self.length_bytes = block.length_bytes
        self.described = block.described
        self._values = block.values
        self._authorization = authorization

    def getRawHeaders(self, name: bytes, default: list[bytes] | None = None) -> list[bytes] | None:
        """Return the values of a field as Twisted's ``Headers`` do."""
        name = name.lower()
        if name == b"authorization" and self._authorization is not None:
            return [self._authorization]
        return self._values.get(name, default)


class Heads:
    """Reads blocks of fields; ``secret`` keys the hash that they are remembered by."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._blocks: dict[bytes, _Block | None] = {}

    def name_of(self, raw: bytes) -> bytes:
        """Return what tells a whole head from all others, and from which nobody can read it."""
        return hashlib.blake2b(raw, key=self._secret, digest_size=16).digest()

    def fields(self, raw: bytes) -> Fields | None:
        """Return the fields of ``raw``, which ends with one line break; None when they are not plain."""
        if len(raw) > BLOCK_LIMIT_BYTES:
            return None
        key = self.name_of(raw)
        block = self._blocks.get(key, _UNREAD)
        if block is _UNREAD:
            if len(self._blocks) >= BLOCKS_LIMIT:
                self._blocks.clear()
            block = self._blocks[key] = _read(raw)
        if block is None:
            return None
        where = block.authorization
        return Fields(block, None if where is None else raw[where])


_UNREAD = _Block({}, None)


def _read(raw: bytes) -> _Block | None:
    values: dict[bytes, list[bytes]] = {}
    authorization: slice | None = None
    start = 0
    for line in raw.split(b"\r\n")[:-1]:
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        name = match[1].lower()
        value = match[2].rstrip(b" \t")
        if name in _NOT_PLAIN or (name in values and name not in _MAY_REPEAT):
            return None
        if name == b"authorization":
            if authorization is not None:
                return None
            authorization = slice(start + match.start(2), start + match.start(2) + len(value))
        else:
            values.setdefault(name, []).append(value)
        start += len(line) + 2
    length = values.get(b"content-length", [b"0"])[0]
    if not _is_plain(values) or _LENGTH.fullmatch(length) is None:
        return None
    referer, agent = (values.get(name, [b""])[-1].decode("latin-1") for name in (b"referer", b"user-agent"))
    return _Block(values, authorization, int(length), (referer, agent))


def _is_plain(values: Mapping[bytes, list[bytes]]) -> bool:
    """Tell whether a connection is kept after these fields, and the host is well-formed."""
    connection = values.get(b"connection", [b"keep-alive"])
    host = values.get(b"host", [b""])[0]
    return connection[0].lower() == b"keep-alive" and framing.is_host(host)
