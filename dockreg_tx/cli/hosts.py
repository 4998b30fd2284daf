"""The lines that docker hosts need, ready to copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dockreg_tx.cli.certificate import Authority


@dataclass(frozen=True, slots=True)
class Registry:
    """How clients reach it; ``authority`` is whom they must trust, None when they do anyway.

    ``asks_for_certificates``: each client has to show one of its own.
    """

    host: str
    is_tls: bool
    is_loopback: bool
    authority: Authority | None
    asks_for_certificates: bool = False


def host_lines(registry: Registry) -> dict[str, list[str]]:
    """Return for each program what to put where; nothing where it works without."""
    if registry.is_tls and (registry.authority or registry.asks_for_certificates):
        return _with_certificates(registry)
    if not registry.is_tls and not registry.is_loopback:
        return _insecure(registry)
    return {"docker": [], "podman": [] if registry.is_tls else _podman_insecure(registry), "containerd": []}


def _with_certificates(registry: Registry) -> dict[str, list[str]]:
    host = registry.host
    return {
        "docker": list(_copy(registry, f"/etc/docker/certs.d/{host}")),
        "podman": list(_copy(registry, f"/etc/containers/certs.d/{host}")),
        "containerd": [
            *_copy(registry, f"/etc/containerd/certs.d/{host}"),
            *_containerd_hosts(registry, f"/etc/containerd/certs.d/{host}"),
        ],
    }


def _copy(registry: Registry, directory: str) -> Iterator[str]:
    yield f"mkdir -p {directory}"
    if registry.authority and not registry.authority.path:
        yield f"# The certificate of {registry.authority.name}, unless the host trusts it anyway:"
    if registry.authority:
        yield f"cp {registry.authority.path or 'ca.crt'} {directory}/ca.crt"
    if registry.asks_for_certificates:
        yield "# The host's own certificate, by an authority of tls.client_ca, and its key:"
        yield f"cp client.crt {directory}/client.cert"
        yield f"install -m 600 client.key {directory}/client.key"


def _containerd_hosts(registry: Registry, directory: str) -> Iterator[str]:
    yield f"# {directory}/hosts.toml"
    yield f'server = "https://{registry.host}"'
    yield f'[host."https://{registry.host}"]'
    if registry.authority:
        yield f'  ca = "{directory}/ca.crt"'
    if registry.asks_for_certificates:
        yield f'  client = [["{directory}/client.cert", "{directory}/client.key"]]'


def _insecure(registry: Registry) -> dict[str, list[str]]:
    host = registry.host
    return {
        "docker": [
            "# /etc/docker/daemon.json; then: systemctl restart docker",
            f'{{ "insecure-registries": ["{host}"] }}',
        ],
        "podman": _podman_insecure(registry),
        "containerd": [
            f"# /etc/containerd/certs.d/{host}/hosts.toml",
            f'server = "http://{host}"',
            f'[host."http://{host}"]',
            '  capabilities = ["pull", "resolve", "push"]',
        ],
    }


def _podman_insecure(registry: Registry) -> list[str]:
    return [
        "# /etc/containers/registries.conf.d/dockreg.conf",
        "[[registry]]",
        f'location = "{registry.host}"',
        "insecure = true",
    ]
