"""Basic credentials (RFC 7617, in UTF-8)."""

from __future__ import annotations

import base64
import binascii
import re

from dockreg_tx.oci.errors import Unauthorized

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_basic(header: str | bytes) -> tuple[str, str] | None:
    """Return user name and password of an Authorization header, None when its scheme is not Basic.

    The name ends at the first ``:``; either may be empty.

    Raises:
        Unauthorized: the credentials are not base64, not UTF-8, have no ``:``, or hold control characters.
    """
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    scheme, _, encoded = text.strip(" \t").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        # ValueError: characters beyond ASCII. Not chained: these errors carry the credentials.
        credentials = base64.b64decode(encoded.strip(" \t"), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise _malformed() from None
    name, colon, password = credentials.partition(":")
    if not colon or _CONTROL.search(credentials) is not None:
        raise _malformed()
    return name, password


def _malformed() -> Unauthorized:
    return Unauthorized("malformed Basic credentials")
