"""Somebody who guesses passwords: ``python -m tests.faults.guesser PORT RATE SECONDS``.

Half of the guesses are for users there are, half come from one address and half from networks all over
127.0.0.0/8, half go to ``/v2/`` and half to ``/token``. It prints what came of them as JSON.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from collections import Counter

from tests.integration.sockets import Connection, basic

#: More than wait for bcrypt at most, so that the others go on.
THREADS = 96
USERS = tuple(f"user{number}" for number in range(10))
#: Where half of the guesses come from.
ONE_ADDRESS = "127.66.6.6"


class Guesser:
    """Sends guesses at a steady rate.

    Args:
        port: of the registry.
        rate: guesses a second.
        seconds: how long.
        seed: which guesses.
    """

    def __init__(self, port: int, rate: int, seconds: float, seed: int = 0) -> None:
        self._port = port
        self._rate = rate
        self._count = int(rate * seconds)
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self.longest_wait_seconds = 0
        #: From the first guess to the last one that was sent; answers may take longer.
        self.seconds = 0.0

    def run(self) -> None:
        """Send all guesses."""
        self._began = time.monotonic()
        threads = [threading.Thread(target=self._work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                number = next(self._numbers)
                guess = self._guess(number)
            if number >= self._count:
                return
            time.sleep(max(0.0, self._began + number / self._rate - time.monotonic()))
            self.seconds = max(self.seconds, time.monotonic() - self._began)
            self._send(*guess)

    def _guess(self, number: int) -> tuple[str, str, str]:
        """Return where a guess comes from, its credentials, and its path."""
        chance = self._chance
        user = chance.choice(USERS) if chance.random() < 0.5 else f"ghost{number}"
        source = (
            ONE_ADDRESS if chance.random() < 0.5 else f"127.{chance.randrange(100, 250)}.{number % 256}.1"
        )
        path = "/v2/" if chance.random() < 0.5 else "/token?scope=repository:logins/app:pull"
        return source, basic(user, f"guess {number}"), path

    def _send(self, source: str, authorization: str, path: str) -> None:
        try:
            with Connection(self._port, authorization, source=source, timeout_seconds=30.0) as client:
                answer = client.request("GET", path)
        except OSError as error:
            outcome, wait_seconds = type(error).__name__, 0
        else:
            outcome, wait_seconds = str(answer.status), int(answer.headers.get("retry-after", 0))
        with self._lock:
            self.statuses[outcome] += 1
            self.longest_wait_seconds = max(self.longest_wait_seconds, wait_seconds)


def main() -> None:
    """Guess, and say what came of it."""
    guesser = Guesser(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    guesser.run()
    document = {
        "statuses": dict(guesser.statuses),
        "rate": sum(guesser.statuses.values()) / guesser.seconds,
        "longest_wait_seconds": guesser.longest_wait_seconds,
    }
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
