"""``dockreg version``: what runs here."""

from __future__ import annotations

import importlib.metadata
import platform
import sqlite3

import click

from dockreg_tx import __version__
from dockreg_tx.cli.frame import AdminCommand, json_option, show


@click.command("version", cls=AdminCommand)
@json_option
def version(as_json: bool) -> None:
    """Show the versions of dockreg, Python, Twisted and SQLite."""
    versions = {
        "dockreg": __version__,
        "Python": platform.python_version(),
        "Twisted": importlib.metadata.version("Twisted"),
        "SQLite": sqlite3.sqlite_version,
    }
    show(versions, [f"{name} {number}" for name, number in versions.items()], as_json=as_json)
