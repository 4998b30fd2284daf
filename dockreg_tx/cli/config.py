"""``dockreg config``: which settings are in force."""

from __future__ import annotations

import click

from dockreg_tx.cli.convert import convert
from dockreg_tx.cli.frame import AdminGroup, columns, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator
from dockreg_tx.settings_values import show as as_toml


@click.group("config", cls=AdminGroup)
def config() -> None:
    """Check and show the settings."""


@config.command("check")
@pass_operator
def check(operator: Operator) -> None:
    """Check file and environment, without touching the data."""
    operator.settings()
    click.echo("the settings are good")


@config.command("show")
@json_option
@pass_operator
def show_settings(operator: Operator, as_json: bool) -> None:
    """Show every setting in force, and where it comes from."""
    found = operator.settings().found
    document = {key: {"value": each.plain, "source": each.source} for key, each in found.items()}
    rows = [[f"{key} = {as_toml(each.plain)}", f"# {each.source}"] for key, each in found.items()]
    show(document, columns(rows), as_json=as_json)


config.add_command(convert)
