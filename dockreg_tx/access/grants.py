"""Grants, and the one decision: may this principal do this action in this repository? Pure, without I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from dockreg_tx.oci.names import NAME_LIMIT_CHARACTERS, RepositoryName
from dockreg_tx.oci.scopes import Action

_EVERY_ACTION = "*"
_ACTIONS = (Action.PULL.value, Action.CREATE.value, Action.PUSH.value, Action.DELETE.value)
#: Privileges of the first hour, as names for grants.
_PRIVILEGES = {
    "Docker.Download": Action.PULL.value,
    "Docker.Upload": Action.PUSH.value,
    "Docker.Delete": Action.DELETE.value,
}
#: What a grant of an action covers.
_ALLOWED_BY = {Action.PUSH.value: frozenset({Action.PUSH, Action.CREATE})}
#: What a denied action takes away: pushing is creating and overwriting, so without one there is no other.
_DENIED_BY = {
    Action.PUSH.value: frozenset({Action.PUSH, Action.CREATE}),
    Action.CREATE.value: frozenset({Action.PUSH, Action.CREATE}),
}
#: What each setting of ``anonymous`` grants.
_ANONYMOUS_SPECS = {"none": (), "pull": ("pull:**",), "push": ("pull,push:**",)}
_COMPONENT = re.compile(r"[a-z0-9._*-]+")


class GrantInvalid(ValueError):
    """A grant is spelled wrong; the message is one line that says what is allowed."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Actions on the repositories that a pattern means.

    In a pattern ``*`` stands for any characters within one component. ``**`` is a component of its own: at
    the end it stands for one or more components (``team-a/**`` is everything below ``team-a``, not ``team-a``
    itself), elsewhere for none or more (``**/cache`` and ``a/**/b`` mean ``cache`` and ``a/b`` too).
    """

    actions: frozenset[str]
    pattern: str
    is_deny: bool = False
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_regex", _compile(self.pattern))

    @classmethod
    def parse(cls, spec: str) -> Self:
        """Return the grant that a SPEC such as ``pull,push:team-a/**`` spells.

        Raises:
            GrantInvalid: the actions or the pattern are not what a grant takes.
        """
        is_deny = spec.startswith("!")
        listed, colon, pattern = spec.removeprefix("!").partition(":")
        if listed == Action.METRICS:
            if colon:
                raise GrantInvalid("'metrics' is granted without a pattern")
            return cls(frozenset({listed}), "", is_deny)
        if listed in _PRIVILEGES:
            listed, pattern = _PRIVILEGES[listed], pattern if colon else "**"
        elif not colon:
            raise GrantInvalid(
                f"{_shown(spec)} is no grant: write ACTIONS:PATTERN, such as pull,push:team-a/**, "
                f"or metrics, or one of {', '.join(_PRIVILEGES)}"
            )
        return cls(_parse_actions(listed), _checked(pattern), is_deny)

    def __str__(self) -> str:
        sign = "!" if self.is_deny else ""
        if Action.METRICS in self.actions:
            return f"{sign}{Action.METRICS}"
        listed = [action for action in (_EVERY_ACTION, *_ACTIONS) if action in self.actions]
        return f"{sign}{','.join(listed)}:{self.pattern}"

    def applies(self, action: str, repository: RepositoryName | None) -> bool:
        """Tell whether this grant has something to say about the action in the repository."""
        if repository is None:
            return action == Action.METRICS and action in self.actions
        return self._covers(action) and self._regex.fullmatch(repository.text) is not None

    def _covers(self, action: str) -> bool:
        own = _ACTIONS if _EVERY_ACTION in self.actions else self.actions
        wider = _DENIED_BY if self.is_deny else _ALLOWED_BY
        return any(action in wider.get(each, (each,)) for each in own)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks; the name is empty for anonymous."""

    name: str
    is_admin: bool = False
    is_anonymous: bool = False
    grants: tuple[Grant, ...] = ()
    #: What a robot of the user is confined to, admins' robots too; None for no confines.
    limits: tuple[Grant, ...] | None = None
    robot_id: str | None = None
    #: Tells the stored password that was in force from its successors.
    fingerprint: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, the grant that it rests on (None when there is none), and the reason in words."""

    is_allowed: bool
    grant: Grant | None
    reason: str


_ADMIN = Decision(True, None, "an admin may do everything")


def decide(principal: Principal, action: str, repository: RepositoryName | None) -> Decision:
    """Return whether the principal may do the action; what is not granted is not allowed.

    A robot may do what its user may, as far as its own grants allow it too.

    Args:
        principal: who asks. An admin may do everything; denials do not bind admins.
        action: an ``Action``; an unknown one is never allowed.
        repository: where, None for the catalog, metrics and administration.
    """
    if action == Action.CATALOG and repository is None:
        return _decide_catalog(principal)
    if principal.limits is not None:
        limit = _decide_by(principal.limits, action, repository)
        if not limit.is_allowed:
            return Decision(False, limit.grant, f"the token: {limit.reason}")
    if principal.is_admin:
        return _ADMIN
    return _decide_by(principal.grants, action, repository)


def _decide_by(grants: Iterable[Grant], action: str, repository: RepositoryName | None) -> Decision:
    applying = [grant for grant in grants if grant.applies(action, repository)]
    for grant in applying:
        if grant.is_deny:
            return Decision(False, grant, f"denied by {grant}")
    if applying:
        return Decision(True, applying[0], f"granted by {applying[0]}")
    return Decision(False, None, "no grant allows it")


def allows_any(principal: Principal, actions: Iterable[str], repository: RepositoryName | None) -> bool:
    """Tell whether the principal may do at least one of the actions."""
    for action in actions:  # noqa: SIM110 - any() takes a generator, which costs as much as the decision
        if decide(principal, action, repository).is_allowed:
            return True
    return False


def may_push_everywhere(principal: Principal) -> bool:
    """Tell whether one grant lets the principal push to every repository, whatever others deny."""
    return any(
        grant.pattern == "**" and not grant.is_deny and grant.actions & {Action.PUSH, _EVERY_ACTION}
        for grant in principal.grants
    )


def anonymous_principal(mode: str, grants: Iterable[Grant]) -> Principal:
    """Return what a client without credentials is.

    Args:
        mode: ``none``, ``pull`` or ``push``; the latter two add that on every repository. ``push`` includes
            pulling, never deleting.
        grants: further grants.
    """
    specs = _ANONYMOUS_SPECS[mode]
    return Principal("", is_anonymous=True, grants=(*(Grant.parse(spec) for spec in specs), *grants))


def _decide_catalog(principal: Principal) -> Decision:
    """Everyone with a name may list; the list holds only what its reader may pull."""
    if not principal.is_anonymous:
        return Decision(True, None, "every user may list what it can pull")
    for grant in principal.grants:
        if not grant.is_deny:
            return Decision(True, grant, f"granted by {grant}")
    return Decision(False, None, "nothing is granted to anonymous clients")


def _parse_actions(listed: str) -> frozenset[str]:
    actions = frozenset(listed.split(","))
    unknown = sorted(actions - {_EVERY_ACTION, *_ACTIONS})
    if unknown:
        raise GrantInvalid(
            f"unknown action {_shown(unknown[0])}: use {', '.join(_ACTIONS)} or *, separated by commas"
        )
    return frozenset({_EVERY_ACTION}) if _EVERY_ACTION in actions else actions


def _checked(pattern: str) -> str:
    if len(pattern) > NAME_LIMIT_CHARACTERS:
        raise GrantInvalid(f"the pattern is longer than {NAME_LIMIT_CHARACTERS} characters")
    for component in pattern.split("/"):
        if _COMPONENT.fullmatch(component) is None or ("**" in component and component != "**"):
            raise GrantInvalid(
                f"bad pattern {_shown(pattern)}: write a lower-case repository name, in which * stands for "
                "characters within one component, and ** alone between slashes for any number of components"
            )
    return pattern


def _compile(pattern: str) -> re.Pattern[str]:
    """Return the expression of a pattern, in time that grows with the square of the name at worst.

    Between two ``**`` the first place that fits is as good as any later one, and within a component the first
    place after a ``*``: so the groups are atomic, and nothing is tried twice.
    """
    components = pattern.split("/")
    blocks: list[list[str]] = [[]]
    for component in components:
        if component == "**":
            blocks.append([])
        else:
            blocks[-1].append(component)
    first, *rest = ["/".join(_component(component) for component in block) for block in blocks]
    if not rest:
        return re.compile(first)
    *middle, last = rest
    text = first + "/" if first else ""
    text += "".join(f"(?>(?:[^/]++/)*?{block}/)" for block in middle if block)
    text += f"(?:[^/]++/)*{last}" if last else ".+"
    return re.compile(text)


def _component(component: str) -> str:
    """Return the expression of one component; it must be followed by ``/`` or the end."""
    head, *pieces = component.split("*")
    if not pieces:
        return re.escape(head)
    *middle, tail = pieces
    found = "".join(f"(?>[^/]*?{re.escape(piece)})" for piece in middle if piece)
    return f"{re.escape(head)}{found}[^/]*{re.escape(tail)}"


def _shown(text: str) -> str:
    return ascii(text[:100])
