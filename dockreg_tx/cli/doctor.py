"""``dockreg doctor``: whether everything is as a registry needs it, and what its docker hosts need."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import asdict
from urllib.parse import urlsplit

import click

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.cli.certificate import authority_of
from dockreg_tx.cli.doctor_checks import (
    certificates,
    check_listeners,
    check_public_url,
    check_storage,
    check_versions,
)
from dockreg_tx.cli.endpoint import client_address, host_and_port
from dockreg_tx.cli.findings import Check, State
from dockreg_tx.cli.frame import AdminCommand, columns, json_option, pass_operator, show
from dockreg_tx.cli.hosts import Registry, host_lines
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.settings import Settings


@click.command("doctor", cls=AdminCommand)
@json_option
@pass_operator
@click.pass_context
def doctor(context: click.Context, operator: Operator, as_json: bool) -> None:
    """Check what the registry stands on, and show what docker hosts need. Exit code 1 if a check fails."""
    settings = operator.settings()
    checks = list(_checks(settings, operator.layout()))
    registry = _registry(settings)
    lines = {} if registry is None else host_lines(registry)
    document = {"checks": [asdict(check) for check in checks], "hosts": lines}
    show(document, _text(checks, registry, lines), as_json=as_json)
    if any(check.state is State.FAIL for check in checks):
        context.exit(1)


def _checks(settings: Settings, layout: RootLayout) -> Iterator[Check]:
    at = now()
    host = urlsplit(settings.server.public_url).hostname or ""
    yield from check_versions()
    yield from check_storage(settings, layout, now=at)
    yield from check_listeners(settings, host, now=at)
    yield from check_public_url(settings, os.environ)


def _registry(settings: Settings) -> Registry | None:
    """Return how clients reach the registry; None when nothing says it."""
    url = settings.server.public_url
    if not url:
        found = (client_address(text, settings) for text in settings.server.listen)
        address = next(filter(None, found), None)
        if address is None:
            return None
        url = str(address)
    is_tls = url.startswith("https:")
    found_authorities = map(authority_of, certificates(settings) if is_tls else [])
    authority = next(filter(None, found_authorities), None)
    return Registry(
        host_and_port(url),
        is_tls,
        _is_loopback(urlsplit(url).hostname or ""),
        authority,
        asks_for_certificates=is_tls and bool(settings.tls.client_ca),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(checks: list[Check], registry: Registry | None, lines: dict[str, list[str]]) -> Iterator[str]:
    yield from columns([[check.state.value, check.name, check.text] for check in checks])
    if registry is None:
        return
    yield ""
    if not any(lines.values()):
        yield f"Hosts need nothing: docker login {registry.host}"
    for program, needed in lines.items():
        if needed:
            yield f"On each host with {program} that uses {registry.host}:"
            yield from (f"    {line}" for line in needed)
