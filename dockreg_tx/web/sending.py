"""Between answers as values and what is written: headers in both directions."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger
from twisted.web.iweb import IRequest

from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.web.answers import Answer, BlobAnswer, Headers, PartsAnswer
from dockreg_tx.web.errors import error_answer
from dockreg_tx.web.intake import RegistryRequest
from dockreg_tx.web.outflow import Slice, send_parts, send_text

#: On every answer: old dockers need the first; content is the users', so browsers must not guess its type.
COMMON_HEADERS: Headers = (
    ("Docker-Distribution-API-Version", "registry/2.0"),
    ("X-Content-Type-Options", "nosniff"),
)

_log = Logger()


class HeadersOf:
    """Headers of a Twisted request."""

    def __init__(self, request: IRequest) -> None:
        self._headers = request.requestHeaders

    def get(self, name: str) -> str | None:
        """Return the value of a header, None when it is absent."""
        values = self._headers.getRawHeaders(name.encode("latin-1"))
        return None if not values else b", ".join(values).decode("latin-1")


def send_answer(request: RegistryRequest, answer: Answer) -> None:
    """Write a whole answer, with the headers that all answers have, and end the request."""
    send_text(request, answer.status, (*COMMON_HEADERS, *answer.headers), answer.body)


def as_sent(answer: Answer) -> Answer:
    """Return an answer with the headers that all answers have."""
    return Answer(answer.status, (*COMMON_HEADERS, *answer.headers), answer.body)


async def send_content(request: RegistryRequest, answer: BlobAnswer | PartsAnswer) -> None:
    """Send a blob, or say that it cannot be read while nothing is sent yet; closed it is in any case."""
    headers = encoded((*COMMON_HEADERS, *answer.headers))
    try:
        await send_parts(request, answer.status, headers, parts_of(answer))
    except StoreUnavailable as error:
        _log.warn("{text} [{request_id}]", text=error.message, request_id=request.request_id)
        send_answer(request, error_answer(error, request_id=request.request_id))
    finally:
        answer.blob.close()


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
