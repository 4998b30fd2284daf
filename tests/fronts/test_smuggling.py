"""No request reaches dockreg through a proxy unless the proxy itself took it for a request."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from tests.fronts.front import HAPROXY, NGINX, missing
from tests.fronts.smuggling import Variant, variants
from tests.fronts.test_fronts import FrontCase

#: Longer than any answer takes; then the client leaves.
SILENCE_SECONDS = 3.0
#: A busy machine may log a request this long after its end; what was smuggled stays unlogged for ever.
LOG_SECONDS = 20.0
#: In each of the registry's answers, and in none of a proxy's own.
_ANSWER = re.compile(rb"(?i)\r\ndocker-distribution-api-version: registry/2.0\r\n")

Requests = Counter[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What three observers saw of one variant."""

    #: Requests in the log of the registry.
    registry: Requests
    #: Requests in the log of the proxy, and those of them that it has an answer of the registry to.
    front: Requests
    answered: Requests
    #: How many answers of the registry came to the client.
    answers: int

    def problems(self, variant: Variant) -> list[str]:
        """Return how they disagree."""
        found = []
        if extra := self.registry - self.front:
            found.append(f"the registry was asked {dict(extra)}, which the proxy did not see as requests")
        if lost := self.answered - self.registry:
            found.append(f"the proxy has answers to {dict(lost)}, which the registry was not asked")
        if self.answers != self.answered.total():
            found.append(f"{self.answers} answers came, the proxy passed on {self.answered.total()}")
        return [f"variant {variant.number}: {text}; sent {variant.data!r}" for text in found]


def named(variant: Variant, requests: list[tuple[str, str]]) -> Requests:
    """Return the requests of a variant."""
    names = (variant.outer, variant.smuggled)
    return Counter(request for request in requests if any(name in request[1] for name in names))


class MatrixCase(FrontCase):
    """Plays the matrix through one proxy."""

    def play(self, variant: Variant) -> int:
        """Send a variant and count the answers of the registry."""
        received = b""
        with self.front.connect() as client:
            client.socket.settimeout(SILENCE_SECONDS)
            try:
                client.socket.sendall(variant.data)
                while data := client.socket.recv(65536):
                    received += data
            except OSError:
                pass
        return len(_ANSWER.findall(received))

    def registry_log(self) -> list[tuple[str, str]]:
        """Return the requests that the registry logged."""
        entries = [json.loads(line) for line in self.server.output if line.startswith("{")]
        return [(entry["method"], entry["uri"]) for entry in entries if "uri" in entry]

    def problems(self) -> list[str]:
        """Play everything, then compare the logs until they agree or have had their time."""
        matrix = variants()
        with ThreadPoolExecutor(32) as pool:
            counts = list(pool.map(self.play, matrix))
        end = time.monotonic() + LOG_SECONDS
        # Agreement counts when it lasts: a request that is logged late must not be missed either.
        time.sleep(1)
        while found := self.compared(matrix, counts):
            if time.monotonic() > end:
                break
            time.sleep(0.5)
        return found

    def compared(self, matrix: list[Variant], counts: list[int]) -> list[str]:
        """Return how the logs of both sides and the answers disagree."""
        registry, front = self.registry_log(), self.front.log()
        found: list[str] = []
        for variant, count in zip(matrix, counts, strict=True):
            seen = Seen(
                registry=named(variant, registry),
                front=named(variant, [line[:2] for line in front]),
                answered=named(variant, [line[:2] for line in front if line[2]]),
                answers=count,
            )
            found += seen.problems(variant)
        self.reached = sum(any(variant.outer in target for _, target in registry) for variant in matrix)
        return found


class NginxSmugglingTests(MatrixCase):
    """Through nginx."""

    kind = NGINX
    skip = missing(NGINX) or None

    def test_matrix(self) -> None:
        """Both sides see the same requests, and every answer belongs to one of them."""
        self.assertEqual([], self.problems())
        # Many variants get as far as the registry: the matrix does not only test the proxy.
        self.assertGreater(self.reached, 50)


class HaproxySmugglingTests(MatrixCase):
    """Through HAProxy."""

    kind = HAPROXY
    skip = missing(HAPROXY) or None

    def test_matrix(self) -> None:
        """Both sides see the same requests, and every answer belongs to one of them."""
        self.assertEqual([], self.problems())
        self.assertGreater(self.reached, 50)


class SeenTests(SynchronousTestCase):
    """The comparison itself."""

    def test_disagreements(self) -> None:
        """A smuggled request, a lost one and a stray answer are each found; agreement is not."""
        variant = variants()[7]
        self.assertGreaterEqual(len(variants()), 200)
        self.assertIn(variant.smuggled.encode(), variant.data)
        outer, smuggled = ("POST", f"/v2/{variant.outer}/x"), ("GET", variant.smuggled)
        one, both = Counter([outer]), Counter([outer, smuggled])
        self.assertEqual([], Seen(one, one, one, 1).problems(variant))
        self.assertEqual([], Seen(both, both, both, 2).problems(variant))
        for seen in (Seen(both, one, one, 1), Seen(one, both, both, 2), Seen(one, one, one, 2)):
            self.assertEqual(1, len(seen.problems(variant)), seen)
