"""Answers as values: what a handler returns, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dockreg_tx.oci.ranges import ByteRange
from dockreg_tx.ports import OpenBlob

Headers = tuple[tuple[str, str], ...]

JSON = "application/json"


@dataclass(slots=True)
class Answer:
    """An answer whose body is known; Content-Length is that of ``body`` unless the headers name it (HEAD).

    Nobody changes one; it is not frozen because making a frozen one takes three times as long.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class BlobAnswer:
    """An answer that streams ``length_bytes`` of an open blob from ``start_bytes``; its sender closes it."""

    status: int
    headers: Headers
    blob: OpenBlob
    start_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class PartsAnswer:
    """An answer of texts and ranges of an open blob, one after the other; its sender closes the blob."""

    status: int
    headers: Headers
    blob: OpenBlob
    parts: tuple[bytes | ByteRange, ...]


AnyAnswer = Answer | BlobAnswer | PartsAnswer


def json_answer(
    document: object,
    *,
    status: int = 200,
    headers: Sequence[tuple[str, str]] = (),
    content_type: str = JSON,
) -> Answer:
    """Return ``document`` as compact JSON."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return Answer(status, (("Content-Type", content_type), *headers), body)
