"""A Docker daemon of one's own, inside a namespace, with everything it keeps in one directory."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.clients.namespace import Namespace


class DockerDaemon:
    """A running daemon; ``close`` stops it."""

    def __init__(
        self, directory: Path, namespace: Namespace, insecure_registry: str, *, mirrors: Sequence[str] = ()
    ) -> None:
        self._directory = directory
        directory.mkdir()
        settings = directory / "daemon.json"
        told = {"insecure-registries": [insecure_registry], "registry-mirrors": list(mirrors)}
        settings.write_text(json.dumps(told))
        self.address = f"unix://{directory}/docker.sock"
        self._log = (directory / "log").open("w")
        self._process = subprocess.Popen(
            [
                *namespace.prefix,
                "dockerd",
                f"--config-file={settings}",
                f"--data-root={directory / 'data'}",
                f"--exec-root={directory / 'exec'}",
                f"--pidfile={directory / 'pid'}",
                f"--host={self.address}",
                "--storage-driver=overlay2",
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "TMPDIR": str(directory)},
        )
        self._wait(namespace)

    def _wait(self, namespace: Namespace) -> None:
        command = ["docker", "--host", self.address, "version"]
        deadline = time.monotonic() + 30
        while namespace.run(command, {"HOME": str(self._directory)}).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError(
                    "dockerd did not start:\n" + (self._directory / "log").read_text()[-3000:]
                )
            time.sleep(0.1)  # the daemon tells its readiness to systemd only

    def close(self) -> None:
        """Stop the daemon; its containerd ends with it."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
