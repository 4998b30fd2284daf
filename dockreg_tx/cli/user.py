"""``dockreg user``: who may log in."""

from __future__ import annotations

import re

import click

from dockreg_tx.access.grants import Grant
from dockreg_tx.access.passwords import hash_password
from dockreg_tx.cli.frame import (
    AdminGroup,
    Refused,
    ask,
    columns,
    json_option,
    pass_operator,
    show,
    yes_option,
)
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.cli.passwords import new_password, password_stdin_option
from dockreg_tx.ports import Account
from dockreg_tx.preparation import run_inline

#: A name ends at the first ``:`` of Basic credentials; a blank would make log lines ambiguous.
_NAME = re.compile(r"[^\s:\x00-\x1f\x7f]{1,255}")


@click.group("user", cls=AdminGroup)
def user() -> None:
    """Add, show and remove users; in force for the next request."""


@user.command("add")
@click.argument("name")
@password_stdin_option
@click.option(
    "--grant", "specs", metavar="SPEC", multiple=True, help="Such as pull,push:team-a/**; repeatable."
)
@click.option("--admin", "is_admin", is_flag=True, help="The user may do everything.")
@pass_operator
def add(operator: Operator, name: str, password_stdin: bool, specs: tuple[str, ...], is_admin: bool) -> None:
    """Add a user; without a terminal and --password-stdin a password is made up and printed."""
    if _NAME.fullmatch(name) is None or not name.isprintable():
        raise Refused("a user name has 1 to 255 characters, without blanks and ':'")
    for spec in specs:
        Grant.parse(spec)
    with operator.records() as records:
        if run_inline(records.account(name)) is not None:
            raise Refused(f"user {name} exists already: dockreg user passwd {name} sets a password")
        password, is_generated = new_password(from_stdin=password_stdin)
        account = Account(
            name=name,
            password_hash=hash_password(password),
            is_admin=is_admin,
            grants=tuple(dict.fromkeys(specs)),
            created_at=now(),
        )
        if not run_inline(records.add_account(account)):
            raise Refused(f"user {name} exists already")
    operator.note("user.add", user=name, grants=list(account.grants), admin=is_admin or None)
    _tell(f"user {name} added", password if is_generated else None)


@user.command("list")
@json_option
@pass_operator
def list_users(operator: Operator, as_json: bool) -> None:
    """List all users, with state and grants."""
    with operator.records() as records:
        accounts = run_inline(records.accounts())
    rows = [[account.name, *_words(account), " ".join(account.grants)] for account in accounts]
    show([_document(account) for account in accounts], columns(rows) if rows else [], as_json=as_json)


@user.command("show")
@click.argument("name")
@json_option
@pass_operator
def show_user(operator: Operator, name: str, as_json: bool) -> None:
    """Show one user."""
    with operator.records() as records:
        account = run_inline(records.account(name))
    if account is None:
        raise _unknown(name)
    role, state = _words(account)
    lines = [f"name: {account.name}", f"role: {role}", f"state: {state}"]
    lines += [f"grant: {spec}" for spec in account.grants]
    show(_document(account), lines, as_json=as_json)


@user.command("passwd")
@click.argument("name")
@password_stdin_option
@pass_operator
def passwd(operator: Operator, name: str, password_stdin: bool) -> None:
    """Set a user's password; the old one is refused from the next request on."""
    with operator.records() as records:
        if run_inline(records.account(name)) is None:
            raise _unknown(name)
        password, is_generated = new_password(from_stdin=password_stdin)
        if not run_inline(records.set_password_hash(name, hash_password(password), now=now())):
            raise _unknown(name)
    operator.note("user.password", user=name)
    _tell(f"password of {name} set", password if is_generated else None)


@user.command("disable")
@click.argument("name")
@pass_operator
def disable(operator: Operator, name: str) -> None:
    """Refuse a user's requests, and keep password and grants."""
    _set_disabled(operator, name, is_disabled=True)


@user.command("enable")
@click.argument("name")
@pass_operator
def enable(operator: Operator, name: str) -> None:
    """Let a disabled user in again."""
    _set_disabled(operator, name, is_disabled=False)


@user.command("remove")
@click.argument("name")
@yes_option
@pass_operator
def remove(operator: Operator, name: str, yes: bool) -> None:
    """Remove a user with all grants; what the user pushed stays."""
    with operator.records() as records:
        if run_inline(records.account(name)) is None:
            raise _unknown(name)
        ask(f"Remove user {name} with all grants?", yes=yes)
        if not run_inline(records.remove_account(name, now=now())):
            raise _unknown(name)
    operator.note("user.remove", user=name)
    click.echo(f"user {name} removed")


def _set_disabled(operator: Operator, name: str, *, is_disabled: bool) -> None:
    with operator.records() as records:
        if not run_inline(records.set_disabled(name, is_disabled, now=now())):
            raise _unknown(name)
    operator.note("user.disable" if is_disabled else "user.enable", user=name)
    click.echo(f"user {name} {'disabled' if is_disabled else 'enabled'}")


def _unknown(name: str) -> Refused:
    return Refused(f"there is no user {name}: dockreg user list shows all")


def _words(account: Account) -> tuple[str, str]:
    return ("admin" if account.is_admin else "user", "disabled" if account.is_disabled else "enabled")


def _document(account: Account) -> dict[str, object]:
    return {
        "name": account.name,
        "admin": account.is_admin,
        "disabled": account.is_disabled,
        "grants": list(account.grants),
        "created_at": account.created_at,
    }


def _tell(done: str, generated: str | None) -> None:
    """Say what was done; a generated password stands alone on standard output, for scripts."""
    if generated is None:
        click.echo(done)
    else:
        click.echo(f"{done}; its generated password:", err=True)
        click.echo(generated)
