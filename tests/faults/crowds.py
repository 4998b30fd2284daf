"""Crowds of clients that keep a server waiting: idle ones, slow headers, slow bodies, slow readers."""

from __future__ import annotations

import resource
import select
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults.campaigns import server_on
from tests.faults.figures import Step, Steps
from tests.integration.images import sha256
from tests.integration.server import RegistryProcess
from tests.integration.sockets import Connection, basic

#: A deadline may be late by this.
PATIENCE_SECONDS = 5.0
MEMORY_MIB = 120.0
#: Larger than what the kernel takes for a client that reads nothing.
BLOB_BYTES = 8 << 20
#: Each address of the loopback has its own ports.
CONNECTIONS_PER_ADDRESS = 5000
#: So many come at once, and then none for a moment.
HURRY, HURRY_SECONDS = 25, 0.01


@dataclass(frozen=True)
class Crowd:
    """Clients of one kind.

    Args:
        greeting: sent at once.
        drip: sent every second after that.
        deadline_seconds: when the server must cut them.
        hold_seconds: how long the crowd is kept up: who is cut before comes back. 0: nobody comes back.
        reads: whether they take what the server sends.
    """

    name: str
    count: int
    deadline_seconds: float
    greeting: bytes = b""
    drip: bytes = b""
    hold_seconds: float = 0.0
    reads: bool = True


@dataclass
class _Member:
    socket: socket.socket
    since: float


@dataclass
class _Gathering:
    """One crowd at one server."""

    crowd: Crowd
    server: RegistryProcess
    step: Step
    members: dict[int, _Member] = field(default_factory=dict)
    cut: int = 0

    def run(self) -> None:
        """Gather, wait until everybody was cut, and push beside them."""
        self.epoll = select.epoll()
        began = time.monotonic()
        for number in range(self.crowd.count):
            self._join(number)
            if number % HURRY == HURRY - 1:
                # Who comes faster than the server accepts waits for a second in the kernel's queue.
                self._hear(keep=bool(self.crowd.hold_seconds))
                time.sleep(HURRY_SECONDS)
        gathered = time.monotonic()
        self.step.worst["gathering_seconds"] = max(
            self.step.worst.get("gathering_seconds", 0.0), gathered - began
        )
        self.step.counts["connections"] = self.step.counts.get("connections", 0) + self.crowd.count
        _push(self.server, self.step, self.crowd.name)
        tick = time.monotonic()
        last = gathered + (self.crowd.hold_seconds or self.crowd.deadline_seconds + 2 * PATIENCE_SECONDS)
        while self.members and time.monotonic() < last:
            self._hear(keep=time.monotonic() < gathered + self.crowd.hold_seconds)
            if time.monotonic() - tick >= 1:
                tick = time.monotonic()
                self._tick()
        self._overdue()
        for member in self.members.values():
            member.socket.close()
        self.epoll.close()

    def _join(self, number: int) -> None:
        client = socket.socket()
        client.settimeout(30)
        client.bind((f"127.0.0.{2 + number // CONNECTIONS_PER_ADDRESS}", 0))
        if not self.crowd.reads:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.server.port))
        if self.crowd.greeting:
            client.sendall(self.crowd.greeting)
        client.setblocking(False)
        self.members[client.fileno()] = _Member(client, time.monotonic())
        # Errors and hang-ups are told in any case.
        self.epoll.register(client.fileno(), select.EPOLLIN | select.EPOLLRDHUP if self.crowd.reads else 0)

    def _hear(self, *, keep: bool) -> None:
        for descriptor, events in self.epoll.poll(0.05):
            member = self.members[descriptor]
            is_cut = bool(events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP))
            if not is_cut:
                try:
                    is_cut = not member.socket.recv(65536)
                except ConnectionError:
                    is_cut = True
            if is_cut:
                self._leave(descriptor)
                if keep:
                    self._join(self.cut % self.crowd.count)

    def _leave(self, descriptor: int) -> None:
        self.epoll.unregister(descriptor)
        member = self.members.pop(descriptor)
        member.socket.close()
        self.cut += 1
        age_seconds = time.monotonic() - member.since
        name = f"{self.crowd.name}_cut_after_seconds"
        self.step.worst[name] = max(self.step.worst.get(name, 0.0), age_seconds)
        if age_seconds > self.crowd.deadline_seconds + PATIENCE_SECONDS:
            self._complain(f"a client was cut after {age_seconds:.0f} s")

    def _tick(self) -> None:
        memory_mib = self.server.memory_bytes() / (1 << 20)
        for name in ("memory_mib", f"{self.crowd.name}_memory_mib"):
            self.step.worst[name] = max(self.step.worst.get(name, 0.0), memory_mib)
        if not self.crowd.drip:
            return
        for descriptor in list(self.members):
            try:
                self.members[descriptor].socket.send(self.crowd.drip)
            except BlockingIOError:
                continue
            except OSError:
                self._leave(descriptor)

    def _overdue(self) -> None:
        limit = self.crowd.deadline_seconds + PATIENCE_SECONDS
        overdue = sum(time.monotonic() - member.since > limit for member in self.members.values())
        if overdue:
            self._complain(f"{overdue} clients were never cut")

    def _complain(self, text: str) -> None:
        # One line for each kind of complaint is enough.
        if not any(line.startswith(self.crowd.name) for line in self.step.failures):
            self.step.failures.append(f"{self.crowd.name}: {text}")


