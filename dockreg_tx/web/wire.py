"""``[log] wire``: heads of requests and answers in the log, for hunting faults; no secret gets there.

Only fields that are known to be harmless show their values: clients put secrets wherever there is room.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from dockreg_tx.access.redaction import HIDDEN, redacted, redacted_address
from dockreg_tx.web.intake import RegistryRequest

_HARMLESS = frozenset(
    {
        "accept", "accept-encoding", "accept-ranges", "allow", "cache-control", "connection",
        "content-length",
        "content-range", "content-type", "date", "docker-content-digest", "docker-distribution-api-version",
        "docker-upload-uuid", "etag", "expect", "host", "if-match", "if-none-match", "if-range",
        "oci-chunk-min-length", "oci-filters-applied", "oci-subject", "range", "retry-after",
        "transfer-encoding", "user-agent", "www-authenticate", "x-content-type-options",
    }
)  # fmt: skip
_ADDRESSES = frozenset({"location", "link"})
_SCHEMES = ("basic", "bearer")
#: What is shown of one head.
_LIMIT_CHARACTERS = 8192
_log = Logger(namespace="dockreg.wire")


def log_exchange(request: RegistryRequest, head: bytes) -> None:
    """Write the head of a request, and that of its answer."""
    first = f"{_text(request.method)} {redacted_address(_text(request.uri))} {_text(request.clientproto)}"
    fields = [(_text(name), _text(v)) for name, vs in request.requestHeaders.getAllRawHeaders() for v in vs]
    _write(request, ">", first, fields)
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    _write(
        request, "<", first, [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    )


def _write(request: RegistryRequest, way: str, first: str, fields: Iterable[tuple[str, str]]) -> None:
    text = " | ".join([first, *(f"{name}: {shown(name, value)}" for name, value in fields)])
    # Control characters would forge lines or steer terminals.
    plain = text[:_LIMIT_CHARACTERS].encode("unicode_escape").decode("ascii")
    _log.info("{request_id} {way} {head}", request_id=request.request_id, way=way, head=plain)


def shown(name: str, value: str) -> str:
    """Return what may be seen of a field's value."""
    name = name.lower()
    if name in _HARMLESS:
        return redacted(value)
    if name in _ADDRESSES:
        return redacted_address(value)
    scheme = value.partition(" ")[0]
    is_known = name == "authorization" and scheme.lower() in _SCHEMES
    return f"{scheme} {HIDDEN}" if is_known else HIDDEN


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")
