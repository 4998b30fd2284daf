"""The campaigns: a server under load meets its end again and again; nothing acknowledged may be lost."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.disks import Disk
from tests.faults.oracle import Inspector, Promises, Pusher
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import Connection, basic

PUSHERS = 4
#: The fault comes this long after the load began.
LOAD_SECONDS = (0.15, 0.8)
#: A first start takes about so long.
FIRST_START_SECONDS = (0.15, 0.9)
REPOSITORY = str(Path(__file__).parents[2])


@dataclass
class Outcome:
    """What a campaign found."""

    name: str
    seed: int
    cycles: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    slowest_start_seconds: float = 0.0

    @property
    def lost_blobs(self) -> list[str]:
        """Those of the losses that are bytes: what a missing fsync must bring about."""
        return [line for line in self.lost if line.startswith("blobs ")]

    def __str__(self) -> str:
        """Give the figures in one line."""
        return (
            f"{self.name}: {self.cycles} cycles, {self.acknowledged} acknowledged, {len(self.lost)} lost, "
            f"slowest restart {self.slowest_start_seconds:.2f} s, seed {self.seed}"
        )


class Scene:
    """A server and the fault it meets.

    Args:
        server: not started.
        fault: ends the server or its disk.
        repair: makes a start possible again.
        pushers: how many clients there are at most. What one of them has synced takes along what another
            one should have synced: a client that is alone sees a missing fsync more often.
    """

    def __init__(
        self,
        server: RegistryProcess,
        fault: Callable[[], None],
        repair: Callable[[], None],
        *,
        pushers: int = PUSHERS,
    ) -> None:
        self.server = server
        self.pushers = pushers
        self.fault = fault
        self.repair = repair


def run(scene: Scene, outcome: Outcome, cycles: int, *, stop_when_lost: bool = False) -> None:
    """Let the server meet the fault ``cycles`` times, pulling everything after each."""
    chance, promises = random.Random(outcome.seed), Promises()
    server = scene.server
    server.start()
    authorization = basic("admin", server.admin_password)
    for _ in range(cycles):
        _one_life(scene, promises, chance, authorization)
        began = time.monotonic()
        server.start()
        outcome.slowest_start_seconds = max(outcome.slowest_start_seconds, time.monotonic() - began)
        inspector = Inspector(
            port=server.port, authorization=authorization, promises=promises, seed=chance.getrandbits(32)
        )
        outcome.lost += inspector.lost()
        outcome.cycles += 1
        outcome.acknowledged = promises.acknowledged
        if outcome.lost_blobs and stop_when_lost:
            break
    server.stop()


def _one_life(scene: Scene, promises: Promises, chance: random.Random, authorization: str) -> None:
    pushers = [
        Pusher(
            port=scene.server.port,
            authorization=authorization,
            number=number,
            seed=chance.getrandbits(64),
            promises=promises,
        )
        for number in range(chance.randint(1, scene.pushers))
    ]
    threads = [threading.Thread(target=pusher.run) for pusher in pushers]
    for thread in threads:
        thread.start()
    time.sleep(chance.uniform(*LOAD_SECONDS))  # the moment of the fault is meant to be any
    scene.fault()
    scene.server.kill()
    for thread in threads:
        thread.join()
    scene.repair()


def run_first_starts(outcome: Outcome, cycles: int, *, with_disk: bool = False) -> None:
    """Kill servers while they fill an empty root; the next start must come to a working registry.

    ``with_disk`` cuts the power of their disk as well.
    """
    chance = random.Random(outcome.seed)
    for _ in range(cycles):
        with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
            disk = Disk(Path(name) / "disk") if with_disk else None
            if disk is not None:
                stack.callback(disk.close)
            server = RegistryProcess((disk.path if disk else Path(name)) / "root", command=TWISTD)
            stack.callback(server.kill)
            server.launch()
            time.sleep(chance.uniform(*FIRST_START_SECONDS))  # the moment of the fault is meant to be any
            if disk is not None:
                disk.cut()
            server.kill()
            if disk is not None:
                disk.restore()
            _second_start(server, outcome)
        outcome.cycles += 1


def _second_start(server: RegistryProcess, outcome: Outcome) -> None:
    began = time.monotonic()
    server.start()
    outcome.slowest_start_seconds = max(outcome.slowest_start_seconds, time.monotonic() - began)
    with Connection(server.port, basic("admin", server.admin_password)) as client:
        status = client.request("GET", "/v2/").status
    server.stop()
    if status != 200:
        outcome.lost.append(f"the admin's password does not work: {status}")


@contextmanager
def kill_scene(*, broken: str = "") -> Iterator[Scene]:
    """Offer a server that is killed with SIGKILL."""
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
        server = _server(Path(name) / "root", broken)
        try:
            yield Scene(server, server.kill, lambda: None)
        finally:
            server.kill()


@contextmanager
def power_scene(*, broken: str = "", split: bool = False) -> Iterator[Scene]:
    """Offer a server whose disk loses its power.

    ``split`` puts database and journal on a disk of their own, as one may to have them on a faster one. On a
    single ext4 the journal's fdatasync brings earlier changes of directories to disk as well, and so hides
    a missing fsync of a directory; on two disks nothing does.
    """
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
        disks = [Disk(Path(name) / "disk")]
        try:
            server = _server(disks[0].path / "root", broken)
            if split:
                disks.append(Disk(Path(name) / "index-disk"))
                _move_index(server, disks[1].path)
            try:
                yield Scene(
                    server,
                    lambda: _each(disks, Disk.cut),
                    lambda: _each(disks, Disk.restore),
                    pushers=1 if broken else PUSHERS,
                )
            finally:
                server.kill()
        finally:
            _each(disks, Disk.close)


def _each(disks: list[Disk], act: Callable[[Disk], None]) -> None:
    for disk in disks:
        act(disk)


def _move_index(server: RegistryProcess, target: Path) -> None:
    """Let the server make its root, then put database and journal on another disk."""
    server.start()
    server.stop()
    for entry in [*server.root.glob("registry.db*"), server.root / "journal"]:
        moved = target / entry.name
        if entry.is_dir():
            moved.mkdir(mode=0o700)
            for file in entry.iterdir():
                (moved / file.name).write_bytes(file.read_bytes())
                file.unlink()
            entry.rmdir()
        else:
            moved.write_bytes(entry.read_bytes())
            moved.chmod(0o600)
            entry.unlink()
        entry.symlink_to(moved)
    os.sync()


def _server(root: Path, broken: str) -> RegistryProcess:
    if not broken:
        return RegistryProcess(root, command=TWISTD)
    command = [sys.executable, "-m", "tests.faults.broken_server", broken]
    return RegistryProcess(root, command=command, environment={"PYTHONPATH": REPOSITORY})
