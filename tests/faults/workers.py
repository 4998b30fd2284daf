"""The campaign against workers: one is killed every 200 ms while four clients push.

Nothing acknowledged may be lost, and who is connected to another worker may not notice.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.faults.oracle import Inspector, Promises, Pusher, Refused
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import Answer, Connection, basic

WORKERS = 4
PUSHERS = 4
KILL_SECONDS = 0.2
SETTLE_SECONDS = 1.0
#: Of the requests on connections to workers that were not killed, at most this part may fail.
UNAFFECTED_LIMIT = 0.005
REPOSITORY = str(Path(__file__).parents[2])
#: ``twistd`` whose workers break a promise.
BREAK = """
import dockreg_tx.workers.process
from twisted.scripts.twistd import run
dockreg_tx.workers.process.MODULE = "tests.faults.broken_worker"
run()
"""
BROKEN = (sys.executable, "-c", BREAK)


def campaign(cycles: int, seed: int) -> bool:
    """Kill a random worker ``cycles`` times, print the figures, and tell whether all went well."""
    outcome = run(cycles, seed)
    sys.stdout.write(f"workers: {outcome}, seed {seed}: {'ok' if outcome.is_well else 'NOT WELL'}\n")
    for line in [*outcome.lost[:20], *outcome.failures[:20]]:
        sys.stdout.write(f"    {line}\n")
    return outcome.is_well


def control(cycles: int, seed: int) -> bool:
    """Run the campaign against workers that acknowledge too early, and tell whether it notices."""
    outcome = run(cycles, seed, broken=True)
    is_caught = bool(outcome.lost)
    verdict = "caught, as it must be" if is_caught else "NOT CAUGHT"
    sys.stdout.write(f"control-workers: {outcome}, seed {seed}: {verdict}\n")
    return is_caught


class Outcome:
    """What a campaign found."""

    def __init__(self) -> None:
        self.kills = 0
        self.requests = 0
        self.acknowledged = 0
        #: Requests that ended with the worker they were sent to: clients repeat them.
        self.cut = 0
        self.failures: list[str] = []
        self.lost: list[str] = []
        self.integrity = ""

    @property
    def is_well(self) -> bool:
        """Whether every promise was kept."""
        unaffected = max(1, self.requests - self.cut)
        is_quiet = len(self.failures) < UNAFFECTED_LIMIT * unaffected
        return not self.lost and is_quiet and self.integrity == "ok"

    def __str__(self) -> str:
        """Give the figures in one line."""
        return (
            f"{self.kills} kills, {self.requests} requests, {self.cut} cut off with their worker, "
            f"{len(self.failures)} others failed, {self.acknowledged} acknowledged, {len(self.lost)} lost, "
            f"database {self.integrity}"
        )


class Doomed:
    """The client ports whose worker was killed."""

    def __init__(self, server: RegistryProcess) -> None:
        self._server = server
        self._ports: set[int] = set()

    def workers(self) -> list[int]:
        """Return the process ids of the workers that serve: they have opened the database."""
        pid = self._server.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if "registry.db" in " ".join(descriptors(int(child)))]

    def kill(self, worker: int) -> None:
        """Kill a worker, having noted its connections; it is stopped first, so that it gets no new ones."""
        os.kill(worker, signal.SIGSTOP)
        self._ports |= client_ports(worker, self._server.port)
        os.kill(worker, signal.SIGKILL)

    def has(self, port: int) -> bool:
        """Tell whether the connection from this port was cut by a kill."""
        return port in self._ports


def client_ports(worker: int, server_port: int) -> set[int]:
    """Return the ports of the clients that a process is connected with."""
    inodes, ports = descriptors(worker), set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        is_ours = int(fields[1].partition(":")[2], 16) == server_port
        if is_ours and f"socket:[{fields[9]}]" in inodes:
            ports.add(int(fields[2].partition(":")[2], 16))
    return ports


def descriptors(pid: int) -> set[str]:
    """Return what a process has open; nothing when it is gone."""
    found = set()
    with suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.add(os.readlink(descriptor))
    return found


class Survivor(Pusher):
    """A pusher that connects again when its worker was killed."""

    def prepare(self, doomed: Doomed, outcome: Outcome, stop: threading.Event) -> None:
        """Tell it what it needs beside its parents' arguments."""
        self._doomed, self._outcome, self._stop = doomed, outcome, stop

    def run(self) -> None:
        """Push until told to stop."""
        while not self._stop.is_set():
            try:
                client = Connection(self._port, self._authorization, timeout_seconds=30)
            except OSError as error:
                self._outcome.failures.append(f"no connection: {error!r}")
                time.sleep(0.1)  # as a client would wait
                continue
            self._push_while_it_lasts(client)

    def _push_while_it_lasts(self, client: Connection) -> None:
        port = client.socket.getsockname()[1]
        with client:
            try:
                while not self._stop.is_set():
                    self._push(client)
            except Refused as error:
                self._outcome.failures.append(str(error))
            except OSError as error:
                # Who is told of the reset may be quicker than who killed.
                time.sleep(0.05)
                if self._doomed.has(port):
                    self._outcome.cut += 1
                else:
                    self._outcome.failures.append(f"port {port}: {error!r}")

    def _ask(self, client: Connection, expected: int, method: str, path: str, body: bytes = b"") -> Answer:
        self._outcome.requests += 1
        return super()._ask(client, expected, method, path, body)


def run(cycles: int, seed: int, *, broken: bool = False) -> Outcome:
    """Kill, push, and look what is left; with ``broken`` until something is lost."""
    outcome, chance, promises = Outcome(), random.Random(seed), Promises()
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-", ignore_cleanup_errors=True) as name:
        server = RegistryProcess(
            Path(name) / "root",
            options=["--workers", str(WORKERS)],
            command=BROKEN if broken else TWISTD,
            environment={"PYTHONPATH": REPOSITORY, "DOCKREG_LOG_ACCESS": "none"},
        )
        try:
            server.start()
            authorization = basic("admin", server.admin_password)
            _kill_under_load(server, outcome, chance, promises, cycles, authorization)
            inspector = Inspector(
                port=server.port, authorization=authorization, promises=promises, seed=chance.getrandbits(32)
            )
            outcome.lost += inspector.lost()
            outcome.acknowledged = promises.acknowledged
            server.stop()
            outcome.integrity = integrity(server.root / "registry.db")
        finally:
            server.kill()
    return outcome


def _kill_under_load(
    server: RegistryProcess,
    outcome: Outcome,
    chance: random.Random,
    promises: Promises,
    cycles: int,
    authorization: str,
) -> None:
    doomed, stop = Doomed(server), threading.Event()
    threads = []
    for number in range(PUSHERS):
        pusher = Survivor(
            port=server.port,
            authorization=authorization,
            number=number,
            seed=chance.getrandbits(64),
            promises=promises,
        )
        pusher.prepare(doomed, outcome, stop)
        threads.append(threading.Thread(target=pusher.run))
    for thread in threads:
        thread.start()
    while outcome.kills < cycles:
        time.sleep(KILL_SECONDS)  # the faults are meant to come in any state
        # One is left for those who are to notice nothing: where cores are few, a start takes longer.
        if len(workers := doomed.workers()) > 1:
            doomed.kill(chance.choice(workers))
            outcome.kills += 1
    stop.set()
    for thread in threads:
        thread.join()
    time.sleep(SETTLE_SECONDS)  # only what a kill took is lost, not what is merely late


def integrity(path: Path) -> str:
    """Return what SQLite says of a database file."""
    database = sqlite3.connect(path)
    try:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        database.close()
