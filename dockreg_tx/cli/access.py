"""``dockreg access``: why somebody may do something, or may not."""

from __future__ import annotations

import click

from dockreg_tx.access.accounts import principal_of
from dockreg_tx.access.grants import Decision, Grant, Principal, anonymous_principal, decide
from dockreg_tx.access.user_file import read_user_file
from dockreg_tx.cli.frame import AdminGroup, Refused, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import Action
from dockreg_tx.preparation import run_inline

ANONYMOUS = "anonymous"
_ACTIONS = (Action.PULL.value, Action.CREATE.value, Action.PUSH.value, Action.DELETE.value)


@click.group("access", cls=AdminGroup)
def access() -> None:
    """Explain who may do what."""


@access.command("explain")
@click.argument("user")
@click.argument("action", type=click.Choice(_ACTIONS))
@click.argument("repository")
@json_option
@pass_operator
def explain(operator: Operator, user: str, action: str, repository: str, as_json: bool) -> None:
    """Say whether USER may do ACTION in REPOSITORY, and which grant decides it.

    USER "anonymous" is whoever sends no credentials, unless a user has that name.
    """
    name = RepositoryName.parse(repository)
    principal = _principal(operator, user)
    if principal is None:
        decision = Decision(False, None, f"user {user} is disabled")
    else:
        decision = decide(principal, action, name)
    may = "may" if decision.is_allowed else "may not"
    document = {
        "user": user,
        "action": action,
        "repository": repository,
        "allowed": decision.is_allowed,
        "grant": None if decision.grant is None else str(decision.grant),
        "reason": decision.reason,
    }
    answer = "allowed" if decision.is_allowed else "denied"
    line = f"{answer}: {user} {may} {action} in {repository}: {decision.reason}"
    show(document, [line], as_json=as_json)


def _principal(operator: Operator, user: str) -> Principal | None:
    """Return who it is, None when the user is disabled."""
    with operator.records() as records:
        account = run_inline(records.account(user))
    if account is not None:
        return None if account.is_disabled else principal_of(account)
    settings = operator.settings().access
    if settings.htpasswd:
        account = read_user_file(settings.htpasswd, settings.htpasswd_grants).get(user)
    if account is not None:
        return principal_of(account)
    if user != ANONYMOUS:
        raise Refused(f"there is no user {user}: dockreg user list shows all")
    return anonymous_principal(settings.anonymous, map(Grant.parse, settings.anonymous_grants))
