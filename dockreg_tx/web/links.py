"""Addresses that clients are sent to: path-absolute, so that any front may stand before us.

Clients resolve them against what they called; with a configured public URL they are absolute.
"""

from __future__ import annotations


class Links:
    """Makes Location and Link addresses."""

    def __init__(self, public_url: str = "") -> None:
        self._prefix = public_url.rstrip("/")

    def to(self, path: str) -> str:
        """Return the address of a path that begins with a slash."""
        return f"{self._prefix}{path}"
