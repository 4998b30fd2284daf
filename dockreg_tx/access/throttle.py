"""Slows down who guesses passwords, without ever locking anyone out for good.

Failures count for each user from each network: from the fifth on every one doubles the wait, up to 15
minutes. Buckets for each network and each user slow down who spreads guesses over many users or networks.
The counters belong to one process and are advisory.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

from dockreg_tx.oci.errors import TooManyRequests

#: The first failure that has to be waited out.
PATIENCE_FAILURES = 5
DELAY_LIMIT_SECONDS = 15 * 60
#: Without another failure for so long, all is forgotten.
FORGET_SECONDS = 60 * 60
#: Failures that one network, or one user from anywhere, has at once, and how fast they come back.
BUCKET_FAILURES = 100
REFILL_SECONDS = 3.0
#: Most networks and users that are watched; who was quiet longest is forgotten first.
TABLE_LIMIT_ENTRIES = 10_000

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last_at: float = 0.0
    blocked_until: float = 0.0


@dataclass(slots=True)
class _Bucket:
    spent: float = 0.0
    seen_at: float = 0.0


class Throttle:
    """Counts failed logins of one process."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._pairs: _Table[tuple[str, str], _Failures] = _Table()
        self._buckets: _Table[tuple[str, str], _Bucket] = _Table()
        self._welcome: _Table[tuple[str, str], bool] = _Table()

    def begin(self, source: str, user: str) -> None:
        """Let an attempt pass, counted as a failure until it has succeeded: many at once gain nothing.

        Args:
            source: the client's address, or any text where it has none.
            user: the name it gave.

        Raises:
            TooManyRequests: it has to wait.
        """
        wait_seconds = self.wait_seconds(source, user)
        if wait_seconds > 0:
            raise TooManyRequests("too many failed logins: wait before the next one", wait_seconds)
        now, pair = self._clock.seconds(), (network_of(source), user)
        failures = self._failures(pair, now)
        failures.count += 1
        failures.last_at = now
        if failures.count >= PATIENCE_FAILURES:
            delay = min(2.0 ** min(failures.count - PATIENCE_FAILURES, 30), DELAY_LIMIT_SECONDS)
            failures.blocked_until = now + delay
        self._pairs.put(pair, failures)
        for key in self._buckets_of(pair):
            self._buckets.put(key, _Bucket(self._spent(key, now) + 1, now))

    def wait_seconds(self, source: str, user: str) -> int:
        """Return how long an attempt would have to wait, 0 for not at all."""
        now, pair = self._clock.seconds(), (network_of(source), user)
        blocked_until = self._failures(pair, now).blocked_until
        waits = [blocked_until - now, *(self._wait(key, now) for key in self._buckets_of(pair))]
        return math.ceil(max(*waits, 0))

    def succeeded(self, source: str, user: str) -> None:
        """Forgive the failures of a user from one network."""
        network = network_of(source)
        self._pairs.drop((network, user))
        self._buckets.drop(("user", user))
        bucket = self._buckets.get(("network", network))
        if bucket is not None:
            bucket.spent = max(bucket.spent - 1, 0.0)
        self._welcome.put((network, user), True)

    def knows(self, source: str, user: str) -> bool:
        """Tell whether a user logged in from a network before."""
        return (network_of(source), user) in self._welcome

    def _failures(self, pair: tuple[str, str], now: float) -> _Failures:
        failures = self._pairs.get(pair)
        return _Failures() if failures is None or now - failures.last_at > FORGET_SECONDS else failures

    def _buckets_of(self, pair: tuple[str, str]) -> list[tuple[str, str]]:
        network, user = pair
        # A stranger's guesses elsewhere do not slow down who logged in from here before.
        return [("network", network)] if pair in self._welcome else [("network", network), ("user", user)]

    def _spent(self, key: tuple[str, str], now: float) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        return max(bucket.spent - (now - bucket.seen_at) / REFILL_SECONDS, 0.0)

    def _wait(self, key: tuple[str, str], now: float) -> float:
        return max(self._spent(key, now) - BUCKET_FAILURES + 1, 0.0) * REFILL_SECONDS


def network_of(address: str) -> str:
    """Return the network that an address counts for: its /24, or /56 in IPv6; other texts as they are."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    prefix = 24 if parsed.version == 4 else 56
    return str(ipaddress.ip_network((parsed, prefix), strict=False))


class _Table(Generic[K, V]):
    """A mapping that forgets who was touched longest ago, when it is full."""

    def __init__(self) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > TABLE_LIMIT_ENTRIES:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)
