"""``dockreg keys``: what access tokens are signed with."""

from __future__ import annotations

import click

from dockreg_tx.access.keys import add_key, remove_retired_keys
from dockreg_tx.access.tokens import RETIRED_SECONDS
from dockreg_tx.cli.frame import AdminGroup, pass_operator
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.root import check_root


@click.group("keys", cls=AdminGroup)
def keys() -> None:
    """Replace signing keys."""


@keys.command("rotate")
@click.option(
    "--at-once", is_flag=True, help="The old keys' tokens end within a second: for a key that leaked."
)
@pass_operator
def rotate(operator: Operator, at_once: bool) -> None:
    """Make a new signing key; tokens of the old one stay good until they end, 5 minutes at most."""
    layout = operator.layout()
    check_root(layout)
    at = now()
    key_id = add_key(layout.keys, now=at)
    # The new key may carry a later time than ours, if a clock was set back.
    before = float("inf") if at_once else at - RETIRED_SECONDS
    remove_retired_keys(layout.keys, replaced_before=before)
    operator.note("keys.rotate", key=key_id)
    click.echo(f"tokens are signed with the new key {key_id}")
