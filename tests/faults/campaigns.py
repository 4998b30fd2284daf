"""Crashes and power cuts: a server under load meets its end again and again, and must not lose anything."""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.faults.disks import Disk
from tests.faults.figures import Step, Steps
from tests.faults.frame import Work
from tests.faults.inspector import Inspector
from tests.faults.oracle import Promises
from tests.faults.pusher import Pusher
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import Connection, basic

PUSHERS = 4
#: The fault comes this long after the load began.
LOAD_SECONDS = (0.15, 0.8)
#: A first start takes about so long.
FIRST_START_SECONDS = (0.15, 0.9)
#: A root is used for so many cycles; then everything on it is pulled, and a new one begins.
ERA_CYCLES = 50
#: The disk is checked by its own checker once in so many cuts.
CHECK_CYCLES = 10
REPOSITORY = str(Path(__file__).parents[2])


class Scene:
    """A server and the fault it meets.

    Args:
        server: not started.
        fault: ends the server or its disk.
        repair: makes a start possible again.
        pushers: how many clients there are at most. What one of them has synced takes along what another
            one should have synced: a client that is alone sees a missing fsync more often.
        check: tells what is wrong with the disk; called now and then, between fault and start.
        start: starts the server again, by way of further faults if need be.
        takes_all: the fault takes the whole machine along. Here only a file system ends, while the server
            lives on for some milliseconds, and an ``fdatasync`` that is under way at that moment may return
            success for bytes that are gone. So answers count only if they came before.
    """

    def __init__(
        self,
        server: RegistryProcess,
        fault: Callable[[], None],
        repair: Callable[[], None],
        *,
        pushers: int = PUSHERS,
        check: Callable[[], list[str]] = list,
        start: Callable[[random.Random, Step], None] | None = None,
        takes_all: bool = False,
    ) -> None:
        self.server = server
        self.pushers = pushers
        self.fault = fault
        self.repair = repair
        self.check = check
        self.takes_all = takes_all
        self.start = start or (lambda _, step: timed_start(server, step))


def timed_start(server: RegistryProcess, step: Step) -> None:
    """Start the server and note how long that took, less what it waited while others had the processors."""
    began = time.monotonic()
    server.start()
    took_seconds = time.monotonic() - began - queued_seconds(server.pid)
    step.worst["restart_seconds"] = max(step.worst.get("restart_seconds", 0.0), took_seconds)


def queued_seconds(pid: int) -> float:
    """Return how long the first thread of a process was able to run and had no processor (proc(5))."""
    try:
        _, waited_nanoseconds, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except OSError:
        return 0.0
    return int(waited_nanoseconds) / 1e9


def lives(scene: Scene, cycles: int, seed: int) -> Steps:
    """Let the server meet the fault ``cycles`` times, pulling everything after each."""
    chance, promises = random.Random(seed), Promises()
    server = scene.server
    server.start()
    authorization = basic("admin", server.admin_password)
    for number in range(cycles):
        step = Step()
        _one_life(scene, promises, chance, authorization, step)
        if number % CHECK_CYCLES == CHECK_CYCLES - 1:
            step.failures += scene.check()
        scene.start(chance, step)
        inspector = Inspector(
            port=server.port, authorization=authorization, promises=promises, seed=chance.getrandbits(32)
        )
        step.add(inspector.inspect(is_last=number == cycles - 1))
        step.acknowledged, promises.acknowledged = promises.acknowledged, 0
        yield step
    server.stop()


def _one_life(
    scene: Scene, promises: Promises, chance: random.Random, authorization: str, step: Step
) -> None:
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
    promises.is_dark = scene.takes_all
    scene.fault()
    scene.server.kill()
    for thread in threads:
        thread.join()
    promises.is_dark = False
    # A disk without power answers 5xx; whatever is the client's fault is a fault of ours.
    step.failures += [pusher.refusal for pusher in pushers if re.search(r": 4\d\d ", pusher.refusal)]
    scene.repair()


def in_eras(scene_of: Callable[[], AbstractContextManager[Scene]]) -> Work:
    """Make the work of a campaign: lives on one root after the other."""

    def work(cycles: int, seed: int) -> Steps:
        for first in range(0, cycles, ERA_CYCLES):
            with scene_of() as scene:
                yield from lives(scene, min(ERA_CYCLES, cycles - first), seed + first)

    return work


def first_starts(cycles: int, seed: int, *, with_disk: bool = False) -> Steps:
    """Kill servers while they fill an empty root; the next start must come to a working registry.

    ``with_disk`` cuts the power of their disk as well.
    """
    chance = random.Random(seed)
    for _ in range(cycles):
        step = Step()
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
            timed_start(server, step)
            step.lost += _useless_password(server)
            server.stop()
        yield step


def _useless_password(server: RegistryProcess) -> list[str]:
    with Connection(server.port, basic("admin", server.admin_password)) as client:
        status = client.request("GET", "/v2/").status
    return [] if status == 200 else [f"the admin's password does not work: {status}"]


@contextmanager
def kill_scene(*, broken: str = "") -> Iterator[Scene]:
    """Offer a server that is killed with SIGKILL."""
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
        server = server_on(Path(name) / "root", broken)
        try:
            yield Scene(server, server.kill, lambda: None)
        finally:
            server.kill()


@contextmanager
def power_scene(*, broken: str = "", split: bool = False, filesystem: str = "ext4") -> Iterator[Scene]:
    """Offer a server whose disk loses its power.

    ``split`` puts database and journal on a disk of their own, as one may to have them on a faster one. On a
    single ext4 the journal's fdatasync brings earlier changes of directories to disk as well, and so hides
    a missing fsync of a directory; on two disks nothing does.
    """
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
        disks = [Disk(Path(name) / "disk", filesystem)]
        try:
            server = server_on(disks[0].path / "root", broken)
            if split:
                disks.append(Disk(Path(name) / "index-disk", filesystem))
                _move_index(server, disks[1].path)
            try:
                yield Scene(
                    server,
                    lambda: _each(disks, Disk.cut),
                    lambda: _each(disks, Disk.restore),
                    pushers=1 if broken else PUSHERS,
                    check=lambda: [line for disk in disks for line in disk.check()],
                    takes_all=True,
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


def server_on(root: Path, broken: str = "", **more: str) -> RegistryProcess:
    """Return a server, broken on purpose if so named, with ``more`` in its environment."""
    if not broken:
        return RegistryProcess(root, command=TWISTD, environment=more)
    command = [sys.executable, "-m", "tests.faults.broken_server", broken]
    return RegistryProcess(root, command=command, environment={**more, "PYTHONPATH": REPOSITORY})
