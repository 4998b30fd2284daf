"""A reverse proxy in a process of its own, with its configuration from ``etc/`` moved to other ports."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.server import free_port
from tests.integration.sockets import Connection
from tests.integration.test_listeners import write_certificate

ETC = Path(__file__).parents[2] / "etc"
START_SECONDS = 15.0
_AUTHORITY = re.compile(r"^https?://[^/]*")
#: Debian keeps servers out of the users' path.
SEARCH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


@dataclass(frozen=True, slots=True)
class Places:
    """What a configuration is moved to."""

    port: int
    upstream_port: int
    directory: Path
    certificate: Path
    key: Path

    @property
    def both(self) -> Path:
        """One file with certificate and key."""
        return self.directory / "both.pem"


def moved(text: str, *replacements: tuple[str, str]) -> str:
    """Replace texts that each must be there."""
    for old, new in replacements:
        if old not in text:
            raise AssertionError(f"the configuration no longer says {old!r}")
        text = text.replace(old, new)
    return text


def _nginx(text: str, places: Places) -> str:
    folders = "".join(
        f"    {kind}_temp_path {places.directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = moved(
        text,
        ("listen 443 ", f"listen 127.0.0.1:{places.port} "),
        ("127.0.0.1:5000", f"127.0.0.1:{places.upstream_port}"),
        ("/etc/dockreg/certificate.pem", str(places.certificate)),
        ("/etc/dockreg/key.pem", str(places.key)),
        ("/run/nginx.pid", f"{places.directory}/pid"),
        ("/var/log/nginx/error.log warn", f"{places.directory}/error.log warn"),
        ("/var/log/nginx/access.log", f"{places.directory}/log"),
        ("http {\n", "http {\n" + folders),
    )
    return text if os.geteuid() == 0 else text.replace("user www-data;\n", "")


def _caddy(text: str, places: Places) -> str:
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"
    site = f"https://localhost:{places.port}, https://127.0.0.1:{places.port} {{"
    return options + moved(
        text,
        ("registry.example.org {", site),
        (
            "# tls /etc/dockreg/certificate.pem /etc/dockreg/key.pem",
            f"tls {places.certificate} {places.key}",
        ),
        ("reverse_proxy 127.0.0.1:5000", f"reverse_proxy 127.0.0.1:{places.upstream_port}"),
    )


def _haproxy(text: str, places: Places) -> str:
    places.both.write_bytes(places.certificate.read_bytes() + places.key.read_bytes())
    return moved(
        text,
        ("log /dev/log local0", "log stdout format raw local0"),
        ("bind :443 ", f"bind 127.0.0.1:{places.port} "),
        ("server dockreg 127.0.0.1:5000", f"server dockreg 127.0.0.1:{places.upstream_port}"),
        ("/etc/dockreg/certificate-and-key.pem", str(places.both)),
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """One program."""

    program: str
    file: str
    move: Callable[[str, Places], str]
    #: Arguments before the path of the configuration.
    arguments: Sequence[str]
    #: Finds method, target and, if it was forwarded, a text other than ``unforwarded``, in a line of the log.
    log_line: re.Pattern[str] = re.compile("(?!)")
    unforwarded: str = ""


NGINX = Kind(
    "nginx",
    "nginx.conf",
    _nginx,
    ("-g", "daemon off;", "-c"),
    re.compile(r'\] "(?P<method>\S*) (?P<target>.*?) HTTP/[^"]*" (?P<status>\d+) .* (?P<forwarded>\S+)$'),
    "-",
)
CADDY = Kind("caddy", "Caddyfile", _caddy, ("run", "--adapter", "caddyfile", "--config"))
HAPROXY = Kind(
    "haproxy",
    "haproxy.cfg",
    _haproxy,
    ("-db", "-f"),
    re.compile(
        r" registry~ dockreg/(?P<forwarded>\S+) \S+ (?P<status>-?\d+) .*"
        r'"(?P<method>\S*) (?P<target>.*?) HTTP/[^"]*"$'
    ),
    "<NOSRV>",
)


def missing(kind: Kind) -> str:
    """Return why this program cannot be tested here, or nothing."""
    if shutil.which(kind.program, path=SEARCH) is None:
        return f"not installed: {kind.program} (tests/fronts/install.sh installs it)"
    return ""


class Front:
    """A running proxy.

    Args:
        kind: which one.
        upstream_port: where dockreg listens.
        directory: for its configuration, logs and passing files.
    """

    def __init__(self, kind: Kind, upstream_port: int, directory: Path) -> None:
        certificate, key = write_certificate(directory)
        self.port = free_port()
        self._kind = kind
        self._places = Places(self.port, upstream_port, directory, certificate, key)
        self._output = directory / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers."""
        directory = self._places.directory
        # nginx's workers are another user, who writes to the folders that they make here.
        directory.chmod(0o755)
        path = directory / self._kind.file
        path.write_text(self._kind.move((ETC / self._kind.file).read_text(), self._places))
        program = shutil.which(self._kind.program, path=SEARCH)
        assert program is not None
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [program, *self._kind.arguments, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory)},
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                self.stop()
                raise AssertionError(f"{self._kind.program} did not start: {self.output}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with self.connect() as client:
                return client.request("GET", "/healthz").status == 200
        except (ConnectionError, OSError):
            return False

    def connect(self, authorization: str = "") -> Connection:
        """Open a TLS connection to it."""
        context = ssl.create_default_context(cafile=str(self._places.certificate))

        def wrap(plain: object) -> ssl.SSLSocket:
            return context.wrap_socket(plain, server_hostname="127.0.0.1")  # type: ignore[arg-type]  # a socket

        return Connection(self.port, authorization, wrap=wrap)

    @property
    def output(self) -> str:
        """What it printed."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def log(self) -> list[tuple[str, str, bool]]:
        """Return method, target, and whether dockreg was asked, for each request that the proxy logged."""
        file = self._places.directory / "log"
        text = file.read_text(errors="replace") if file.exists() else self.output
        # Proxies log the target as it came, and pass it on without authority and spaces.
        found = (self._kind.log_line.search(line) for line in text.splitlines())
        return [
            (
                match["method"],
                _AUTHORITY.sub("", match["target"].strip()),
                match["forwarded"] != self._kind.unforwarded,
            )
            for match in found
            if match is not None
        ]

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
