"""Chunked bodies are decoded as Twisted decodes them, however they are cut and whatever is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError

from dockreg_tx.web.chunks import ChunkDecoder

#: Chunks as clients send them, and the odd ones: with extensions, zeros before the length, and broken.
_SIZES = st.sampled_from([1, 2, 9, 10, 15, 16, 17, 255, 4096])
_PLAIN = st.builds(lambda size: b"%x\r\n%b\r\n" % (size, bytes(size)), _SIZES)
_ODD = st.sampled_from(
    [
        *(b"3;a=b\r\nabc\r\n", b"003\r\nabc\r\n", b"A\r\n0123456789\r\n", b"3\nabc\r\n", b"3\r\nabcd\r\n"),
        *(b"+3\r\nabc\r\n", b"0x3\r\nabc\r\n", b"\r\n", b"3 \r\nabc\r\n", b"123456789\r\n", b"ffffffff\r\n"),
        *(b"3\r\nabc\n", b"3\r\nabc\r", b"f" * 17 + b"\r\nabc"),
    ]
)
_ENDS = st.sampled_from(
    [b"0\r\n\r\n", b"0\r\n\r\nGET / HTTP/1.1\r\n", b"0\r\nA: b\r\n\r\n", b"00\r\n\r\n", b"0;x\r\n\r\n", b""]
)
_STREAMS = st.builds(
    lambda chunks, end: b"".join(chunks) + end, st.lists(_PLAIN | _PLAIN | _PLAIN | _ODD, max_size=12), _ENDS
)


def decoded(
    kind: type[_ChunkedTransferDecoder], pieces: Sequence[bytes]
) -> tuple[list[bytes], list[bytes], int]:
    """Return the content so far after each piece, what came after the end, and which piece was refused."""
    contents: list[bytes] = []
    rests: list[bytes] = []
    content = bytearray()
    decoder = kind(content.extend, rests.append)
    for number, piece in enumerate(pieces):
        try:
            decoder.dataReceived(piece)
        except _MalformedChunkedDataError:
            return [*contents, bytes(content)], rests, number
        contents.append(bytes(content))
        if rests:
            break
    return contents, rests, -1


class ChunkDecoderTests(SynchronousTestCase):
    @settings(derandomize=True, deadline=None, max_examples=2000)
    @given(stream=_STREAMS, cuts=st.lists(st.integers(1, 9000), max_size=8))
    def test_as_twisted(self, stream: bytes, cuts: list[int]) -> None:
        """The same content after each read, the same end, and the same refusals at the same read."""
        places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        pieces = [stream[start:end] for start, end in pairwise(places)]
        self.assertEqual(decoded(_ChunkedTransferDecoder, pieces), decoded(ChunkDecoder, pieces))

    def test_together(self) -> None:
        """The chunks of one read go on in one piece, and a read of one chunk as it came."""
        taken: list[bytes] = []
        decoder = ChunkDecoder(taken.append, taken.append)
        decoder.dataReceived(b"8\r\n0123")
        read = b"4567\r\n" + 100 * b"3\r\nabc\r\n" + b"ff\r\nxy"
        decoder.dataReceived(read)
        inside = b"z" * 100
        decoder.dataReceived(inside)
        self.assertEqual([b"0123", b"4567" + 100 * b"abc" + b"xy", inside], taken)
        self.assertIs(inside, taken[2])
