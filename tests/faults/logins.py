"""The campaign of logins: guessers beside pulls, what the time of a wrong password tells, what tokens cost.

Each part measures one thing against a real server, and compares it with its bound.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dockreg_tx.access.passwords import hash_password
from tests.faults.guesser import USERS
from tests.integration.images import Image, image
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import Answer, Connection, basic

MIB = 1024 * 1024
PASSWORD = "right and proper"
#: Not among those that are guessed.
PULLER, REGULAR, NEWCOMER = "puller", "regular", "newcomer"
#: Users that nobody guesses but who measures the time.
CALM = tuple(f"calm{number}" for number in range(5))
#: Of anonymous and of every user, so that only their credentials differ.
GRANT = "pull:logins/**"
HOME, ELSEWHERE = "127.20.0.1", "127.21.0.1"
REPOSITORY = str(Path(__file__).parents[2])
MANIFEST = "/v2/logins/app/manifests/v1"
TOKEN = "/token?scope=repository:logins/app:pull"
CONNECTIONS = 8


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much of each is measured, and what it may come to."""

    guesses_a_second: int = 200
    #: What a machine that does other things at the same time must bring about of them.
    least_guesses_a_second: float = 180.0
    attack_seconds: float = 60.0
    pull_p99_seconds: float = 0.3
    #: What an attack may add to the server's resident size.
    memory_bytes: int = 64 * MIB
    #: A user who logged in from here before, with a new password; then anybody, once the guessing is over.
    regular_seconds: float = 30.0
    afterwards_seconds: float = 30.0
    samples: int = 200
    #: By how much the medians for known and unknown users may differ.
    difference: float = 0.10
    rounds: int = 40
    #: Of the processor's time for a manifest.
    token_share: float = 0.05
    tokens_a_second: float = 500.0


#: What machines that do other things at the same time keep.
SHORT = Bounds(
    least_guesses_a_second=20.0,
    attack_seconds=4.0,
    pull_p99_seconds=2.0,
    samples=8,
    difference=0.5,
    rounds=4,
    token_share=0.25,
    tokens_a_second=100.0,
)


@dataclass
class Outcome:
    """What the campaign found."""

    lines: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def note(self, text: str, *, is_kept: bool = True) -> None:
        """Write a figure down, and whether it keeps its bound."""
        self.lines.append(text if is_kept else f"{text}: MISSED")
        if not is_kept:
            self.missed.append(text)


