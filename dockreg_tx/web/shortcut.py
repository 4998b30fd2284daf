"""The short way from a request to its endpoint: the same routes as Klein's, found by one look.

It is made of the route table and knows nothing that is not in it. Only paths in their usual spelling are
found here, without escapes or doubled slashes; all others, and every method that a route lacks, are Klein's.
The tests of the endpoints run through both ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

#: Targets that are remembered, as a client asks for the same ones again; then all are forgotten.
TARGETS_LIMIT = 4096
#: Longer targets are looked up each time.
_TARGET_LIMIT_BYTES = 512
#: And so are those of upload sessions, which nobody asks for again; what opens one ends with this.
_UPLOADS = re.compile(rb"/uploads/.")

#: What each part of a rule may look like here; never more than Klein lets pass.
_PARTS = {
    "repository:name": r"[a-z0-9._/-]+",
    "digest": r"[a-z0-9]+:[A-Za-z0-9]+",
    "reference": r"[A-Za-z0-9_][A-Za-z0-9_.:-]*",
    # As ours are; a path that only looks like it may be a blob named "uploads".
    "upload": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}
_PART = re.compile(r"<([a-z:]+)>")


class HasRule(Protocol):
    """What is needed of a route."""

    @property
    def rule(self) -> str:
        """The path, with its parts in angle brackets."""
        ...


R = TypeVar("R", bound=HasRule)
A = TypeVar("A")
#: Makes of a route, a method, a target and the parts of its path what a request aims at; None for nothing.
Aim = Callable[[R, str, bytes, dict[str, str]], A | None]


class Shortcut(Generic[R, A]):
    """Finds what a request aims at."""

    def __init__(self, routes: Sequence[R], aim: Aim[R, A]) -> None:
        self._plain = {route.rule: route for route in routes if "<" not in route.rule}
        self._patterns = [(_pattern(route.rule), route) for route in routes if "<" in route.rule]
        self._aim = aim
        self._known: dict[tuple[bytes, bytes], A | None] = {}

    def find(self, method: bytes, target: bytes) -> A | None:
        """Return what a request aims at, None when it has to go through Klein."""
        key = method, target
        if key in self._known:
            return self._known[key]
        found = self._look(method.decode("latin-1"), target)
        if len(target) <= _TARGET_LIMIT_BYTES and not _UPLOADS.search(target):
            if len(self._known) >= TARGETS_LIMIT:
                self._known.clear()
            self._known[key] = found
        return found

    def _look(self, method: str, target: bytes) -> A | None:
        path = target.partition(b"?")[0].decode("latin-1")
        if "//" in path or "/./" in path or "/../" in path:
            return None
        plain = self._plain.get(path)
        if plain is not None:
            return self._aim(plain, method, target, {})
        for pattern, route in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return self._aim(route, method, target, match.groupdict())
        return None


def _pattern(rule: str) -> re.Pattern[str]:
    def group(part: re.Match[str]) -> str:
        return f"(?P<{part[1].rpartition(':')[2]}>{_PARTS[part[1]]})"

    return re.compile(_PART.sub(group, rule.replace(".", r"\.")))
