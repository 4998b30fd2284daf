"""Errors as answers in the OCI form (spec: "Error Codes"); the one place that writes them."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from dockreg_tx.oci.errors import ErrorCode, RangeNotSatisfiable, RegistryError, TooManyRequests
from dockreg_tx.web.answers import Answer, Headers, json_answer

#: Codes for failures that no RegistryError describes: those of HTTP itself.
_CODE_OF_STATUS = {
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.DENIED,
    404: ErrorCode.NAME_UNKNOWN,
    411: ErrorCode.SIZE_INVALID,
    413: ErrorCode.SIZE_INVALID,
    416: ErrorCode.BLOB_UPLOAD_INVALID,
    429: ErrorCode.TOOMANYREQUESTS,
    500: ErrorCode.UNKNOWN,
    503: ErrorCode.UNAVAILABLE,
}


def error_answer(error: RegistryError, *, request_id: str, headers: Headers = ()) -> Answer:
    """Return the answer that tells a client of ``error``; ``headers`` are added."""
    return json_answer(
        {"errors": [_with_request_id(entry, request_id) for entry in error.entries()]},
        status=error.status,
        headers=(*_headers_of(error), *headers),
    )


def status_answer(
    status: int, message: str | None = None, *, request_id: str, headers: Headers = ()
) -> Answer:
    """Return an error that only has a status, for example 404 for a path that no route takes."""
    entry: dict[str, object] = {
        "code": _CODE_OF_STATUS.get(status, ErrorCode.UNSUPPORTED).value,
        "message": message or HTTPStatus(status).phrase.lower(),
    }
    return json_answer({"errors": [_with_request_id(entry, request_id)]}, status=status, headers=headers)


def _with_request_id(entry: dict[str, object], request_id: str) -> dict[str, object]:
    """Add the id that the access log has too; it goes into ``detail``, which is free in form."""
    detail = entry.get("detail")
    if isinstance(detail, Mapping):
        extended: dict[str, object] = {**detail}
    else:
        extended = {} if detail is None else {"info": detail}
    return {**entry, "detail": {**extended, "request_id": request_id}}


def _headers_of(error: RegistryError) -> Headers:
    if isinstance(error, TooManyRequests):
        return (("Retry-After", str(error.retry_after_seconds)),)
    if isinstance(error, RangeNotSatisfiable):
        return (("Content-Range", f"bytes */{error.size_bytes}"),)
    return ()
