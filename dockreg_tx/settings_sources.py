"""Where settings come from: options, environment, a TOML file, defaults; unknown names are refused."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockreg_tx.settings_registry2 import registry2_values
from dockreg_tx.settings_values import Kind

PREFIX = "DOCKREG_"
#: What Kubernetes sets in every pod when a Service is named "dockreg".
_KUBERNETES = ("DOCKREG_PORT_", "DOCKREG_SERVICE_")
#: Options of the command line that are settings.
OPTIONS = {
    "root": "storage.root",
    "listen": "server.listen",
    "workers": "server.workers",
    "anonymous": "access.anonymous",
}
#: Keys that hold a path already: their ``_FILE`` form is another name, not a file to read the path from.
_PATHS = frozenset({"tls.certificate", "tls.key", "tls.client_ca", "access.htpasswd"})


class SettingsError(Exception):
    """A setting is unknown or has a bad value; one line that says where, which, and what is allowed."""

    def __init__(self, message: str) -> None:
        # Names and values come from outside: a control character in one must not begin a second line.
        super().__init__("".join(each if each.isprintable() else "?" for each in message))


@dataclass(frozen=True, slots=True)
class Found:
    """A plain value; ``source`` is where it was found, ``place`` names the key there too."""

    plain: object
    source: str
    place: str


def find_values(
    *,
    kinds: Mapping[str, Kind[Any]],
    defaults: Mapping[str, object],
    config_path: str | None,
    environ: Mapping[str, str],
    options: Mapping[str, object],
) -> Mapping[str, Found]:
    """Return the winning plain value of every ``section.key``.

    Raises:
        SettingsError: an unknown name, an unreadable file, or text that its kind cannot read.
    """
    found = {key: Found(plain, "default", f"default: {key}") for key, plain in defaults.items()}
    if config_path is not None:
        found.update(_from_file(config_path, kinds))
    found.update(_from_registry2(environ, kinds))
    found.update(_from_environment(environ, kinds))
    found.update(_from_options(options, kinds))
    return found


def environment_name(key: str) -> str:
    """Return the environment variable of a ``section.key``."""
    return PREFIX + key.replace(".", "_").upper()


def _from_file(path: str, kinds: Mapping[str, Kind[Any]]) -> Iterator[tuple[str, Found]]:
    sections = {key.partition(".")[0] for key in kinds}
    for section, content in _read_toml(path).items():
        if section not in sections:
            raise SettingsError(
                f"{path}: unknown {_describe(section, content)}{_guess(section, sections, kinds)}"
            )
        if not isinstance(content, dict):
            raise SettingsError(f"{path}: {section} is a section: write [{section}] and its keys below")
        for name, plain in content.items():
            key = f"{section}.{name}"
            if key not in kinds:
                own = [each.partition(".")[2] for each in kinds if each.startswith(f"{section}.")]
                raise SettingsError(f"{path}: unknown key {key}{_suggest(name, own)}")
            yield key, Found(plain, path, f"{path}: {key}")


def _read_toml(path: str) -> dict[str, Any]:
    try:
        if Path(path).is_fifo():
            # It would be empty the second time: all its keys would be forgotten.
            raise SettingsError(f"{path}: is a pipe: settings are read more than once, so name a file")
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {' '.join(str(error).split())}") from error


def _describe(section: str, content: object) -> str:
    return f"section [{section}]" if isinstance(content, dict) else f"key {section} outside a section"


def _guess(name: str, sections: Iterable[str], kinds: Iterable[str]) -> str:
    homes = [key.partition(".")[0] for key in kinds if key.endswith(f".{name}")]
    return f"; {name} belongs under [{homes[0]}]" if homes else _suggest(name, sorted(sections))


def _from_registry2(
    environ: Mapping[str, str], kinds: Mapping[str, Kind[Any]]
) -> Iterator[tuple[str, Found]]:
    """Yield what variables of distribution's say; ours beat them."""
    try:
        for key, variable, plain in registry2_values(environ, kinds):
            yield key, Found(plain, f"environment {variable}", f"environment: {variable}")
    except ValueError as error:
        raise SettingsError(f"environment: {': '.join(map(str, error.args))}") from error


def _from_environment(
    environ: Mapping[str, str], kinds: Mapping[str, Kind[Any]]
) -> Iterator[tuple[str, Found]]:
    names = {environment_name(key): key for key in kinds}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == "DOCKREG_PORT" or variable.startswith(_KUBERNETES):
            continue
        key, written = names.get(variable), environ[variable]
        if key is None:
            key = names.get(variable.removesuffix("_FILE"))
            if key is None:
                raise SettingsError(
                    f"environment: unknown variable {variable}{_suggest(variable, list(names))}"
                )
            if environment_name(key) in environ:
                raise SettingsError(f"environment: {variable}: {environment_name(key)} is set too; keep one")
            if key not in _PATHS:
                written = _read_secret(variable, written)
        place = f"environment: {variable}"
        yield key, Found(_read(kinds[key], written, place), f"environment {variable}", place)


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"environment: {variable}: {path} cannot be read: {reason}") from error


def _from_options(
    options: Mapping[str, object], kinds: Mapping[str, Kind[Any]]
) -> Iterator[tuple[str, Found]]:
    for name, given in options.items():
        if name not in OPTIONS:
            raise SettingsError(f"unknown option --{name}{_suggest(name, list(OPTIONS))}")
        if given is None or given in ([], ()):
            continue
        kind, place = kinds[OPTIONS[name]], f"option --{name}"
        plain = _read(kind, given, place) if isinstance(given, str) else given
        yield OPTIONS[name], Found(plain, place, place)


def _read(kind: Kind[Any], written: str, place: str) -> object:
    try:
        return kind.read(written)
    except ValueError as error:
        raise SettingsError(f"{place}: {error}; allowed: {kind.allowed}") from error


def _suggest(name: str, known: list[str]) -> str:
    # Without the prefix, which would make every variable resemble every other.
    bare = {each.removeprefix(PREFIX): each for each in known}
    close = difflib.get_close_matches(name.removeprefix(PREFIX), list(bare), n=1)
    return f", did you mean {bare[close[0]]}?" if close else f"; known: {', '.join(known)}"
