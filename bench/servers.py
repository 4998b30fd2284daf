"""The registries side by side: each started on a root of its own, its processes watched through /proc."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).parent.parent
TOOLS = TOP / ".tools" / "bin"
#: The one that the others are compared with.
REFERENCE = "distribution"
START_SECONDS = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """One server under test.

    ``root`` holds its data, ``files`` its settings and log; ``core`` is what it may run on, None for all.
    """

    name: str
    root: Path
    files: Path
    core: int | None
    version: str
    port: int = 0
    fixed: dict[str, str] = field(default_factory=dict)
    #: A registry; static file servers answer only some rows.
    is_registry: bool = True
    started_seconds: float = 0.0
    _process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Return what to run."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return what to add to the environment."""
        return {}

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.files.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        pinned = [] if self.core is None else ["taskset", "-c", str(self.core)]
        began = time.monotonic()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKREG_")}
        with (self.files / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*pinned, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**kept, **self.environment()},
                start_new_session=True,
            )
        while not is_listening(self.port):
            if self._process.poll() is not None or time.monotonic() - began > START_SECONDS:
                tail = (self.files / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} did not start:\n{tail}")
            time.sleep(0.005)
        self.started_seconds = time.monotonic() - began
        self.began()

    def began(self) -> None:
        """Finish the start."""

    def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def pids(self) -> list[int]:
        """Return the process and all that come from it."""
        assert self._process is not None
        found, fresh = [], [self._process.pid]
        while fresh:
            found += fresh
            fresh = [child for pid in fresh for child in _children(pid)]
        return found

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes have used."""
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS

    def memory_bytes(self, name: str = "VmRSS") -> int:
        """Return the resident size of its processes; ``VmHWM`` for the largest so far."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(name + ":"):
                    total += int(line.split()[1]) * 1024
        return total


class Dockreg(Server):
    """The checkout itself, with authentication on and everything flushed."""

    def command(self) -> Sequence[str]:
        twistd = Path(sys.executable).with_name("twistd")
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        return [str(twistd), "-n", "--pidfile=", "dockreg", "--root", str(self.root), "--listen", listen]

    def began(self) -> None:
        password = (self.root / "admin-password").read_text().strip()
        credentials = base64.b64encode(f"admin:{password}".encode()).decode()
        self.fixed["Authorization"] = f"Basic {credentials}"


@dataclass
class Distribution(Server):
    """The Docker registry, whichever version ``program`` is, with its default settings."""

    program: str = "registry"

    def command(self) -> Sequence[str]:
        settings = self.files / "config.yml"
        settings.write_text(
            "version: 0.1\n"
            "storage:\n"
            "  cache: {blobdescriptor: inmemory}\n"
            f"  filesystem: {{rootdirectory: {self.root}}}\n"
            "  delete: {enabled: true}\n"
            f"http: {{addr: '127.0.0.1:{self.port}'}}\n"
        )
        return [self.program, "serve", str(settings)]

    def environment(self) -> Mapping[str, str]:
        # Else it sends traces to a collector that is not there.
        return {"OTEL_TRACES_EXPORTER": "none"}


@dataclass
class Zot(Server):
    """zot; with ``commit`` it flushes what it writes."""

    program: str = "zot"

    def command(self) -> Sequence[str]:
        settings = self.files / "config.json"
        settings.write_text(
            f'{{"distSpecVersion": "1.1.1", "log": {{"level": "info"}},'
            f' "storage": {{"rootDirectory": "{self.root}", "commit": true, "gc": false}},'
            f' "http": {{"address": "127.0.0.1", "port": "{self.port}"}}}}'
        )
        return [self.program, "serve", str(settings)]


class Nginx(Server):
    """A web server with the same bytes as files."""

    def command(self) -> Sequence[str]:
        settings = self.files / "nginx.conf"
        settings.write_text(
            f"daemon off; master_process off; pid {self.files}/pid; error_log {self.files}/error.log;\n"
            "events { worker_connections 20000; }\n"
            "http {\n"
            f"  access_log {self.files}/access.log; sendfile on; keepalive_requests 100000000;\n"
            f"  server {{ listen 127.0.0.1:{self.port}; root {self.root}; }}\n"
            "}\n"
        )
        return ["nginx", "-p", str(self.files), "-c", str(settings)]


def servers(data: Path, *, core: int | None, only: Sequence[str] = ()) -> list[Server]:
    """Return the servers that this machine has, dockreg first.

    Args:
        data: where their roots lie.
        core: what they are pinned to.
        only: names of those to take, all when empty.
    """

    def places(name: str) -> tuple[str, Path, Path, int | None]:
        return name, data / name / "root", data / name / "files", core

    def version(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines() or ["?"]
        return " ".join(word for word in lines[0].split() if not word.startswith("/"))

    found: list[Server] = [
        Dockreg(*places("dockreg"), version(sys.executable, "-m", "dockreg_tx", "version"))
    ]
    built = str(TOOLS / "registry")
    if Path(built).exists():
        found.append(Distribution(*places(REFERENCE), version(built, "--version"), program=built))
    debian = "docker-registry"
    if shutil.which(debian):
        found.append(Distribution(*places(debian), version(debian, "--version"), program=debian))
    if zot := os.environ.get("BENCH_ZOT"):
        found.append(Zot(*places("zot"), version(zot, "--version"), program=zot))
    if shutil.which("nginx"):
        found.append(Nginx(*places("nginx"), version("nginx", "-v"), is_registry=False))
    return [server for server in found if not only or server.name in only]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Tell whether something takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found
