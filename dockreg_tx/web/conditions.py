"""Conditional requests (RFC 9110, 13): the ETag of everything here is its digest."""

from __future__ import annotations

from dockreg_tx.oci.digests import Digest


def is_not_modified(if_none_match: str | None, digest: Digest) -> bool:
    """Tell whether an If-None-Match lists the digest, quoted or (as some clients send it) unquoted."""
    if if_none_match is None:
        return False
    tags = (tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(","))
    return any(tag in {"*", str(digest)} for tag in tags)
