"""Everything an operator can set: the sections and keys, their kinds and defaults, as one frozen value.

``etc/dockreg.toml`` shows the same keys to people; a test keeps the two equal. Where values come from is
``settings_sources``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from dockreg_tx.settings_registry2 import ignored_variables
from dockreg_tx.settings_sources import Found, SettingsError, find_values
from dockreg_tx.settings_values import (
    Kind,
    choice,
    duration,
    duration_or_never,
    endpoints,
    grants,
    networks,
    size,
    switch,
    text,
    web_address,
    workers,
)

__all__ = ["DEFAULTS", "SECTIONS", "Settings", "SettingsError", "load_settings"]

#: Units at the end of a field's name; the key in TOML goes without.
_UNITS = ("_bytes", "_seconds")


#: Typed as Any because a field stands where its value will.
def _setting(kind: Kind[Any], default: object) -> Any:
    return field(metadata={"kind": kind, "default": default})


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Where the data lies, and how much room must stay free."""

    root: str = _setting(text(may_be_empty=False), "./var/registry")
    low_water_bytes: int = _setting(size(), "1GiB")
    ballast_bytes: int = _setting(size(), "64MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Listeners, processes and the patience with clients."""

    listen: tuple[str, ...] = _setting(endpoints(), ["tcp:5000:interface=127.0.0.1"])
    workers: int | Literal["auto"] = _setting(workers(), 1)
    public_url: str = _setting(web_address(), "")
    trusted_proxies: tuple[str, ...] = _setting(networks(), [])
    header_timeout_seconds: int = _setting(duration(least_seconds=1), "10s")
    body_timeout_seconds: int = _setting(duration(least_seconds=1), "60s")
    metrics_listen: str = _setting(text(), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What callers without credentials get, and how credentials are asked for."""

    anonymous: Literal["none", "pull", "push"] = _setting(choice("none", "pull", "push"), "none")
    anonymous_grants: tuple[str, ...] = _setting(grants(), [])
    challenge: Literal["bearer", "basic"] = _setting(choice("bearer", "basic"), "bearer")
    require_tls: bool = _setting(switch(), False)
    htpasswd: str = _setting(text(), "")
    htpasswd_grants: tuple[str, ...] = _setting(grants(), ["pull:**", "push:**"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """What a pushed manifest may refer to, and its length."""

    missing_layers: Literal["deny", "allow"] = _setting(choice("deny", "allow"), "deny")
    missing_children: Literal["allow", "deny"] = _setting(choice("allow", "deny"), "allow")
    limit_bytes: int = _setting(size(least_bytes=1), "4MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """Upload sessions."""

    expire_after_seconds: int = _setting(duration(least_seconds=1), "24h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Garbage collection; None means never."""

    schedule_seconds: int | None = _setting(duration_or_never(least_seconds=1), "24h")
    grace_seconds: int = _setting(duration(), "24h")
    trash_seconds: int = _setting(duration(), "24h")
    untagged_after_seconds: int | None = _setting(duration_or_never(), "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrubbing:
    """The background scrub; a schedule of None means never. The rate is for one second."""

    schedule_seconds: int | None = _setting(duration_or_never(least_seconds=1), "7d")
    rate_bytes: int = _setting(size(least_bytes=1024), "20MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The certificate of ``tcp:`` listeners: both paths or neither; and whom clients must be certified by."""

    certificate: str = _setting(text(), "")
    key: str = _setting(text(), "")
    client_ca: str = _setting(text(), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is written down; an empty ``audit_file`` is ``audit.log`` under the root."""

    format: Literal["auto", "text", "json"] = _setting(choice("auto", "text", "json"), "auto")
    level: Literal["debug", "info", "warn", "error", "critical"] = _setting(
        choice("debug", "info", "warn", "error", "critical"), "info"
    )
    access: Literal["combined", "json", "none"] = _setting(choice("combined", "json", "none"), "combined")
    audit_file: str = _setting(text(), "")
    audit_pulls: bool = _setting(switch(), False)
    wire: bool = _setting(switch(), False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force; every value is checked."""

    storage: Storage
    server: Server
    access: Access
    manifests: Manifests
    uploads: Uploads
    gc: Collection
    scrub: Scrubbing
    tls: Tls
    log: Log
    #: For each ``section.key`` the plain value and where it was found.
    found: Mapping[str, Found] = field(compare=False, repr=False)
    #: Variables of distribution's (``REGISTRY_*``) without a counterpart here.
    ignored: tuple[str, ...] = field(default=(), compare=False)


SECTIONS: Mapping[str, type] = {
    "storage": Storage,
    "server": Server,
    "access": Access,
    "manifests": Manifests,
    "uploads": Uploads,
    "gc": Collection,
    "scrub": Scrubbing,
    "tls": Tls,
    "log": Log,
}


def _keys(section: type) -> Iterator[tuple[str, str, Kind[Any], object]]:
    """Yield key, field name, kind and default of each setting in a section."""
    for each in fields(section):
        key = each.name
        for unit in _UNITS:
            key = key.removesuffix(unit)
        yield key, each.name, each.metadata["kind"], each.metadata["default"]


KINDS: Mapping[str, Kind[Any]] = {
    f"{section}.{key}": kind for section, cls in SECTIONS.items() for key, _, kind, _ in _keys(cls)
}
#: The plain default of each ``section.key``, as the settings file would write it.
DEFAULTS: Mapping[str, object] = {
    f"{section}.{key}": default for section, cls in SECTIONS.items() for key, _, _, default in _keys(cls)
}


def load_settings(
    *, config_path: str | None, environ: Mapping[str, str], options: Mapping[str, object]
) -> Settings:
    """Return the settings in force: options beat environment, environment beats file, file beats defaults.

    Args:
        config_path: a TOML file, None for none.
        environ: the process environment; of it, ``DOCKREG_*`` counts, and ``REGISTRY_*`` where we know it.
        options: by name of the command line (``root``, ``listen``, ``anonymous``, ``workers``); None and an
            empty list mean "not given".

    Raises:
        SettingsError: one line that names place, key and allowed values.
    """
    found = find_values(
        kinds=KINDS, defaults=DEFAULTS, config_path=config_path, environ=environ, options=options
    )
    return settings_of(found, ignored=ignored_variables(environ, KINDS))


def settings_of(found: Mapping[str, Found], *, ignored: Sequence[str] = ()) -> Settings:
    """Return the settings that these plain values make.

    Args:
        found: plain value and place of each ``section.key``.
        ignored: variables of distribution's without a counterpart here.

    Raises:
        SettingsError: one line that names place, key and allowed values.
    """
    sections = {
        section: cls(**{name: _parse(found[f"{section}.{key}"], kind) for key, name, kind, _ in _keys(cls)})
        for section, cls in SECTIONS.items()
    }
    settings = Settings(found=found, ignored=tuple(ignored), **sections)
    if bool(settings.tls.certificate) != bool(settings.tls.key):
        given = found["tls.certificate" if settings.tls.certificate else "tls.key"]
        raise SettingsError(f"{given.place}: tls.certificate and tls.key go together: set both or neither")
    if settings.tls.client_ca and not settings.tls.certificate:
        given = found["tls.client_ca"]
        raise SettingsError(f"{given.place}: tls.client_ca needs tls.certificate and tls.key")
    return settings


def _parse(found: Found, kind: Kind[Any]) -> object:
    try:
        return kind.parse(found.plain)
    except ValueError as error:
        raise SettingsError(f"{found.place}: {error}; allowed: {kind.allowed}") from error
