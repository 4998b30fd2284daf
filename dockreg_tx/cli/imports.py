"""``dockreg import``: what other registries leave."""

from __future__ import annotations

from typing import BinaryIO

import click

from dockreg_tx.access.grants import Grant
from dockreg_tx.access.htpasswd import parse_htpasswd
from dockreg_tx.cli.frame import AdminGroup, InputFile, Refused, pass_operator
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.ports import Account
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.sqlite import InlineSqliteRecords

#: Tens of thousands of users.
_LIMIT_BYTES = 16 * 1024 * 1024


@click.group("import", cls=AdminGroup)
def imports() -> None:
    """Take over users, and images of other registries and tools."""


@imports.command("htpasswd")
@click.argument("file", type=InputFile())
@click.option("--grant", "specs", metavar="SPEC", multiple=True, help="For each imported user; repeatable.")
@pass_operator
def htpasswd(operator: Operator, file: BinaryIO, specs: tuple[str, ...]) -> None:
    """Add the users of an htpasswd FILE ("-": standard input), and set the passwords of those who exist.

    Only bcrypt lines are taken; each other line is named on standard error.
    """
    for spec in specs:
        Grant.parse(spec)
    entries, refused = parse_htpasswd(file.read(_LIMIT_BYTES))
    counts = {True: 0, False: 0}
    with operator.records() as records:
        for entry in entries:
            is_new = _import(records, entry.name, entry.password_hash, specs)
            counts[is_new] += 1
    operator.note("import.htpasswd", users=[entry.name for entry in entries], grants=list(specs) or None)
    for line in refused:
        click.echo(f"dockreg: {file.name}: {line}", err=True)
    click.echo(f"{counts[True]} added, {counts[False]} changed, {len(refused)} lines refused")
    if refused and not entries:
        raise Refused(f"no line of {file.name} could be imported")


def _import(records: InlineSqliteRecords, name: str, password_hash: str, specs: tuple[str, ...]) -> bool:
    """Add or change one user; tell whether it is new."""
    at = now()
    account = Account(
        name=name, password_hash=password_hash, grants=tuple(dict.fromkeys(specs)), created_at=at
    )
    if run_inline(records.add_account(account)):
        return True
    run_inline(records.set_password_hash(name, password_hash, now=at))
    for spec in specs:
        run_inline(records.add_grant(name, spec, now=at))
    return False
