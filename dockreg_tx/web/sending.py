"""Between answers as values and what is written: headers in both directions."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.web.iweb import IRequest

from dockreg_tx.web.answers import Answer, BlobAnswer, Headers, PartsAnswer
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.outflow import Slice, send_text

#: On every answer: old dockers need the first; content is the users', so browsers must not guess its type.
COMMON_HEADERS: Headers = (
    ("Docker-Distribution-API-Version", "registry/2.0"),
    ("X-Content-Type-Options", "nosniff"),
)


class HeadersOf:
    """Headers of a Twisted request."""

    def __init__(self, request: IRequest) -> None:
        self._headers = request.requestHeaders

    def get(self, name: str) -> str | None:
        """Return the value of a header, None when it is absent."""
        values = self._headers.getRawHeaders(name.encode("latin-1"))
        return None if not values else b", ".join(values).decode("latin-1")


def send_answer(request: RegistryRequest, answer: Answer) -> Answer:
    """Write a whole answer and end the request; return it with the headers that all answers have."""
    sent = Answer(answer.status, (*COMMON_HEADERS, *answer.headers), answer.body)
    send_text(request, sent.status, sent.headers, sent.body)
    return sent


def parts_of(answer: BlobAnswer | PartsAnswer) -> Sequence[bytes | Slice]:
    """Return what an answer sends of its blob."""
    if isinstance(answer, BlobAnswer):
        return [(answer.blob, answer.start_bytes, answer.length_bytes)]
    return [
        part if isinstance(part, bytes) else (answer.blob, part.start, part.length) for part in answer.parts
    ]


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers as they are written."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
