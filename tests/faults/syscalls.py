"""Death at every single system call that changes the disk: of a push, and of a start."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.faults.campaigns import Scene, in_eras, server_on, timed_start
from tests.faults.figures import Step, Steps
from tests.faults.frame import Work
from tests.faults.inspector import Inspector
from tests.faults.oracle import Promises
from tests.faults.points import KillPoints
from tests.faults.pusher import Pusher, Refused
from tests.integration.server import RegistryProcess, StartError
from tests.integration.sockets import Connection, basic

#: A start is killed so many times in a row, at most.
NESTED = 5


def every_call(cycles: int, seed: int, *, broken: str = "") -> Steps:
    """Kill a server at each call of a push, one after the other, and round again."""
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        points = KillPoints(Path(name))
        stack.callback(points.close)
        server = server_on(Path(name) / "root", broken, **points.environment)
        stack.callback(server.kill)
        server.start()
        push = _Push(server, points, seed)
        push.once(0)
        total = points.disarm()
        for number in range(cycles):
            step = push.killed(1 + number % total)
            step.worst["points"] = total
            step.counts["full_passes"] = float(number % total == total - 1)
            yield step
        server.stop()


class _Push:
    """One push after the other, each with contents of its own."""

    def __init__(self, server: RegistryProcess, points: KillPoints, seed: int) -> None:
        self._server = server
        self._points = points
        self._random = random.Random(seed)
        self._promises = Promises()
        self._authorization = basic("admin", server.admin_password)

    def once(self, kill_at: int) -> bool:
        """Push everything that can be pushed; False when the server died of it."""
        pusher = Pusher(
            port=self._server.port,
            authorization=self._authorization,
            number=0,
            seed=self._random.getrandbits(64),
            promises=self._promises,
        )
        with Connection(self._server.port, self._authorization, timeout_seconds=10) as client:
            client.request("GET", "/v2/")
            self._points.arm(kill_at)
            try:
                pusher.once(client)
            except OSError:
                return False
        return True

    def killed(self, kill_at: int) -> Step:
        """Push, be killed, and look."""
        step = Step()
        try:
            survived = self.once(kill_at)
        except Refused as refused:
            step.failures.append(str(refused))
            survived = True
        if self._points.killed_at:
            step.counts[f"killed at {self._points.killed_at}"] = 1
        self._points.disarm()
        if not survived:
            self._server.kill()
            timed_start(self._server, step)
        inspector = Inspector(
            port=self._server.port,
            authorization=self._authorization,
            promises=self._promises,
            seed=self._random.getrandbits(32),
        )
        step.add(inspector.inspect())
        step.acknowledged, self._promises.acknowledged = self._promises.acknowledged, 0
        return step


class NestedStart:
    """Starts a server whose start is killed again and again before it may succeed."""

    def __init__(self, server: RegistryProcess, points: KillPoints) -> None:
        self._server = server
        self._points = points
        self._calls = 20

    def __call__(self, chance: random.Random, step: Step) -> None:
        """Kill some starts at chosen calls, then let one through and count its calls."""
        for _ in range(chance.randint(1, NESTED)):
            self._points.arm(chance.randint(1, self._calls))
            try:
                self._server.start()
            except StartError:
                step.counts["killed_starts"] = step.counts.get("killed_starts", 0) + 1
            if self._points.killed_at:
                name = f"killed at {self._points.killed_at}"
                step.counts[name] = step.counts.get(name, 0) + 1
            self._server.kill()
        self._points.arm(0)
        timed_start(self._server, step)
        self._calls = max(self._points.disarm(), 5)


@contextmanager
def recovery_scene(*, broken: str = "") -> Iterator[Scene]:
    """Offer a server that is killed, and whose next starts are killed as well."""
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        points = KillPoints(Path(name))
        stack.callback(points.close)
        server = server_on(Path(name) / "root", broken, **points.environment)
        stack.callback(server.kill)
        yield Scene(server, server.kill, lambda: None, start=NestedStart(server, points))


recovery: Work = in_eras(recovery_scene)
broken_recovery: Work = in_eras(partial(recovery_scene, broken="sessions-swept"))
