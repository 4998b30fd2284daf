"""Byte ranges of a download (RFC 9110, section 14), with the exceptions that registry clients need."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dockreg_tx.oci.errors import RangeNotSatisfiable, Unsupported

#: podman asks for up to 1,024 ranges of a zstd:chunked layer in one request.
RANGES_LIMIT = 2048

_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_BEYOND = 10**19


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``length`` bytes from ``start``; at least one."""

    start: int
    length: int

    def content_range(self, size_bytes: int) -> str:
        """Return the Content-Range header of this part of ``size_bytes``."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size_bytes}"


def parse_range(header: str | None, size_bytes: int) -> tuple[ByteRange, ...] | None:
    """Return the parts of a Range header, in its order and not merged; None to send the whole blob.

    Another unit and garbage are ignored. Ends beyond the blob are cut; parts that lie outside are left out.

    Raises:
        RangeNotSatisfiable: every part lies outside, or ends before it begins. RFC 9110 would ignore
            the latter; the conformance suite wants 416.
        Unsupported: there are more than 2,048 parts; clients fall back to fewer.
    """
    unit, _, text = (header or "").partition("=")
    if unit.strip(" \t").lower() != "bytes":
        return None
    specs = [spec for spec in (part.strip(" \t") for part in text.split(",")) if spec]
    if len(specs) > RANGES_LIMIT:
        raise Unsupported(f"a request may ask for at most {RANGES_LIMIT} ranges")
    matches = [_SPEC.fullmatch(spec) for spec in specs]
    parts: list[ByteRange | None] = []
    for match in matches:
        if match is None or match[0] == "-":
            return None
        parts.append(_part(match[1], match[2], size_bytes))
    if not parts:
        return None
    satisfiable = tuple(part for part in parts if part is not None)
    if not satisfiable:
        raise RangeNotSatisfiable(size_bytes)
    return satisfiable


def _part(first: str, last: str, size_bytes: int) -> ByteRange | None:
    """Return the bytes that one spec means, None when the blob has none of them."""
    if not first:
        start, end = max(size_bytes - _number(last), 0), size_bytes
    else:
        start = _number(first)
        end = min(_number(last) + 1, size_bytes) if last else size_bytes
    return ByteRange(start, end - start) if start < end else None


def _number(digits: str) -> int:
    """Return the number, or one beyond every blob: ``int`` refuses thousands of digits."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) < 20 else _BEYOND
