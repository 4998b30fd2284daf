"""``dockreg grant``: what users may do."""

from __future__ import annotations

import click

from dockreg_tx.access.grants import Grant, GrantInvalid
from dockreg_tx.cli.frame import AdminGroup, Refused, columns, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.ports import Account
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.sqlite import InlineSqliteRecords


@click.group("grant", cls=AdminGroup)
def grant() -> None:
    """Give and take rights; in force for the next request.

    A SPEC is ACTIONS:PATTERN, such as pull:** or pull,push:team-a/**. Actions: pull, create, push, delete, *.
    A leading ! denies. Docker.Download, Docker.Upload and Docker.Delete are names for pull:**, push:** and
    delete:**.
    """


@grant.command("add")
@click.argument("name")
@click.argument("spec")
@pass_operator
def add(operator: Operator, name: str, spec: str) -> None:
    """Give user NAME the grant SPEC."""
    given = Grant.parse(spec)
    with operator.records() as records:
        account = _account(records, name)
        if _equal_to(given, account) is None:
            run_inline(records.add_grant(name, spec, now=now()))
    operator.note("grant.add", user=name, grant=spec)
    click.echo(f"{name} has {spec}")


@grant.command("remove")
@click.argument("name")
@click.argument("spec")
@pass_operator
def remove(operator: Operator, name: str, spec: str) -> None:
    """Take the grant SPEC from user NAME."""
    taken = Grant.parse(spec)
    with operator.records() as records:
        account = _account(records, name)
        stored = spec if spec in account.grants else _equal_to(taken, account)
        if stored is None or not run_inline(records.remove_grant(name, stored, now=now())):
            raise Refused(f"{name} does not have {spec}: dockreg grant list {name} shows all")
    operator.note("grant.remove", user=name, grant=stored)
    click.echo(f"{name} no longer has {stored}")


@grant.command("list")
@click.argument("name", required=False)
@json_option
@pass_operator
def list_grants(operator: Operator, name: str | None, as_json: bool) -> None:
    """List the grants of NAME, or of all users."""
    with operator.records() as records:
        accounts = run_inline(records.accounts()) if name is None else [_account(records, name)]
    rows = [[account.name, spec] for account in accounts for spec in account.grants]
    document = [{"user": user, "grant": spec} for user, spec in rows]
    show(document, columns(rows) if rows else [], as_json=as_json)


def _account(records: InlineSqliteRecords, name: str) -> Account:
    account = run_inline(records.account(name))
    if account is None:
        raise Refused(f"there is no user {name}: dockreg user list shows all")
    return account


def _equal_to(wanted: Grant, account: Account) -> str | None:
    """Return the stored spelling of a grant that means the same, such as Docker.Download for pull:**."""
    for spec in account.grants:
        try:
            if Grant.parse(spec) == wanted:
                return spec
        except GrantInvalid:
            continue
    return None
