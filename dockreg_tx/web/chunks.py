"""Bodies in chunks (RFC 9112, 7.1), as docker sends its layers: thirty thousand of them to the gibibyte."""

from __future__ import annotations

import re
from typing import Any

from twisted.web.http import _ChunkedTransferDecoder

#: What stands between two chunks that have nothing but their bytes; all else is Twisted's to judge.
_BETWEEN = re.compile(rb"\r\n([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")


class ChunkDecoder(_ChunkedTransferDecoder):
    """Twisted's decoder, with a way around it while one plain chunk follows another.

    Twisted's copies each chunk twice more, and hands each on alone; here those of one read go on together.
    """

    @property
    def is_inside(self) -> bool:
        """Whether nothing is known of what comes next but that it is of a chunk."""
        return self.state == "BODY" and not self._buffer

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the client.

        Raises:
            _MalformedChunkedDataError: they are no chunks; those before were handed on.
        """
        if not self.is_inside:
            super().dataReceived(data)
            return
        pieces, end = self.split(data)
        if pieces:
            self.dataCallback(data if len(pieces[0]) == len(data) else b"".join(pieces))
        if end < len(data):
            super().dataReceived(data[end:])

    def split(self, data: bytes | memoryview) -> tuple[list[memoryview], int]:
        """Return what is content in ``data``, and where it begins to be something else than plain chunks.

        Only when ``is_inside``; what begins there has to be given to ``dataReceived``, and the content not.
        """
        view, at, left_bytes = memoryview(data), 0, self.length
        pieces: list[memoryview] = []
        # A chunk may say that it is longer than an index can be.
        while following := _BETWEEN.match(view, min(at + left_bytes, len(view))):
            pieces.append(view[at : at + left_bytes])
            at, left_bytes = following.end(), int(following[1], 16)
        here_bytes = len(view) - at
        if here_bytes >= left_bytes:
            self.length = left_bytes
            return pieces, at
        self.length = left_bytes - here_bytes
        if here_bytes:
            pieces.append(view[at:])
        return pieces, len(view)


def faster(decoder: Any) -> Any:
    """Return what decodes a body in the place of what Twisted chose for it."""
    if type(decoder) is not _ChunkedTransferDecoder:
        return decoder
    return ChunkDecoder(decoder.dataCallback, decoder.finishCallback)
