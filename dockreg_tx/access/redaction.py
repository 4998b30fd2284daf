"""Keeps secrets out of logs that clients put where everybody logs: into addresses, or in place of a name."""

from __future__ import annotations

import re

#: What stands in the place of a secret.
HIDDEN = "[hidden]"
#: Parameters that clients of registries send, and whose values an operator may want to see.
_HARMLESS = frozenset(
    {
        "account", "artifactType", "client_id", "digest", "digest-algorithm", "from", "last", "mount",
        "n", "next_page", "ns", "offline_token", "page", "q", "scope", "service", "tag",
    }
)  # fmt: skip
#: Robots' secrets and refresh tokens, JWTs (cut ones too), and what stands before the @ of an address.
_SECRETS = re.compile(
    r"\bdk[rl]_[A-Za-z0-9_-]{8,}|\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}|(?<=//)[^/?#\s]*(?=@)"
)


def redacted(text: str) -> str:
    """Return a text without what looks like one of our secrets."""
    # What every secret contains is found much faster than that there is none.
    if "//" in text or "eyJ" in text or "dkr_" in text or "dkl_" in text:
        return _SECRETS.sub(HIDDEN, text)
    return text


def redacted_address(address: str) -> str:
    """Return an address, or its path and query, without secrets; of unknown parameters the value is one."""
    if not address:
        return ""
    path, mark, query = address.partition("?")
    shown = "&".join(map(_parameter, query.split("&"))) if query else ""
    return redacted(path + mark + shown)


def _parameter(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not pair or name in _HARMLESS or (equals and not value):
        return pair
    return f"{name}={HIDDEN}" if equals else HIDDEN
