"""``dockreg token``: credentials of robots, which stand for a user without its password."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime

import click

from dockreg_tx.access.grants import Grant
from dockreg_tx.access.robots import ROBOT_PREFIX, new_secret, secret_hash
from dockreg_tx.cli.frame import AdminGroup, Refused, columns, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.ports import TokenKind, TokenRecord
from dockreg_tx.preparation import run_inline
from dockreg_tx.settings_values import duration

_NOTE_LIMIT_CHARACTERS = 200


@click.group("token", cls=AdminGroup)
def token() -> None:
    """Make, list and revoke tokens; in force for the next request.

    A token is used as the password of its user, by docker login, curl -u and CI. It may do what its user may,
    as far as its own grants allow it too.
    """


@token.command("create")
@click.argument("name")
@click.option(
    "--grant", "specs", metavar="SPEC", multiple=True, help="All that the token may do; repeatable."
)
@click.option("--expires", metavar="DURATION", help="How long it is good, such as 30d.  [default: for ever]")
@click.option("--note", default="", metavar="TEXT", help="What it is for.")
@json_option
@pass_operator
def create(
    operator: Operator, name: str, specs: tuple[str, ...], expires: str | None, note: str, as_json: bool
) -> None:
    """Make a token of user NAME; it is shown this once."""
    for spec in specs:
        Grant.parse(spec)
    if len(note) > _NOTE_LIMIT_CHARACTERS or not note.isprintable():
        raise Refused(f"a note is one line of at most {_NOTE_LIMIT_CHARACTERS} characters")
    created_at = now()
    secret = new_secret(ROBOT_PREFIX, os.urandom)
    made = TokenRecord(
        # Short enough to type, and unique enough: one that is taken is refused.
        id=uuid.uuid4().hex[:12],  # noqa: TID251 - the command is a composition root of its own
        kind=TokenKind.ROBOT,
        hash=secret_hash(secret),
        user=name,
        created_at=created_at,
        grants=tuple(dict.fromkeys(specs)) or None,
        note=note,
        expires_at=None if expires is None else created_at + _seconds(expires),
    )
    with operator.records() as records:
        if run_inline(records.account(name)) is None:
            raise Refused(f"there is no user {name}: dockreg user list shows all")
        if not run_inline(records.add_token(made)):
            raise Refused("the token could not be added: try again")
    operator.note("token.create", user=name, token=made.id, grants=list(made.grants or ()) or None)
    if as_json:
        show({**_document(made), "token": secret}, [], as_json=True)
        return
    click.echo(f"token {made.id} of {name}, shown only now; use it as the password of {name}:", err=True)
    click.echo(secret)


@token.command("list")
@click.argument("name", required=False)
@json_option
@pass_operator
def list_tokens(operator: Operator, name: str | None, as_json: bool) -> None:
    """List the tokens of NAME, or of all users; kind "login" are those that docker login was given."""
    with operator.records() as records:
        found = [each for each in run_inline(records.tokens()) if name in (None, each.user)]
    rows = [
        [
            each.id,
            each.user,
            each.kind.value,
            f"expires {_day(each.expires_at)}",
            f"used {_day(each.used_at)}",
            "all of the user's rights" if each.grants is None else " ".join(each.grants),
            each.note,
        ]
        for each in found
    ]
    show([_document(each) for each in found], columns(rows) if rows else [], as_json=as_json)


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@pass_operator
def revoke(operator: Operator, token_id: str) -> None:
    """Revoke a token, and what was fetched with it; a list shows the ids."""
    with operator.records() as records:
        if not run_inline(records.remove_token(token_id, now=now())):
            raise Refused("there is no token of this id: dockreg token list shows all")
    operator.note("token.revoke", token=token_id)
    click.echo(f"token {token_id} revoked")


def _seconds(written: str) -> int:
    kind = duration(least_seconds=1)
    try:
        return kind.parse(written)
    except ValueError as error:
        raise Refused(f"--expires: {error}; write {kind.allowed}") from error


def _day(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _document(each: TokenRecord) -> dict[str, object]:
    return {
        "id": each.id,
        "user": each.user,
        "kind": each.kind.value,
        "grants": None if each.grants is None else list(each.grants),
        "note": each.note,
        "created_at": each.created_at,
        "expires_at": each.expires_at,
        "used_at": each.used_at,
    }
