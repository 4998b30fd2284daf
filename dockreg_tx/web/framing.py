"""What is wrong with a request before any handler sees it: pure rules over its first lines.

These refusals do not pass through the routes, so their answers are written here, whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

from twisted.web.http_headers import Headers

from dockreg_tx.oci.errors import ErrorCode

#: The first byte of a TLS handshake record; docker, podman and skopeo try TLS on every port first.
TLS_HANDSHAKE = 0x16

#: 20 digits can pass 2^63; thousands of them make ``int`` raise.
CONTENT_LENGTH_DIGITS = 19

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%2[Ff]|%5[Cc]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
_ABSOLUTE_FORM = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to a request that no handler sees."""

    status: int
    code: ErrorCode
    message: str

    def body(self, request_id: str) -> bytes:
        """Return the OCI error body."""
        detail = {"request_id": request_id}
        return json.dumps(
            {"errors": [{"code": self.code.value, "message": self.message, "detail": detail}]}
        ).encode()

    def answer(self, request_id: str, *, http_version: bytes = b"HTTP/1.1", with_body: bool = True) -> bytes:
        """Return the whole answer; it announces that the connection closes."""
        body = self.body(request_id)
        lines = [
            b"%b %d %b" % (http_version, self.status, reason_phrase(self.status)),
            b"Content-Type: application/json",
            b"Docker-Distribution-API-Version: registry/2.0",
            b"Content-Length: %d" % len(body),
            b"Connection: close",
        ]
        if self.status == HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append(b"Allow: " + METHODS)
        return b"\r\n".join([*lines, b"", body if with_body else b""])


def _bad_request(message: str) -> Refusal:
    return Refusal(400, ErrorCode.UNSUPPORTED, message)


MALFORMED = _bad_request("this is not a well-formed HTTP/1.1 request")
FOLDED_HEADER = _bad_request("header lines must not be folded")
BAD_LENGTH = _bad_request(f"Content-Length has more than {CONTENT_LENGTH_DIGITS} digits")
BAD_HOST = _bad_request("send exactly one well-formed Host header")
BAD_PATH = _bad_request(
    "the path has a broken escape, an encoded slash, two slashes in front, or a character no name can have"
)
TARGET_TOO_LONG = Refusal(414, ErrorCode.UNSUPPORTED, "the request line is too long")
HEADERS_TOO_LARGE = Refusal(431, ErrorCode.UNSUPPORTED, "the headers are too large")
TOO_SLOW = Refusal(408, ErrorCode.UNSUPPORTED, "the headers took too long: send the request again")
UNKNOWN_METHOD = Refusal(405, ErrorCode.UNSUPPORTED, "method names are written in capital letters")
TLS_ON_PLAIN_PORT = _bad_request("this port speaks plain HTTP, not TLS")


def reason_phrase(status: int) -> bytes:
    """Return the words that go with a status code."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b"Unknown Status"


def origin_form(target: bytes) -> bytes:
    """Return a request target without scheme and authority: servers must take the absolute form too."""
    absolute = _ABSOLUTE_FORM.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def is_persistent(version: bytes, headers: Headers) -> bool:
    """Tell whether the client wants to keep the connection; we do not keep it for HTTP/1.0."""
    fields = headers.getRawHeaders(b"Connection") or []
    tokens = {token.strip(b" \t").lower() for field in fields for token in field.split(b",")}
    return version == b"HTTP/1.1" and b"close" not in tokens


def is_host(value: bytes) -> bool:
    """Tell whether a Host field is well-formed."""
    return _HOST.fullmatch(value) is not None


def refusal_of(method: bytes, target: bytes, version: bytes, headers: Headers) -> Refusal | None:
    """Return why a request cannot be routed, or None when it can.

    Args:
        method: as sent; the routes would fold its case, so lower case ends here.
        target: in origin form, with the query.
        version: ``HTTP/1.0`` or ``HTTP/1.1``.
        headers: all of them.
    """
    if method != method.upper():
        return UNKNOWN_METHOD
    hosts = headers.getRawHeaders(b"Host") or []
    if len(hosts) > 1 or (not hosts and version != b"HTTP/1.0"):
        return BAD_HOST
    if hosts and not is_host(hosts[0]):
        return BAD_HOST
    return None if is_path_sound(target.split(b"?", 1)[0]) else BAD_PATH


def is_path_sound(path: bytes) -> bool:
    """Tell whether a raw path decodes to UTF-8 text in one way only.

    An encoded slash or backslash would be another path after decoding, for us or for a proxy before us.
    """
    if path == b"*":
        return True
    # The routes would drop all but one of several slashes in front; a proxy's rules before us would not.
    if not path.startswith(b"/") or path.startswith(b"//") or not path.isascii() or _BAD_ESCAPE.search(path):
        return False
    decoded = unquote_to_bytes(path)
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(decoded)


def rest_of_head(headers: Sequence[tuple[str, str]], *, length_bytes: int) -> str:
    """Return the fields and the end of an answer's head."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if fields.count("\n") != len(headers) or fields.count("\r") != len(headers):
        raise ValueError("a header value must not contain line breaks")
    if "Content-Length: " not in fields:
        fields = f"{fields}Content-Length: {length_bytes}\r\n"
    return fields + "\r\n"
