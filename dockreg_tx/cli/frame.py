"""What all commands share: global options in every place, one-line refusals, listings, questions."""

from __future__ import annotations

import errno
import json
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from dockreg_tx.access.grants import GrantInvalid
from dockreg_tx.access.passwords import PasswordInvalid
from dockreg_tx.blobs.shelf import ShelfUnusable
from dockreg_tx.cli.operator import Operator
from dockreg_tx.oci.errors import RegistryError, StoreUnavailable
from dockreg_tx.records.copying import DatabaseDamaged
from dockreg_tx.records.migrations import NewerDatabaseError
from dockreg_tx.root import RootUnusable
from dockreg_tx.settings import SettingsError

#: What a command meets in the course of its work; anything else is a fault of ours and shows its traceback.
_REFUSALS = (
    SettingsError,
    RegistryError,
    RootUnusable,
    NewerDatabaseError,
    ShelfUnusable,
    DatabaseDamaged,
    GrantInvalid,
    PasswordInvalid,
    OSError,
    sqlite3.Error,
)


class Refused(click.ClickException):
    """The command cannot be done: one line on standard error, exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Write the line."""
        click.echo(f"dockreg: {' '.join(self.message.split())}", err=True)


def _set_root(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        _operator(context).root = value


def _set_config(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        _operator(context).config_path = value


def _operator(context: click.Context) -> Operator:
    return context.ensure_object(Operator)


def _global_options(*, hidden: bool) -> list[click.Parameter]:
    """Return the options that may stand before and after the name of a command."""
    return [
        click.Option(
            ["--root"],
            metavar="DIR",
            expose_value=False,
            callback=_set_root,
            hidden=hidden,
            help="The registry's data.  [DOCKREG_STORAGE_ROOT; default: ./var/registry]",
        ),
        click.Option(
            ["--config"],
            metavar="FILE",
            expose_value=False,
            callback=_set_config,
            hidden=hidden,
            help="Settings file (TOML).",
        ),
    ]


class AdminCommand(click.Command):
    """A command that takes the global options too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_global_options(hidden=True)]


class AdminGroup(click.Group):
    """A group of such commands, or the whole program: then its options are shown."""

    command_class = AdminCommand
    group_class = type

    def __init__(self, *args: Any, is_program: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_global_options(hidden=not is_program)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that has a reason becomes one line."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever read our output has enough: click ends in silence.
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise Refused(f"{where}{error.strerror or error}{_who(ctx, error)}") from error
        except UnicodeEncodeError as error:
            # The command line holds bytes that are no text.
            raise Refused(f"{error.object!r} is not UTF-8 text") from error
        except StoreUnavailable as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise Refused(f"{error}{cause}") from error
        except _REFUSALS as error:
            raise Refused(str(error)) from error


def _who(context: click.Context, error: OSError) -> str:
    """Say whose rights were not enough, where they are not those of who typed the command."""
    owner = context.ensure_object(Operator).became
    if owner is None or error.errno not in {errno.EACCES, errno.EPERM}:
        return ""
    return f" for user {owner}, who owns the root: make it one that this user can open"


class InputFile(click.File):
    """A file to read, "-" for standard input; one that cannot be opened is refused in one line."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Open it."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            cause = error.__context__
            reason = cause.strerror if isinstance(cause, OSError) else error.message
            raise Refused(f"{value}: {reason}") from error


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
pass_operator = click.make_pass_decorator(Operator, ensure=True)


def show(document: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Write a listing: JSON for programs, or one line for each entry."""
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        for line in lines:
            click.echo(line)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose cells stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def ask(question: str, *, yes: bool) -> None:
    """Return when the user agrees.

    Raises:
        Refused: there is nobody to ask.
        Abort: the user does not agree.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("nobody is here to answer: say --yes to go on")
    click.confirm(question, abort=True)
