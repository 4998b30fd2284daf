"""``dockreg init``: a root made ready, as the first start does."""

from __future__ import annotations

import uuid

import click

from dockreg_tx.cli.frame import AdminCommand, pass_operator
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.preparation import make_ballast, prepare_database, prepare_keys
from dockreg_tx.root import RootLock, check_root, initialise_root


@click.command("init", cls=AdminCommand)
@pass_operator
def init(operator: Operator) -> None:
    """Make an empty root ready, with its user admin; nothing happens to one that is."""
    layout = operator.layout()
    initialise_root(layout, new_id=_new_id, beside_registry2=True)
    check_root(layout)
    lock = RootLock(layout)
    lock.acquire()
    try:
        prepare_database(layout, now=now)
        prepare_keys(layout, now=now)
        make_ballast(operator.settings(), layout).fill()
    finally:
        lock.release()
    click.echo(f"{layout.root} is ready; the first password of user admin is in {layout.admin_password}")


def _new_id() -> str:
    return str(uuid.uuid4())  # noqa: TID251 - the command is a composition root of its own
