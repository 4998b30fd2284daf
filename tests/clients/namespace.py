"""A corner of the machine for the clients: own network, own ``/etc/hosts``, own run-time directories.

The seed's scenario wants port 8080 and the name ``host.docker.internal``, and container tools write below
``/run``, ``/var`` and ``/etc/docker``. In a private mount and network namespace all of that exists and
nothing of it is seen outside, or left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

HOSTS = "127.0.0.1 localhost host.docker.internal\n::1 localhost\n"
#: Hidden under empty file systems, where they exist.
HIDDEN = "/run /dev/shm /etc/docker /var/lib/containers /var/lib/cni /var/lib/docker /var/lib/containerd"
SCRIPT = f"""
set -e
mount --bind "$1" /etc/hosts
for directory in {HIDDEN}; do
    if [ -d "$directory" ]; then mount -t tmpfs tmpfs "$directory"; fi
done
mkdir -p /run/lock
ip link set lo up
echo ready
exec sleep infinity
"""


def missing(*programs: str) -> str:
    """Return why tests with these programs cannot run here, or nothing."""
    if os.geteuid() != 0:
        return "needs root, for namespaces and container storage"
    lacking = [name for name in ("unshare", "nsenter", "ip", *programs) if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (tests/clients/install.sh installs them)" if lacking else ""


class Namespace:
    """The corner; ``prefix`` runs a command in it."""

    def __init__(self, directory: Path) -> None:
        hosts = directory / "hosts"
        hosts.write_text(HOSTS)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", SCRIPT, "sh", str(hosts)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._holder.stdout is not None
        line = self._holder.stdout.readline()
        if line != "ready\n":
            self.close()
            raise AssertionError(f"no namespace: {line}")

    @property
    def prefix(self) -> list[str]:
        """What to put before a command."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount", "--net", "--"]

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the corner, with this environment only; its output is one text."""
        return subprocess.run(
            [*self.prefix, *command],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
        )

    def close(self) -> None:
        """Give the corner up; what still runs in it keeps it alive."""
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()