def _push(server: RegistryProcess, step: Step, beside: str) -> None:
    content = f"pushed beside {beside} {time.monotonic()}".encode()
    began = time.monotonic()
    with Connection(server.port, basic("admin", server.admin_password)) as client:
        path = f"/v2/crowd/app/blobs/uploads/?digest={sha256(content)}"
        status = client.request("POST", path, content).status
    if status != 201:
        step.failures.append(f"a push beside {beside}: {status}")
    step.worst["push_seconds"] = max(step.worst.get("push_seconds", 0.0), time.monotonic() - began)


def crowds(server: RegistryProcess, *, idle: int, slow: int, hold_seconds: float) -> list[Crowd]:
    """Return the crowds for a started server; what its slow readers ask for is pushed here."""
    authorization = basic("admin", server.admin_password)
    blob = b"\0" * BLOB_BYTES
    with Connection(server.port, authorization) as client:
        client.request("POST", f"/v2/crowd/app/blobs/uploads/?digest={sha256(blob)}", blob)
    who = f"Host: 127.0.0.1\r\nAuthorization: {authorization}\r\n"
    uploads = f"/v2/crowd/app/blobs/uploads/?digest={sha256(b'')}"
    post = f"POST {uploads} HTTP/1.1\r\n{who}Content-Length: 99999\r\n\r\n"
    get = f"GET /v2/crowd/app/blobs/{sha256(blob)} HTTP/1.1\r\n{who}\r\n"
    return [
        Crowd("idle", idle, 120.0, hold_seconds=hold_seconds),
        Crowd("slow_headers", slow, 10.0, b"GET /v2/ HTTP/1.1\r\nX-Slow: ", b"a"),
        Crowd("slow_bodies", slow, 60.0, post.encode(), b"a"),
        # They are looked at twice: whoever took something since is given as long again.
        Crowd("slow_readers", slow, 120.0, get.encode(), reads=False),
    ]


def connections(
    cycles: int,
    seed: int,
    *,
    idle: int = 10_000,
    slow: int = 2000,
    hold_seconds: float = 300.0,
    deadlines: Mapping[str, float] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Steps:
    """Let all crowds come to a server, one after the other.

    ``deadlines`` says which crowds come at all, and when each one must be cut; all of them when None.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for _ in range(cycles):
        step = Step()
        with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
            server = server_on(Path(name) / "root", **(environment or {}))
            try:
                server.start()
                for crowd in crowds(server, idle=idle, slow=slow, hold_seconds=hold_seconds):
                    if deadlines is None:
                        _Gathering(crowd, server, step).run()
                    elif crowd.name in deadlines:
                        told = replace(crowd, deadline_seconds=deadlines[crowd.name])
                        _Gathering(told, server, step).run()
                if server.complaints():
                    step.failures.append(server.complaints()[0])
            finally:
                server.kill()
        yield step
