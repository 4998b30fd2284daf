"""Writes the reference pages from the code: settings, commands, error codes and metrics."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from dockreg_tx.cli.main import dockreg
from dockreg_tx.metrics import FAMILIES
from dockreg_tx.oci import errors
from dockreg_tx.settings import DEFAULTS, KINDS
from dockreg_tx.settings_sources import environment_name

TOP = Path(__file__).parent.parent


def settings_page() -> str:
    """Return every setting with its default, values and variable."""
    lines = ["# Settings", "", "| key | default | allowed | variable |", "|---|---|---|---|"]
    for key, default in DEFAULTS.items():
        allowed = KINDS[key].allowed.replace("|", "\\|")
        lines.append(f"| `{key}` | `{default!r}` | {allowed} | `{environment_name(key)}` |")
    return "\n".join([*lines, ""])


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield full name and command, those below it included."""
    yield path, command
    if isinstance(command, click.Group):
        for name, each in sorted(command.commands.items()):
            yield from commands(each, f"{path} {name}")


def commands_page() -> str:
    """Return the help of every command."""
    lines = ["# Commands", ""]
    for path, command in commands(dockreg, "dockreg"):
        context = click.Context(command, info_name=path, max_content_width=100)
        lines += [f"## {path}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def causes() -> list[type[errors.RegistryError]]:
    """Return every refusal, in the order of the source."""
    tree = ast.parse(inspect.getsource(errors))
    found = [getattr(errors, node.name) for node in tree.body if isinstance(node, ast.ClassDef)]
    return [
        each for each in found if issubclass(each, errors.RegistryError) and each is not errors.RegistryError
    ]


def errors_page() -> str:
    """Return every error code with status and cause."""
    lines = ["# Error codes", "", "| code | status | cause |", "|---|---|---|"]
    for cause in causes():
        said = (inspect.getdoc(cause) or "").partition("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{cause.code.value}` | {cause.status} | {said} |")
    lines.append("| `UNKNOWN` | 500 | A fault of the server's; its log has the request's id. |")
    return "\n".join([*lines, ""])


def metrics_page() -> str:
    """Return every metric with kind, labels and meaning."""
    lines = ["# Metrics", "", "| name | kind | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in family.label_names)
        lines.append(f"| `{name}` | {family.kind} | {labels} | {family.help} |")
    lines.append("| `dockreg_build_info` | gauge | `version` | The release that runs. |")
    return "\n".join([*lines, ""])


PAGES = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "errors.md": errors_page,
    "metrics.md": metrics_page,
}


def write_reference(directory: Path) -> None:
    """Write all pages."""
    directory.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")
