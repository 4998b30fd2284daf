"""Garbage collection without any grace: beside pushes, and killed at any of its system calls."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.campaigns import REPOSITORY, server_on, timed_start
from tests.faults.figures import Step, Steps
from tests.faults.overlap import Acknowledged, OverlappingPusher, inspect
from tests.faults.points import KillPoints
from tests.faults.syscalls import NestedStart
from tests.integration.server import PROGRAMS, RegistryProcess, clean_environment
from tests.integration.sockets import basic

RACERS, CRASH_PUSHERS = 8, 4
#: The race pauses for an inspection this often.
ROUND_SECONDS = 10
COLLECT = ("gc", "--grace", "0s", "--yes")


def _pushers(
    server: RegistryProcess, chance: random.Random, acknowledged: Acknowledged, count: int
) -> list[OverlappingPusher]:
    authorization = basic("admin", server.admin_password)
    return [
        OverlappingPusher(
            port=server.port,
            authorization=authorization,
            number=number,
            seed=chance.getrandbits(64),
            acknowledged=acknowledged,
        )
        for number in range(count)
    ]


@contextmanager
def _pushing(pushers: list[OverlappingPusher], step: Step) -> Iterator[None]:
    threads = [threading.Thread(target=pusher.run) for pusher in pushers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for pusher in pushers:
            pusher.end()
        for thread in threads:
            thread.join()
        for pusher in pushers:
            step.failures += pusher.unexpected
            pusher.unexpected.clear()


def race(cycles: int, seed: int, *, forgetful: bool = False) -> Steps:
    """Collect and push at the same time; a cycle is a second."""
    chance, acknowledged = random.Random(seed), Acknowledged()
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        server = server_on(Path(name) / "root")
        stack.callback(server.kill)
        server.start()
        # The same ones all the time: they delete again what they pushed, and so all is garbage some day.
        racers = _pushers(server, chance, acknowledged, RACERS)
        for first in range(0, cycles, ROUND_SECONDS):
            step = Step(cycles=min(ROUND_SECONDS, cycles - first))
            collector = _collector(server.root, forgetful=forgetful)
            stack.callback(collector.kill)
            with _pushing(racers, step):
                time.sleep(step.cycles)  # how long the race takes
            output, _ = collector.communicate("end\n", timeout=60)
            figures = json.loads(output)
            step.counts = {**figures, "decisions": figures["removed"] + figures["kept"]}
            step.counts["refused_manifests"], acknowledged.refused = acknowledged.refused, 0
            step.add(inspect(acknowledged, server.port, basic("admin", server.admin_password)))
            step.acknowledged, acknowledged.count = acknowledged.count, 0
            if first + ROUND_SECONDS >= cycles and not forgetful:
                step.failures += _litter(server, acknowledged)
            yield step
        server.stop()


def _collector(root: Path, *, forgetful: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.collector", str(root)]
    return subprocess.Popen(
        command + ["forgetful"] * forgetful,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=clean_environment(),
    )


def _litter(server: RegistryProcess, acknowledged: Acknowledged) -> list[str]:
    """Collect a last time, and compare what lies on the disk with what is alive."""
    server.dockreg(*COLLECT)
    alive = {digest for _, digest in acknowledged.manifests}
    for content in acknowledged.manifests.values():
        document = json.loads(content)
        alive |= {document["config"]["digest"], *(each["digest"] for each in document["layers"])}
    stored = {f"sha256:{path.name}" for path in (server.root / "blobs" / "sha256").glob("*/*")}
    found = [f"{digest} is on disk, and nothing needs it" for digest in sorted(stored - alive)]
    found += [f"{digest} is not on disk" for digest in sorted(alive - stored)]
    return found + [f"{name} is left in the trash" for name in os.listdir(server.root / "trash")]


def crashes(cycles: int, seed: int, *, broken: str = "") -> Steps:
    """Kill the collector at one of its calls, then the server or not, then starts; all must converge."""
    chance, acknowledged = random.Random(seed), Acknowledged()
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        for part in ("gc", "start"):
            (Path(name) / part).mkdir()
        points, start_points = KillPoints(Path(name) / "gc"), KillPoints(Path(name) / "start")
        stack.callback(points.close)
        stack.callback(start_points.close)
        server = server_on(Path(name) / "root", broken, **start_points.environment)
        stack.callback(server.kill)
        server.start()
        nested, calls = NestedStart(server, start_points), 60
        for number in range(cycles):
            step = Step()
            with _pushing(_pushers(server, chance, acknowledged, CRASH_PUSHERS), step):
                calls = max(_killed_collection(server, points, chance.randint(1, calls), step), calls // 2)
                time.sleep(chance.uniform(0, 0.6))  # the moment of the fault is meant to be any
                if is_server_killed := bool(broken) or chance.random() < 0.5:
                    server.kill()
            if is_server_killed and broken:
                timed_start(server, step)
            elif is_server_killed:
                nested(chance, step)
            else:
                # Another collection does what the killed one left.
                server.dockreg(*COLLECT)
            step.add(inspect(acknowledged, server.port, basic("admin", server.admin_password)))
            step.acknowledged, acknowledged.count = acknowledged.count, 0
            step.lost += _unverified(server)
            if number == cycles - 1:
                step.failures += _litter(server, acknowledged)
            yield step
        server.stop()


def _unverified(server: RegistryProcess) -> list[str]:
    """Return what is on record and not on the disk, whether or not anything acknowledged needs it yet."""
    command = [str(PROGRAMS / "dockreg"), "--root", str(server.root), "verify"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=clean_environment())
    return [] if done.returncode == 0 else [*done.stdout.splitlines()[:5], done.stderr[-200:]]


def _killed_collection(server: RegistryProcess, points: KillPoints, kill_at: int, step: Step) -> int:
    """Run ``dockreg gc`` until a call; return how many calls it made when it came through."""
    points.arm(kill_at)
    done = subprocess.run(
        [str(PROGRAMS / "dockreg"), "--root", str(server.root), *COLLECT],
        check=False,
        capture_output=True,
        text=True,
        env=clean_environment(points.environment),
    )
    killed_at, count = points.killed_at, points.disarm()
    if killed_at:
        step.counts["killed_collections"] = 1
        step.counts[f"killed at {killed_at}"] = 1
        # A longer one may be needed next time. It begins with a checkpoint of all that the server wrote.
        return count + 400
    if done.returncode != 0:
        step.failures.append(f"gc exited with {done.returncode}: {done.stderr[-300:]}")
    return max(count, 20)
