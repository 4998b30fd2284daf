"""Tests of ``dockreg_tx.access.throttle``."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.throttle import (
    BUCKET_FAILURES,
    DELAY_LIMIT_SECONDS,
    FORGET_SECONDS,
    PATIENCE_FAILURES,
    Throttle,
    network_of,
)
from dockreg_tx.oci.errors import TooManyRequests

HOME = "192.0.2.7"


class ThrottleTests(SynchronousTestCase):
    """Failures, waits and forgiveness."""

    def setUp(self) -> None:
        """Start counting."""
        self.clock = Clock()
        self.throttle = Throttle(self.clock)

    def fail(self, times: int, source: str = HOME, user: str = "alice") -> None:  # type: ignore[override]
        """Fail so often, waiting when told to."""
        for _ in range(times):
            self.clock.advance(self.wait(source, user))
            self.throttle.begin(source, user)

    def wait(self, source: str = HOME, user: str = "alice") -> int:
        """Return how long an attempt has to wait."""
        return self.throttle.wait_seconds(source, user)

    def test_patience(self) -> None:
        """Four failures cost nothing; the fifth has to be waited out."""
        self.fail(PATIENCE_FAILURES - 1)
        self.assertEqual(0, self.wait())
        self.fail(1)
        self.assertEqual(1, self.wait())
        self.clock.advance(1)
        self.assertEqual(0, self.wait())

    def test_doubling(self) -> None:
        """Each further failure doubles the wait, up to 15 minutes; it never becomes a lock."""
        waits = []
        for _ in range(20):
            self.fail(1)
            waits.append(self.wait())
        self.assertEqual([0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900], waits[:15])
        self.assertEqual({DELAY_LIMIT_SECONDS}, set(waits[15:]))

    def test_refused_attempts_do_not_count(self) -> None:
        """Who keeps trying while waiting does not wait longer."""
        self.fail(PATIENCE_FAILURES)
        for _ in range(50):
            self.assertRaises(TooManyRequests, self.throttle.begin, HOME, "alice")
        self.clock.advance(1)
        self.throttle.begin(HOME, "alice")

    def test_success(self) -> None:
        """The right password ends the counting."""
        self.fail(PATIENCE_FAILURES + 3)
        self.clock.advance(self.wait())
        self.throttle.begin(HOME, "alice")
        self.throttle.succeeded(HOME, "alice")
        self.fail(PATIENCE_FAILURES - 1)
        self.assertEqual(0, self.wait())

    def test_others(self) -> None:
        """A user who is guessed at from one network gets in from another, and others from the same one."""
        self.fail(PATIENCE_FAILURES + 5)
        self.assertEqual(0, self.wait("198.51.100.1", "alice"))
        self.assertEqual(0, self.wait(HOME, "bob"))
        self.assertGreater(self.wait("192.0.2.250", "alice"), 0)

    def test_forgetting(self) -> None:
        """An hour later nothing is held against anyone."""
        self.fail(PATIENCE_FAILURES + 5)
        self.clock.advance(FORGET_SECONDS + 1)
        self.fail(PATIENCE_FAILURES - 1)
        self.assertEqual(0, self.wait())

    def test_many_users_from_one_network(self) -> None:
        """Who tries one password on many users runs out of tries, and gets them back slowly."""
        for number in range(BUCKET_FAILURES):
            self.throttle.begin(HOME, f"user{number}")
        error = self.assertRaises(TooManyRequests, self.throttle.begin, HOME, "another")
        self.clock.advance(error.retry_after_seconds)
        self.throttle.begin(HOME, "another")
        self.throttle.begin("198.51.100.1", "another")

    def test_one_user_from_many_networks(self) -> None:
        """Who guesses from many networks is slowed down; where the user logged in before, it still can."""
        self.throttle.begin(HOME, "alice")
        self.throttle.succeeded(HOME, "alice")
        for number in range(BUCKET_FAILURES):
            self.throttle.begin(f"10.0.{number}.1", "alice")
        self.assertRaises(TooManyRequests, self.throttle.begin, "10.1.0.1", "alice")
        self.throttle.begin(HOME, "alice")

    def test_networks(self) -> None:
        """Addresses count by /24 or /56, an IPv4 address in IPv6 form as itself, other texts as they are."""
        for address, network in [
            ("192.0.2.7", "192.0.2.0/24"),
            ("::ffff:192.0.2.9", "192.0.2.0/24"),
            ("2001:db8:1:2ff::1", "2001:db8:1:200::/56"),
            ("fe80::1%eth0", "fe80::/56"),
            ("unix", "unix"),
            ("", ""),
        ]:
            self.assertEqual(network, network_of(address))