@dataclass(frozen=True, slots=True)
class Scene:
    """A server with users and one public image."""

    server: RegistryProcess
    content: Image

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def log_in(self, user: str, password: str = PASSWORD, *, source: str, path: str = "/v2/") -> Answer:
        """Try a password over a connection of its own."""
        with Connection(self.port, basic(user, password), source=source) as client:
            return client.request("GET", path)

    def token(self) -> str:
        """Return a fresh token."""
        token: str = json.loads(self.log_in(PULLER, source=HOME, path=TOKEN).body)["token"]
        return token

    def seconds_to_log_in(self, user: str, password: str = PASSWORD, *, source: str, limit: float) -> float:
        """Return how long a user needs who waits as long as told between attempts; infinity above a limit."""
        began = time.monotonic()
        while True:
            answer = self.log_in(user, password, source=source)
            seconds = time.monotonic() - began
            if answer.status == 200:
                return seconds
            if answer.status != 429 or seconds > limit:
                return float("inf")
            time.sleep(int(answer.headers["retry-after"]))

    def processor_seconds(self) -> float:
        """Return the processor's time that the server has used."""
        tasks = Path(f"/proc/{self.server.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def run(outcome: Outcome, bounds: Bounds) -> None:
    """Run every part."""
    with scene() as each:
        guess(each, outcome, bounds)
        time_wrong_passwords(each, outcome, bounds)
    with scene(is_pinned=True) as each:
        cost_of_tokens(each, outcome, bounds)


@contextmanager
def scene(*, is_pinned: bool = False) -> Iterator[Scene]:
    """Offer a started server; pinned, it has one processor, and its clients another one if there is any."""
    processors = sorted(os.sched_getaffinity(0))
    pinned = ["taskset", "-c", str(processors[0])] if is_pinned else []
    with tempfile.TemporaryDirectory(prefix="dockreg-logins-") as name, ExitStack() as stack:
        if is_pinned:
            os.sched_setaffinity(0, processors[1:] or processors)
            stack.callback(os.sched_setaffinity, 0, processors)
        server = RegistryProcess(
            Path(name) / "root",
            command=[*pinned, *TWISTD],
            environment={"DOCKREG_ACCESS_ANONYMOUS_GRANTS": f'["{GRANT}"]'},
        )
        server.start()
        stack.callback(server.kill)
        _add_users(server, Path(name) / "htpasswd")
        content = image("logins", layers=1)
        _push(server, content)
        yield Scene(server, content)
        server.stop()


def _add_users(server: RegistryProcess, path: Path) -> None:
    # One command for all, with one hash: each costs the time of a start of Python.
    hashed = hash_password(PASSWORD)
    path.write_text("".join(f"{user}:{hashed}\n" for user in (PULLER, REGULAR, NEWCOMER, *CALM, *USERS)))
    path.chmod(0o644)
    server.dockreg("import", "htpasswd", str(path), "--grant", GRANT)


def _push(server: RegistryProcess, content: Image) -> None:
    kind = {"Content-Type": content.manifest.media_type}
    octets = {"Content-Type": "application/octet-stream"}
    with Connection(server.port, basic("admin", server.admin_password), source=HOME) as client:
        for blob in content.blobs:
            begin = f"/v2/logins/app/blobs/uploads/?digest={blob.digest}"
            assert client.request("POST", begin, blob.content, octets).status == 201
        assert client.request("PUT", MANIFEST, content.manifest.content, kind).status == 201


# --- Guessing


class Puller:
    """Pulls a manifest and a small blob by turns with one token, 50 times a second, until it is stopped."""

    def __init__(self, each: Scene) -> None:
        self._port = each.port
        self._headers = {
            "Accept": each.content.manifest.media_type,
            "Authorization": f"Bearer {each.token()}",
        }
        self._paths = (MANIFEST, f"/v2/logins/app/blobs/{each.content.blobs[-1].digest}")
        self._is_over = threading.Event()
        self.seconds: list[float] = []
        self.failed: list[int] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with Connection(self._port, source=HOME) as client:
            while not self._is_over.wait(0.02):
                began = time.monotonic()
                answer = client.request("GET", self._paths[len(self.seconds) % 2], headers=self._headers)
                self.seconds.append(time.monotonic() - began)
                if answer.status != 200:
                    self.failed.append(answer.status)

    def stop(self) -> None:
        """End the pulls."""
        self._is_over.set()
        self._thread.join()

    def p99_seconds(self) -> float:
        """Return what 99 of 100 pulls kept."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] if self.seconds else float("inf")


def guess(each: Scene, outcome: Outcome, bounds: Bounds) -> None:
    """Measure pulls, memory and right logins while somebody guesses, and logins afterwards."""
    server, seconds = each.server, bounds.attack_seconds
    assert each.log_in(REGULAR, source=HOME).status == 200
    server.forget_peak_memory()
    before_bytes = server.memory_bytes()
    command = [sys.executable, "-m", "tests.faults.guesser", str(server.port), str(bounds.guesses_a_second)]
    guesser = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    puller = Puller(each)
    try:
        time.sleep(seconds / 3)
        remembered = each.log_in(REGULAR, source=HOME).status
        server.dockreg("user", "passwd", REGULAR, "--password-stdin", text="a new one\n")
        regular = each.seconds_to_log_in(REGULAR, "a new one", source=HOME, limit=bounds.regular_seconds)
        newcomer = each.seconds_to_log_in(NEWCOMER, source=ELSEWHERE, limit=seconds / 3)
        printed, _ = guesser.communicate(timeout=seconds + 60)
    finally:
        puller.stop()
        guesser.kill()
        guesser.wait()
    _note_guesses(json.loads(printed), outcome, bounds)
    p99 = puller.p99_seconds()
    outcome.note(
        f"{len(puller.seconds)} pulls beside them, {len(puller.failed)} refused: "
        f"p50 {statistics.median(puller.seconds) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, "
        f"slowest {max(puller.seconds) * 1000:.0f} ms",
        is_kept=p99 < bounds.pull_p99_seconds and not puller.failed,
    )
    growth_bytes = server.peak_memory_bytes() - before_bytes
    outcome.note(
        f"memory: {before_bytes / MIB:.0f} MiB before, at most {growth_bytes / MIB:.1f} MiB more",
        is_kept=growth_bytes < bounds.memory_bytes,
    )
    outcome.note(f"a remembered password meanwhile: {remembered}", is_kept=remembered == 200)
    outcome.note(
        f"a new password from a known network meanwhile: after {regular:.1f} s",
        is_kept=regular < bounds.regular_seconds,
    )
    outcome.note(f"a user's first login from a new network meanwhile: after {newcomer:.1f} s")
    _log_in_afterwards(each, outcome, bounds)


def _note_guesses(found: dict[str, object], outcome: Outcome, bounds: Bounds) -> None:
    statuses = found["statuses"]
    assert isinstance(statuses, dict)
    rate = float(str(found["rate"]))
    outcome.note(
        f"{sum(statuses.values())} wrong logins, {rate:.0f} a second: {statuses}, "
        f"told to wait {found['longest_wait_seconds']} s at most",
        is_kept=rate > bounds.least_guesses_a_second and set(statuses) <= {"401", "429"},
    )


def _log_in_afterwards(each: Scene, outcome: Outcome, bounds: Bounds) -> None:
    limit = bounds.afterwards_seconds
    waits = [each.seconds_to_log_in(user, source=ELSEWHERE, limit=limit) for user in (NEWCOMER, *USERS)]
    outcome.note(f"logins afterwards: {max(waits):.1f} s at most", is_kept=max(waits) < limit)


# --- The time of a wrong password


def time_wrong_passwords(each: Scene, outcome: Outcome, bounds: Bounds) -> None:
    """Compare wrong passwords of users there are with those of users there are not.

    By turns, each from a network of its own and none for a user too often, so that nothing is slowed down.
    """
    known: list[float] = []
    unknown: list[float] = []
    each.log_in("ghost", "warm", source="127.30.0.1")
    for number in range(bounds.samples):
        turns = [(known, CALM[number % len(CALM)]), (unknown, f"calm-ghost{number}")]
        for turn, (times, user) in enumerate(turns if number % 2 else turns[::-1]):
            source = f"127.{40 + number // 100 * 2 + turn}.{number % 100}.1"
            began = time.perf_counter()
            answer = each.log_in(user, f"wrong {number}", source=source)
            times.append(time.perf_counter() - began)
            assert answer.status == 401, answer.status
    medians = statistics.median(known), statistics.median(unknown)
    difference = abs(medians[0] - medians[1]) / min(medians)
    outcome.note(
        f"a wrong password, {bounds.samples} each: known user {medians[0] * 1000:.1f} ms, unknown user "
        f"{medians[1] * 1000:.1f} ms, {difference:.1%} apart",
        is_kept=difference < bounds.difference,
    )


# --- What tokens cost

#: Makes each request another one.
_NUMBERS = itertools.count(1_000_000)


def cost_of_tokens(each: Scene, outcome: Outcome, bounds: Bounds) -> None:
    """Compare manifests with and without a token, and count how fast tokens are given.

    Rounds by turns, of requests of one length, over eight connections that always have a request waiting, so
    that the server never sleeps. What counts is the server's own processor time, not the clock.
    """
    accept = {"Accept": each.content.manifest.media_type}
    bearer = f"Bearer {each.token()}"
    with_token = {**accept, "Authorization": bearer}
    # As many bytes to read, and nothing to check.
    without = {**accept, "X-Unrelated-It": bearer}
    password = {"Authorization": basic(PULLER, PASSWORD)}
    for kind in ("each request another", "the same again and again"):
        path = MANIFEST + ("?request={}" if kind.startswith("each") else "")
        bare: list[float] = []
        checked: list[float] = []
        for number in range(bounds.rounds):
            turns = [(bare, without), (checked, with_token)]
            for costs, headers in turns if number % 2 else turns[::-1]:
                costs.append(_round(each, path, headers, 200)[1])
        pair = statistics.median(bare), statistics.median(checked)
        share = statistics.median((b - a) / b for a, b in zip(bare, checked, strict=True))
        outcome.note(
            f"a manifest, {kind}: {pair[0] * 1e6:.0f} us of the processor as anonymous, "
            f"{pair[1] * 1e6:.0f} us with a token; the token's share {share:.1%} (median of {bounds.rounds} "
            "pairs of rounds)",
            is_kept=share <= bounds.token_share,
        )
    rounds = [_round(each, TOKEN, password, 200) for _ in range(max(5, bounds.rounds // 4))]
    rate, cost = 1 / min(wall for wall, _ in rounds), statistics.median(cost for _, cost in rounds)
    median_rate = 1 / statistics.median(wall for wall, _ in rounds)
    outcome.note(
        f"tokens, password remembered, one processor: {rate:.0f} a second in the best round, "
        f"{median_rate:.0f} in the median one, {cost * 1e6:.0f} us of the processor each",
        is_kept=rate >= bounds.tokens_a_second,
    )


def _round(each: Scene, path: str, headers: dict[str, str], count: int) -> tuple[float, float]:
    """Return the seconds of the clock and of the server's processor for each of so many requests."""
    clients = [Connection(each.port, source=HOME) for _ in range(CONNECTIONS)]
    try:
        for client in clients:
            assert client.request("GET", path.format(next(_NUMBERS)), headers=headers).status == 200
        processor, began = each.processor_seconds(), time.perf_counter()
        for number in range(count + CONNECTIONS):
            client = clients[number % CONNECTIONS]
            if number >= CONNECTIONS:
                client.answer()
            if number < count:
                client.send_head("GET", path.format(next(_NUMBERS)), headers)
        seconds = time.perf_counter() - began
        return seconds / count, (each.processor_seconds() - processor) / count
    finally:
        for client in clients:
            client.close()
