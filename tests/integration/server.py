"""A registry as its users start it: ``twistd`` in a process of its own, on a root of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Console scripts lie beside the interpreter that runs the tests.
PROGRAMS = Path(sys.executable).parent
TWISTD = (str(PROGRAMS / "twistd"),)
READY_SECONDS = 30.0
STOP_SECONDS = 40.0
READY = re.compile(r"dockreg ready on (https?|unix):\S+")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without settings of a registry that the tester may have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKREG_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **(extra or {})}


class StartError(Exception):
    """The server ended, or stayed silent, before it was ready."""


class RegistryProcess:
    """One server process; may be stopped or killed, and started again on the same root and port.

    Args:
        root: the registry's data directory; made by the server.
        port: TCP port on 127.0.0.1, a free one when None.
        options: more options after ``dockreg``.
        environment: added to the process's environment.
        command: what runs instead of ``twistd``.
        prefix: put before the command, for example to enter a namespace.
        listen: the endpoint; TCP on the port when empty.
        temporary: ``TMPDIR`` of the server.
    """

    def __init__(
        self,
        root: Path,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = TWISTD,
        prefix: Sequence[str] = (),
        listen: str = "",
        temporary: Path | None = None,
    ) -> None:
        self.root = root
        self.port = free_port() if port is None else port
        self.options = list(options)
        self.listen = listen or f"tcp:{self.port}:interface=127.0.0.1"
        self.environment = dict(environment or {})
        self.command = [*prefix, *command]
        self.temporary = temporary
        self.output: list[str] = []
        #: Whoever holds it keeps the server's output from being read.
        self.reading = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()

    @property
    def base_url(self) -> str:
        """The address clients use, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        """Host and port, as an image name begins."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def admin_password(self) -> str:
        """The password that the first start wrote down."""
        return (self.root / "admin-password").read_text().strip()

    def start(self) -> None:
        """Start the server and return when it has logged that it is ready.

        Raises:
            StartError: it ended or said nothing within 30 s; the message holds its output.
        """
        self.launch()
        if not self._ready.wait(READY_SECONDS) or not self.ready_line:
            self.kill()
            raise StartError("\n".join(self.output[-40:]))

    def launch(self) -> None:
        """Start the process without waiting for anything."""
        environment = clean_environment(self.environment)
        if self.temporary is not None:
            environment["TMPDIR"] = str(self.temporary)
        self.output = []
        self._ready.clear()
        self._process = subprocess.Popen(
            [
                *self.command,
                "-n",
                "--pidfile=",
                "dockreg",
                "--root",
                self.root,
                "--listen",
                self.listen,
                *self.options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def _read_output(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self.reading:
                self.output.append(line.rstrip("\n"))
            if READY.search(line):
                self._ready.set()
        self._ready.set()  # the end of the output: nobody needs to wait any longer

    @property
    def ready_line(self) -> str:
        """What the server said when it was ready, or nothing."""
        return next((line for line in self.output if READY.search(line)), "")

    def wait(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Return the exit status once the process has ended."""
        assert self._process is not None
        status = self._process.wait(timeout_seconds)
        if self._reader is not None:
            self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Stop the server as a service manager does.

        An exit status other than 0 is a failure, and so is a traceback in its log.
        """
        if self._process is None or self._process.returncode is not None:
            return
        self.terminate()
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if status != 0:
            raise AssertionError(f"the server exited with {status}:\n" + "\n".join(self.output[-40:]))
        if complaints := self.complaints():
            raise AssertionError("the server logged failures:\n" + "\n".join(complaints[:5]))

    def complaints(self) -> list[str]:
        """Return lines of the log that tell of failures nobody handled."""
        return [line for line in self.output if "Traceback" in line or "Unhandled" in line]

    def kill(self) -> None:
        """End the process with SIGKILL; no error when it has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            self.wait()

    def dockreg(self, *arguments: str, text: str = "") -> str:
        """Run the admin command on this root and return what it printed."""
        done = subprocess.run(
            [str(PROGRAMS / "dockreg"), "--root", str(self.root), *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=clean_environment(),
        )
        if done.returncode != 0:
            raise AssertionError(
                f"dockreg {' '.join(arguments)} exited with {done.returncode}: {done.stderr}"
            )
        return done.stdout

    def add_user(self, name: str, password: str, *grants: str) -> None:
        """Create a user with these grants."""
        options = [part for grant in grants for part in ("--grant", grant)]
        self.dockreg("user", "add", name, "--password-stdin", *options, text=password + "\n")

    def peak_memory_bytes(self) -> int:
        """Return the largest resident size since ``forget_peak_memory``."""
        return self._memory("VmHWM")

    def memory_bytes(self) -> int:
        """Return the resident size of the moment."""
        return self._memory("VmRSS")

    def forget_peak_memory(self) -> None:
        """Let the largest resident size begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} in /proc/{self.pid}/status")

    def files_outside_root(self) -> list[str]:
        """Return regular files that the server has open for writing and that do not lie under its root."""
        outside = []
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                target = os.readlink(descriptor)
                flags = Path(f"/proc/{self.pid}/fdinfo/{descriptor.name}").read_text()
            except FileNotFoundError:
                continue
            mode = int(re.search(r"flags:\s*(\d+)", flags)[1], 8)  # type: ignore[index] # always there
            writable = mode & os.O_ACCMODE != os.O_RDONLY
            if writable and target.startswith("/") and not target.startswith(("/dev/", str(self.root))):
                outside.append(target)
        return outside
