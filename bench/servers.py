"""The registries side by side: each started on a root of its own, its processes watched through /proc."""

from __future__ import annotations

import base64
import json
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
#: The smallest blob that is worth sweeping away.
SWEPT_BYTES = 1024 * 1024
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
    kept: set[Path] = field(default_factory=set)
    _process: subprocess.Popen[bytes] | None = None
    _log_bytes: int = 0

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
            self._log_bytes = log.tell()
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
                raise RuntimeError(f"{self.name} did not start:\n{self.new_log()[-2000:]}")
            time.sleep(0.005)
        self.started_seconds = time.monotonic() - began
        self.began()

    def began(self) -> None:
        """Finish the start."""

    def new_log(self) -> str:
        """Return what it has logged since it was started."""
        with (self.files / "log").open(errors="replace") as log:
            log.seek(self._log_bytes)
            return log.read()

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

    def keep(self) -> None:
        """Remember the large blobs that there are: no sweep removes them."""
        self.kept = set(self._large_blobs())

    def sweep(self) -> None:
        """Remove the large blobs that came since: rows pushed them, and nobody asks for them again.

        A DELETE frees nothing at once, neither here nor there, and memory is soon full of gigabytes.
        """
        for file in self._large_blobs():
            if file not in self.kept:
                file.unlink()

    def _large_blobs(self) -> list[Path]:
        places = (Path(folder, name) for folder, _, names in os.walk(self.root) for name in names)
        # Of every server here, whatever its layout; databases, journals and logs lie elsewhere.
        blobs = (file for file in places if "blobs" in file.relative_to(self.root).parts)
        return [file for file in blobs if file.stat().st_size >= SWEPT_BYTES]

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
        return sum(self.cpu_seconds_by_pid().values())

    def cpu_seconds_by_pid(self) -> dict[int, float]:
        """Return the processor time that each process has used."""
        found = {}
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
        return found

    def memory_bytes(self, name: str = "VmRSS") -> int:
        """Return the resident size of its processes; ``VmHWM`` for the largest so far."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(name + ":"):
                    total += int(line.split()[1]) * 1024
        return total


@dataclass
class Dockreg(Server):
    """The checkout itself, with authentication on and everything flushed."""

    workers: str = "1"

    def command(self) -> Sequence[str]:
        twistd = Path(sys.executable).with_name("twistd")
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        options = ["--root", str(self.root), "--listen", listen, "--workers", self.workers]
        return [str(twistd), "-n", "--pidfile=", "dockreg", *options]

    def began(self) -> None:
        self._wait_for_workers()
        password = (self.root / "admin-password").read_text().strip()
        credentials = base64.b64encode(f"admin:{password}".encode()).decode()
        self.fixed["Authorization"] = f"Basic {credentials}"

    def _wait_for_workers(self) -> None:
        # The parent binds before its workers are up.
        deadline = time.monotonic() + START_SECONDS
        while self.workers != "1" and not self.new_log().count("dockreg ready on"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not ready:\n{self.new_log()[-2000:]}")
            time.sleep(0.02)


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
    """zot, as it is shipped, or with ``commit``: then it flushes what it writes."""

    program: str = "zot"
    commit: bool = False

    def command(self) -> Sequence[str]:
        settings = self.files / "config.json"
        chosen = {
            "distSpecVersion": "1.1.1",
            "log": {"level": "info"},
            "storage": {"rootDirectory": str(self.root), "commit": self.commit, "gc": False},
            "http": {"address": "127.0.0.1", "port": str(self.port)},
        }
        settings.write_text(json.dumps(chosen))
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

    found: list[Server] = [dockreg(data / "dockreg", core=core)]
    built = str(TOOLS / "registry")
    if Path(built).exists():
        found.append(Distribution(*places(REFERENCE), version(built, "--version"), program=built))
    debian = "docker-registry"
    if shutil.which(debian):
        found.append(Distribution(*places(debian), version(debian, "--version"), program=debian))
    if zot := os.environ.get("BENCH_ZOT"):
        told = version(zot, "--version")
        found.append(Zot(*places("zot"), told, program=zot))
        found.append(Zot(*places("zot-commit"), f"{told}, with commit", program=zot, commit=True))
    if shutil.which("nginx"):
        found.append(Nginx(*places("nginx"), version("nginx", "-v"), is_registry=False))
    return [server for server in found if not only or server.name in only]


def dockreg(data: Path, *, core: int | None, workers: str = "1") -> Dockreg:
    """Return the checkout itself, by so many processes."""
    told = version(sys.executable, "-m", "dockreg_tx", "version")
    return Dockreg("dockreg", data / "root", data / "files", core, told, workers=workers)


def version(*command: str) -> str:
    """Return the first line that a program says about itself, without its path."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines() or ["?"]
    return " ".join(word for word in lines[0].split() if not word.startswith("/"))


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
