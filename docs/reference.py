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
from dockreg_tx.tap import Options
from dockreg_tx.web import framing, guard

TOP = Path(__file__).parent.parent
SERVER = "twistd -n --pidfile= dockreg"
#: Answers to what is no request of the API, in the same form.
OTHERS = (
    ("UNSUPPORTED", 400, "The request is malformed: its line, a header, the path or the length of its body."),
    ("NAME_UNKNOWN", 404, "No route has this path."),
    ("UNSUPPORTED", 405, "The path takes other methods; `Allow` names them."),
    ("UNKNOWN", 500, "A fault of the server's; its log has the request's id."),
)


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
    lines = ["# Commands", "", f"## {SERVER}", "", "```text", server_options(), "```", ""]
    for path, command in commands(dockreg, "dockreg"):
        context = click.Context(command, info_name=path, max_content_width=100)
        lines += [f"## {path}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def server_options() -> str:
    """Return what ``twistd dockreg --help`` says."""
    options = Options()
    return str(options).strip().replace(options.getSynopsis(), f"Usage: {SERVER} [options]")


def causes() -> list[type[errors.RegistryError]]:
    """Return every refusal: those of the rules in the order of the source, then those of the web."""
    tree = ast.parse(inspect.getsource(errors))
    found = [getattr(errors, node.name) for node in tree.body if isinstance(node, ast.ClassDef)]
    found += [
        each for each in vars(guard).values() if inspect.isclass(each) and each.__module__ == guard.__name__
    ]
    return [
        each for each in found if issubclass(each, errors.RegistryError) and each is not errors.RegistryError
    ]


def errors_page() -> str:
    """Return every error code with status and cause."""
    lines = ["# Error codes", "", "| code | status | cause |", "|---|---|---|"]
    for cause in causes():
        said = (inspect.getdoc(cause) or "").partition("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{cause.code.value}` | {cause.status} | {said} |")
    lines += [
        f"| `{each.code.value}` | {each.status} | {each.message.capitalize()}. |"
        for each in vars(framing).values()
        if isinstance(each, framing.Refusal)
    ]
    lines += [f"| `{code}` | {status} | {said} |" for code, status, said in OTHERS]
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
