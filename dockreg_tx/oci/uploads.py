"""Rules of an upload session ("Pushing a blob in chunks"): which bytes a request may add."""

from __future__ import annotations

import re

from dockreg_tx.oci.errors import RangeOutOfOrder, SizeInvalid

# 19 digits hold any 63-bit number. The unit and the total are RFC 9110's; the spec has neither.
_CONTENT_RANGE = re.compile(r"(?:bytes +)?([0-9]{1,19})-([0-9]{1,19})(?:/(?:\*|[0-9]{1,19}))?")


def check_chunk(offset_bytes: int, content_range: str | None, length_bytes: int | None) -> int | None:
    """Return how many bytes the body of a PATCH or PUT must have, None when only its end will tell.

    Without Content-Range the body goes on at the offset, whatever its length.

    Args:
        offset_bytes: how many bytes the session holds.
        content_range: the request's header, ``first-last`` with both ends included.
        length_bytes: the request's Content-Length, None for a chunked body.

    Raises:
        RangeOutOfOrder: the header is malformed, runs backward, or does not begin at the offset.
        SizeInvalid: the range and the length disagree.
    """
    if content_range is None:
        return length_bytes
    match = _CONTENT_RANGE.fullmatch(content_range.strip(" \t"))
    if match is None:
        raise RangeOutOfOrder("Content-Range must be <first>-<last>, in bytes", offset_bytes)
    first, last = int(match[1]), int(match[2])
    if first != offset_bytes:
        raise RangeOutOfOrder(f"the chunk must begin at byte {offset_bytes}, not {first}", offset_bytes)
    if last < first:
        raise RangeOutOfOrder("Content-Range ends before it begins", offset_bytes)
    size_bytes = last - first + 1
    if length_bytes is not None and length_bytes != size_bytes:
        raise SizeInvalid(f"Content-Range spans {size_bytes} bytes, but Content-Length is {length_bytes}")
    return size_bytes


def upload_range(offset_bytes: int) -> str:
    """Return the Range header of a session that holds ``offset_bytes``.

    An empty session is ``0-0``, as is one of a single byte: the API has no other word for it.
    """
    return f"0-{max(offset_bytes - 1, 0)}"
