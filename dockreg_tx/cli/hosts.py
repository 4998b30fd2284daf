"""The lines that docker hosts need, ready to copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Registry:
    """How clients reach it; ``authority`` is a file that they must trust, empty when they do anyway."""

    host: str
    is_tls: bool
    is_loopback: bool
    authority: str


def host_lines(registry: Registry) -> dict[str, list[str]]:
    """Return for each program what to put where; nothing where it works without."""
    if registry.is_tls and registry.authority:
        return _with_authority(registry)
    if not registry.is_tls and not registry.is_loopback:
        return _insecure(registry)
    return {"docker": [], "podman": [] if registry.is_tls else _podman_insecure(registry), "containerd": []}


def _with_authority(registry: Registry) -> dict[str, list[str]]:
    host, authority = registry.host, registry.authority
    return {
        "docker": list(_copy(f"/etc/docker/certs.d/{host}", authority)),
        "podman": list(_copy(f"/etc/containers/certs.d/{host}", authority)),
        "containerd": [
            *_copy(f"/etc/containerd/certs.d/{host}", authority),
            f"# /etc/containerd/certs.d/{host}/hosts.toml",
            f'server = "https://{host}"',
            f'[host."https://{host}"]',
            f'  ca = "/etc/containerd/certs.d/{host}/ca.crt"',
        ],
    }


def _copy(directory: str, authority: str) -> Iterator[str]:
    yield f"mkdir -p {directory}"
    yield f"cp {authority} {directory}/ca.crt"


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
