"""Answers on their way out."""

from __future__ import annotations

from collections.abc import Sequence

from dockreg_tx.web.framing import reason_phrase
from dockreg_tx.web.intake import RegistryRequest

Header = tuple[bytes, bytes]

#: These have no body, and no headers that describe one.
_BODILESS = (204, 304)


def send(request: RegistryRequest, status: int, headers: Sequence[Header], body: bytes) -> None:
    """Finish an answer whose body is known; head and body leave in one write.

    A HEAD request gets the head alone, with the Content-Length of ``headers`` if there is one, else that of
    ``body``. Does nothing when the client has gone.
    """
    if request.is_over:
        return
    is_silent = request.method == b"HEAD" or status in _BODILESS
    payload = b"" if is_silent else body
    head = _head(request, status, headers, length=len(body), keep_length=is_silent)
    request.sentLength = len(payload)
    request.channel_or_raise().write(head + payload)
    request.finish()


def _head(
    request: RegistryRequest, status: int, headers: Sequence[Header], *, length: int, keep_length: bool
) -> bytes:
    request.setResponseCode(status)
    request.begin_answer()
    request.startedWriting = 1
    fields: dict[bytes, list[Header]] = {}
    for name, values in request.responseHeaders.getAllRawHeaders():
        fields[name.lower()] = [(name, value) for value in values]
    for name in {name.lower() for name, _ in headers}:
        fields[name] = [header for header in headers if header[0].lower() == name]
    if not (keep_length and b"content-length" in fields):
        fields[b"content-length"] = [(b"Content-Length", b"%d" % length)]
    if status in _BODILESS:
        fields.pop(b"content-type", None)
        fields.pop(b"content-length")
    lines = [b"%b %d %b" % (request.clientproto, status, reason_phrase(status))]
    lines += [_line(name, value) for values in fields.values() for name, value in values]
    return b"\r\n".join([*lines, b"", b""])


def _line(name: bytes, value: bytes) -> bytes:
    if b"\n" in value or b"\r" in value:
        raise ValueError("a header value must not contain line breaks")
    return name + b": " + value
