"""A containerd of one's own, with everything it keeps in one directory."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.clients.namespace import Namespace

#: Neither Kubernetes nor what keeps state elsewhere than below root and state.
SETTINGS = """version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{0}/containerd.sock"
[ttrpc]
address = "{0}/containerd.sock.ttrpc"
"""
START_SECONDS = 30


class Containerd:
    """A running containerd; ``close`` stops it."""

    def __init__(self, directory: Path, namespace: Namespace) -> None:
        directory.mkdir()
        self._directory = directory
        self.address = str(directory / "containerd.sock")
        settings = directory / "config.toml"
        settings.write_text(SETTINGS.format(directory))
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*namespace.prefix, "containerd", "--config", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(directory), "TMPDIR": str(directory)},
            )
        self._wait(namespace)

    def _wait(self, namespace: Namespace) -> None:
        command = ["ctr", "--address", self.address, "version"]
        deadline = time.monotonic() + START_SECONDS
        while namespace.run(command, {"HOME": str(self._directory)}).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError(
                    "containerd did not start:\n" + (self._directory / "log").read_text()[-3000:]
                )
            time.sleep(0.1)  # containerd tells its readiness to systemd only

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(30)
