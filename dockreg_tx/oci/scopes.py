"""Actions on repositories, and the scopes by which clients ask for them (distribution, "Token Scope")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What a caller wants to do."""

    PULL = "pull"
    #: A new tag, or content without a tag.
    CREATE = "create"
    #: Create, and move a tag that exists.
    PUSH = "push"
    DELETE = "delete"
    #: List repositories.
    CATALOG = "catalog"
    METRICS = "metrics"
    ADMIN = "admin"


_ACTIONS = {
    "repository": frozenset({"pull", "push", "delete", "*"}),
    # docker search asks for the catalog by a word of its own, once it logged in with a refresh token.
    "registry": frozenset({"*", "search"}),
}
_CLASS = re.compile(r"\([^()]*\)$")


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one named thing, such as ``repository:team-a/app:pull,push``; the name is unchecked."""

    type: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Return the scopes of a space-separated list; types and actions that we do not know are dropped.

    A class, as in ``repository(plugin)``, is ignored. The name may hold a ``:``, of a host's port.
    """
    scopes = (_parse_scope(word) for word in text.split())
    return tuple(scope for scope in scopes if scope is not None)


def _parse_scope(word: str) -> Scope | None:
    kind, _, rest = word.partition(":")
    name, _, listed = rest.rpartition(":")
    kind = _CLASS.sub("", kind)
    known = _ACTIONS.get(kind, frozenset())
    # A dict keeps the order of the first mention.
    actions = tuple(dict.fromkeys(action for action in listed.split(",") if action in known))
    return Scope(kind, name, actions) if name and actions else None
