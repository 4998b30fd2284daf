"""``dockreg config convert``: distribution's configuration file as ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from dockreg_tx.cli.frame import AdminCommand, InputFile, Refused
from dockreg_tx.settings import KINDS
from dockreg_tx.settings_registry2 import COUNTERPARTS, flat, needless_reason
from dockreg_tx.settings_values import show as as_toml

_LIMIT_BYTES = 1024 * 1024


@click.command("convert", cls=AdminCommand)
@click.argument("file", type=InputFile())
def convert(file: BinaryIO) -> None:
    """Write the settings of a registry:2 (config.yml) as TOML; what has no counterpart is a comment."""
    # Inside, so that no other command waits for it.
    import yaml  # noqa: PLC0415

    try:
        document = yaml.safe_load(file.read(_LIMIT_BYTES))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"{file.name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise Refused(f"{file.name} is no configuration of a registry")
    click.echo("\n".join(_lines(document)))


def _lines(document: dict[str, Any]) -> Iterator[str]:
    found: dict[str, dict[str, Any]] = {}
    comments = []
    for path, value in flat(document):
        counterpart = COUNTERPARTS.get(path)
        if counterpart is None or counterpart.key not in KINDS:
            reason = needless_reason(path) or "has no counterpart here"
            comments.append(f"# {path}: {reason}")
            continue
        section, _, key = counterpart.key.partition(".")
        plain = _checked(path, counterpart.key, counterpart.convert, value)
        found.setdefault(section, {})[key] = plain
    for section, keys in found.items():
        yield f"[{section}]"
        yield from (f"{key} = {as_toml(plain)}" for key, plain in keys.items())
        yield ""
    yield from comments


def _checked(path: str, key: str, converted: Any, value: Any) -> Any:
    """Return the value as our file writes it.

    Raises:
        Refused: it cannot be understood.
    """
    try:
        plain = converted(str(value))
        KINDS[key].parse(plain)
    except ValueError as error:
        raise Refused(f"{path}: {error}") from error
    return plain
