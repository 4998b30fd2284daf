"""Conditional requests (RFC 9110, 13): the ETag of everything here is its digest."""

from __future__ import annotations

from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports import TagExpectation


def is_not_modified(if_none_match: str | None, digest: Digest) -> bool:
    """Tell whether an If-None-Match lists the digest, quoted or (as some clients send it) unquoted."""
    if if_none_match is None:
        return False
    return bool({"*", str(digest)} & _etags(if_none_match))


def tag_expectation(if_match: str | None, if_none_match: str | None) -> TagExpectation | None:
    """Return what a push demands of its tags: If-Match the digest they have, If-None-Match that they are new.

    An If-None-Match other than ``*`` is ignored: it can only be left over from a GET.
    """
    if if_match is not None:
        return TagExpectation(is_present=True, digests=_etags(if_match) - {"*"})
    if if_none_match is not None and "*" in _etags(if_none_match):
        return TagExpectation(is_present=False)
    return None


def _etags(header: str) -> frozenset[str]:
    return frozenset(tag.strip().removeprefix("W/").strip('"') for tag in header.split(","))
